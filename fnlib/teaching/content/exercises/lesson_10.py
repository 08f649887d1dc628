"""Lesson 10, "Can you go back to the step where it broke?": its exercises."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from fnlib import History, Parameters
from fnlib.teaching.exercises import Exercise, Mistake, Unreadable, in_words, names_in

Checkpoint = Callable[[Any, Any, Any], Any]
GoBack = Callable[[History, Callable[[Parameters], bool], str, Any], Any]

# --- 10-checkpoint: all that a stock run depends on ------------------------------------------------

_KEYS = ("network", "optimizer", "scheduler", "generator")


def _fresh(seed: int) -> tuple[Any, Any, Any]:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    return network, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.1)


def _train(network: Any, optimizer: Any, scheduler: Any, steps: range) -> None:
    for i in steps:
        optimizer.zero_grad()
        network(torch.full((16, 4), 1.0 + i)).square().mean().backward()
        optimizer.step()
        scheduler.step()


def _resume(checkpoint: Checkpoint) -> Any:
    """Let a run write a checkpoint and go on; resume it from the file, and compare."""
    with torch.random.fork_rng():
        run = _fresh(seed=0)
        _train(*run, range(6))
        generator = torch.get_rng_state()
        saved = checkpoint(*run)
        if saved is None or saved is ...:
            if "save" in names_in(checkpoint):
                raise Unreadable("The check writes the file. Return what belongs in it.")
            return None
        if not isinstance(saved, Mapping):
            raise Unreadable(f"Return a dictionary; you returned {in_words(saved)}.")
        loaded = {key: part for key in saved if (part := _through_a_file(saved[key])) is not None}
        torch.set_rng_state(generator)  # whatever the answer drew
        _train(*run, range(6, 12))
        return _compared(saved, loaded, run)


def _through_a_file(part: Any) -> Any:
    """Save a part and load it; None if a file can't hold it."""
    file = io.BytesIO()
    try:
        torch.save(part, file)
        file.seek(0)
        return torch.load(file)
    except Exception:  # the learner's object: it can fail in any way
        return None


def _compared(saved: Any, loaded: dict[Any, Any], run: tuple[Any, Any, Any]) -> Any:
    other = _fresh(seed=1)
    objects = [key for key in saved if hasattr(saved[key], "state_dict")]
    wrong = []
    for key, part in zip(_KEYS, other, strict=False):
        try:
            part.load_state_dict(loaded[key])
        except Exception:  # whatever it is, this part can't be loaded
            wrong.append(key)
    state = loaded.get("generator")
    try:
        torch.set_rng_state(state)  # type: ignore[arg-type]
    except Exception:  # it's no state of a generator
        wrong.append("generator")
    if "network" not in wrong:
        _train(*other, range(6, 12))
    same = all(map(torch.equal, other[0].parameters(), run[0].parameters()))
    return SimpleNamespace(given=saved, objects=objects, wrong=wrong, same=same and not wrong)


def _lacks(key: str) -> Callable[[Any], bool]:
    return lambda seen: key in seen.wrong and key not in seen.given


def _spoils(key: str) -> Callable[[Any], bool]:
    return lambda seen: key in seen.wrong and key in seen.given


def _keys_so_far(seen: Any) -> str:
    names = " and ".join(f"`{key}`" for key in seen.wrong)
    return f"`load_state_dict` can't take what you saved as {names}. Each of the three objects has a method that returns what it takes."


def _whole(network: Any, optimizer: Any, scheduler: Any) -> dict[str, Any]:
    return {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "generator": torch.get_rng_state(),
    }


def _but(**changes: Any) -> Checkpoint:
    """The whole checkpoint with some parts changed, or left out where they are None."""

    def checkpoint(*run: Any) -> dict[str, Any]:
        parts = _whole(*run) | {
            key: change(*run) if callable(change) else change for key, change in changes.items()
        }
        return {key: part for key, part in parts.items() if part is not None}

    return checkpoint


# --- 10-go-back: branch from the last sound state --------------------------------------------------

_BROKEN, _STATES = 5, 9


def _add(parameters: Parameters, number: float) -> Parameters:
    return parameters.replace(weights={"bias": parameters["bias"] + number})


def _broken_step(parameters: Parameters, i: int) -> Parameters:
    return _add(parameters, 1e9 if i == _BROKEN else 1.0)


def _new_step(parameters: Parameters, i: int) -> Parameters:
    return _add(parameters, 0.5 + i)


def _sound(parameters: Parameters) -> bool:
    return bool(parameters["bias"].abs().max() < 100)


def _try_go_back(go_back: GoBack) -> Any:
    """Let the answer go back in a run whose step 5 did the harm."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        History(f"{folder}/run", step=_broken_step) as history,
    ):
        history.append(Parameters.from_module(nn.Linear(1, 1)))
        for i in range(_STATES - 1):
            history.append(_broken_step(history[-1], i))
        before = list(history)
        given = go_back(history, _sound, f"{folder}/branch", _new_step)
        if given is None or given is ...:
            return None
        if not isinstance(given, History):
            raise Unreadable(f"Return the branch; you returned {in_words(given)}.")
        states = list(given)
        given.close()
        wanted = before[: _BROKEN + 1]
        while len(wanted) < _STATES:
            wanted.append(_new_step(wanted[-1], len(wanted) - 1))
        shared = sum(a == b for a, b in zip(states, before, strict=False))
        return SimpleNamespace(
            given=given,
            same=states == wanted,
            itself=given is history,
            intact=list(history) == before,
            length=len(states),
            shared=shared,
            sound=all(map(_sound, states)),
        )


def _far(seen: Any) -> str:
    return f"The branch has {seen.length} states and shares {seen.shared} with the run; we wanted {_STATES} and {_BROKEN + 1}."


def _going_back(
    start: Callable[[Any], int] = lambda first: first - 1,
    index: Callable[[int], int] = lambda i: i,
    steps: Callable[[int, int], int] = lambda start, length: length - 1 - start,
    step: Any = None,
) -> GoBack:
    """The way back with one thing changed."""

    def go_back(history: Any, sound: Any, path: str, new: Any) -> Any:
        last = start(history.bisect(sound))
        branch = history.branch(last, path, step=new)
        for i in range(last, last + steps(last, len(history))):
            branch.append((step or new)(branch[-1], index(i)))
        return branch

    return go_back


def _in_the_run(history: Any, sound: Any, path: str, step: Any) -> Any:
    for i in range(history.bisect(sound) - 1, len(history) - 1):
        history.append(step(history[-1], i))
    return history


EXERCISES = (
    Exercise(
        key="10-checkpoint",
        objective="Given a stock run, the learner saves all that it depends on, so that the resumed run has the same bits.",
        expects="a dictionary with four keys",
        try_out=_resume,
        passes=lambda seen: seen.same,
        so_far=_keys_so_far,
        because="The resumed run took the same steps, bit for bit, dropout included.",
        hints=(
            "Four parts. Three of them have the same method.",
            "The random numbers come from the global generator, which has no `state_dict()`.",
            "`torch.get_rng_state()` says where the generator is now.",
        ),
        right=(
            lambda: _whole,
            lambda: _but(step=6),
            lambda: _but(generator=lambda *run: torch.random.get_rng_state()),
        ),
        mistakes=(
            Mistake(
                matches=lambda seen: bool(seen.objects),
                says="All the parts are named, but some are the objects themselves, and a file can't be loaded without their code. Ask each for its `state_dict()`.",
                examples=(
                    lambda: _but(network=lambda n, o, s: n),
                    lambda: _but(optimizer=lambda n, o, s: o),
                    lambda: lambda n, o, s: {"network": n, "optimizer": o, "scheduler": s},
                ),
            ),
            Mistake(
                matches=_lacks("network"),
                says="There are no weights under the key `network`. Print the keys that you return.",
                examples=(
                    lambda: lambda n, o, s: n.state_dict(),
                    lambda: _but(network=None),
                ),
            ),
            Mistake(
                matches=_lacks("optimizer"),
                slug="weights-are-everything",
                says="The weights come back. The first step after them is another one, though: compare `optimizer.state_dict()` of a new Adam with that of this one.",
                examples=(
                    lambda: lambda n, o, s: {"network": n.state_dict()},
                    lambda: _but(optimizer=None),
                ),
            ),
            Mistake(
                matches=_lacks("scheduler"),
                slug="weights-are-everything",
                says="Weights and moments come back. But a new scheduler counts from zero: print `scheduler.last_epoch`.",
                examples=(lambda: _but(scheduler=None),),
            ),
            Mistake(
                matches=_lacks("generator"),
                slug="weights-are-everything",
                says="All three objects come back. Then dropout drops other units: run `network(torch.ones(1, 4))` twice. Where do its random numbers come from?",
                examples=(lambda: _but(generator=None),),
            ),
            Mistake(
                matches=_spoils("generator"),
                slug="seed-is-position",
                says="The three objects are right. What you saved for the generator doesn't say how far it has come: draw a number and see whether it changes.",
                examples=(
                    lambda: _but(generator=lambda *run: torch.initial_seed()),
                    lambda: _but(generator=0),
                ),
            ),
            Mistake(
                matches=lambda seen: not seen.wrong and not seen.same,
                says="All four parts can be loaded, but the resumed run takes other steps. Does `checkpoint` itself set a seed or take a step?",
                examples=(lambda: _but(generator=lambda *run: torch.manual_seed(0).get_state()),),
            ),
        ),
    ),
    Exercise(
        key="10-go-back",
        objective="Given a run that broke, the learner branches from the last sound state and takes the steps again.",
        expects="the branch, a history",
        try_out=_try_go_back,
        passes=lambda seen: seen.same and seen.intact,
        so_far=_far,
        because="The branch has the sound states and new ones after them, and the broken run is as it was.",
        hints=(
            "`history.bisect(sound)` is the first state that's broken. Which one do you start from?",
            "`history.branch(index, path, step=step)` has the states up to `index`. Then you append.",
            "State `i + 1` is `step(branch[-1], i)`. With which `i` does the branch go on?",
        ),
        right=(
            lambda: _going_back(),
            lambda: _going_back(index=lambda i: int(i)),
        ),
        mistakes=(
            Mistake(
                matches=lambda seen: seen.itself or not seen.intact,
                slug="result-not-needed",
                says="These steps went into the broken run itself. Call `history.branch(...)`, and append to what it returns.",
                examples=(
                    lambda: _in_the_run,
                    lambda: lambda history, sound, path, step: history,
                ),
            ),
            Mistake(
                matches=lambda seen: not seen.sound,
                slug="nan-marks-the-cause",
                says="The branch holds a state that isn't sound. Print the index you branch from, and `sound` of that state.",
                examples=(
                    lambda: _going_back(start=lambda first: first),
                    lambda: _going_back(start=lambda first: first + 1),
                ),
            ),
            Mistake(
                matches=lambda seen: seen.length != _STATES,
                says=f"You branched off, but then took another number of steps: the run has {_STATES} states. Print `len(branch)` at the end.",
                examples=(
                    lambda: _going_back(steps=lambda start, length: 0),
                    lambda: _going_back(steps=lambda start, length: 1),
                    lambda: _going_back(steps=lambda start, length: length - start),
                ),
            ),
            Mistake(
                matches=lambda seen: seen.shared < _BROKEN + 1,
                says="You went back further than you had to: some sound states were taken anew. Which index does `bisect` find, and which one do you branch from?",
                examples=(
                    lambda: _going_back(start=lambda first: first - 2),
                    lambda: _going_back(start=lambda first: 0),
                ),
            ),
            Mistake(
                matches=lambda seen: seen.shared == _BROKEN + 1 and not seen.same,
                says="You branched from the right state. The steps after it differ from ours: print each `i` that you pass to `step`, and where the parameters come from.",
                examples=(
                    lambda: _going_back(index=lambda i: i + 1),
                    lambda: _going_back(index=lambda i: i - _BROKEN),
                ),
            ),
        ),
    ),
)
