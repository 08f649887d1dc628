"""Lesson 13, "Do two machines hold the same network?": its exercises."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from fnlib import SGD, Gradient, Parameters, Sequential
from fnlib.teaching.exercises import Exercise, Mistake, Unreadable, in_words

AllReduce = Callable[[Any], Gradient]
Step = Callable[[Any, Tensor, AllReduce], Any]
Replicas = Sequence[Mapping[str, Tensor]]
Differing = Callable[[Replicas], Any]

# --- 13-clip: one step on two ranks -----------------------------------------------------------------


class _Alone(Exception):
    """A rank waits in `all_reduce`, and the other one has ended."""


class _Group:
    """Two ranks in two threads."""

    def __init__(self) -> None:
        self.calls = [0, 0]
        self._given: dict[tuple[int, int], Gradient] = {}
        self._ended: set[int] = set()
        self._turn = threading.Condition()

    def all_reduce(self, rank: int, gradient: Any) -> Gradient:
        if not isinstance(gradient, Gradient):
            got = gradient.detach() if isinstance(gradient, Tensor) else gradient
            raise Unreadable(f"`all_reduce` averages a gradient here; it got {in_words(got)}.")
        with self._turn:
            call = self.calls[rank]
            self.calls[rank] += 1
            self._given[rank, call] = gradient
            self._turn.notify_all()
            other = (1 - rank, call)
            self._turn.wait_for(lambda: other in self._given or 1 - rank in self._ended, 30)
            if other not in self._given:
                raise _Alone
            return (self._given[0, call] + self._given[1, call]) / 2

    def end(self, rank: int) -> None:
        with self._turn:
            self._ended.add(rank)
            self._turn.notify_all()


def _on_two_ranks(step: Step) -> Any:
    """Take one step with a long average, and one with a short one."""
    seen = SimpleNamespace(given=step)
    for case, scales in (("long", (6.0, 0.2)), ("short", (0.3, 0.2))):
        made = _taken(step, scales)
        if made is None:
            return None
        setattr(seen, case, made)
    return seen


def _taken(step: Step, scales: tuple[float, float]) -> Any:
    factory = Sequential(nn.Linear(3, 2), optimizer=SGD(lr=0.5))
    start = factory(Parameters(seed=0))
    features = [
        scale * torch.tensor([[1.0, 2.0 - rank, -1.0]]) for rank, scale in enumerate(scales)
    ]

    def loss(model: Any, rank: int) -> Tensor:
        return model(features[rank]).square().sum()

    group, results, problems = _Group(), [None, None], dict[int, Exception]()

    def run(rank: int) -> None:
        try:
            model = factory(start.parameters)
            results[rank] = step(
                model, loss(model, rank), lambda gradient: group.all_reduce(rank, gradient)
            )
        except Exception as problem:  # the learner's code: it is raised again below
            problems[rank] = problem
        finally:
            group.end(rank)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    waited = any(isinstance(problem, _Alone) for problem in problems.values())
    for problem in problems.values():
        if not isinstance(problem, _Alone):
            raise problem
    if not waited and (results[0] is None or results[0] is ...):
        return None
    for given in results:
        if not waited and not isinstance(given, Parameters):
            raise Unreadable(
                f"Return the next parameters, which `model.step` makes; you returned {in_words(given)}."
            )
    models = [factory(start.parameters) for _ in range(2)]
    own = [model.backward(loss(model, rank)) for rank, model in enumerate(models)]
    mean = (own[0] + own[1]) / 2
    return SimpleNamespace(
        waited=waited,
        calls=group.calls,
        results=results,
        alike=not waited and results[0] == results[1],
        start=start.parameters,
        wanted=start.step(mean.clip_norm(1.0)),
        unclipped=start.step(mean),
        clipped_first=start.step((own[0].clip_norm(1.0) + own[1].clip_norm(1.0)) / 2),
        own=[start.step(gradient) for gradient in own],
        own_clipped=[start.step(gradient.clip_norm(1.0)) for gradient in own],
    )


def _close(a: Any, b: Any) -> bool:
    return all(torch.allclose(a[name], b[name], rtol=1e-4, atol=1e-6) for name in b)


def _all_close(case: Any, wanted: Any) -> bool:
    return case.alike and _close(case.results[0], wanted)


def _by_itself(case: Any) -> bool:
    """Say whether each rank stepped along its own gradient."""
    return any(all(map(_close, case.results, way)) for way in (case.own, case.own_clipped))


def _stretch(case: Any) -> float:
    """How much longer than the wanted step the step is."""
    lengths = [
        torch.cat([(case.start[name] - end[name]).flatten() for name in case.start]).norm()
        for end in (case.results[0], case.wanted)
    ]
    return float(lengths[0] / lengths[1])


def _how_far(seen: Any) -> str:
    name, case = (
        ("long", seen.long)
        if not _all_close(seen.long, seen.long.wanted)
        else ("short", seen.short)
    )
    return (
        f"Both ranks return the same. Where the average gradient is {name}, the step is "
        f"{_stretch(case):.2f} times as long as we wanted."
    )


def _result_ignored(model: Any, loss: Tensor, all_reduce: AllReduce) -> Any:
    gradient = model.backward(loss)
    all_reduce(gradient)
    return model.step(gradient.clip_norm(1.0))


def _clip_ignored(model: Any, loss: Tensor, all_reduce: AllReduce) -> Any:
    gradient = all_reduce(model.backward(loss))
    gradient.clip_norm(1.0)
    return model.step(gradient)


def _if_the_loss_is_high(model: Any, loss: Tensor, all_reduce: AllReduce) -> Any:
    gradient = all_reduce(model.backward(loss))
    if loss > 1:
        gradient = gradient.clip_norm(1.0)
    return model.step(gradient)


def _averaged_with_its_own(model: Any, loss: Tensor, all_reduce: AllReduce) -> Any:
    gradient = model.backward(loss)
    return model.step((all_reduce(gradient) + gradient) / 2)


def _always_of_norm_1(model: Any, loss: Tensor, all_reduce: AllReduce) -> Any:
    gradient = all_reduce(model.backward(loss))
    return model.step(gradient / gradient.norm())


# --- 13-differ: which names aren't the same ---------------------------------------------------------


def _state(**changes: Tensor) -> dict[str, Tensor]:
    state = {
        "0.weight": torch.arange(6.0).reshape(2, 3) / 7,
        "0.bias": torch.tensor([0.5, -0.25]),
        "1.running_mean": torch.tensor([0.1, 0.2]),
        "1.num_batches_tracked": torch.tensor(30),
    }
    return state | {name.replace("_of_", "."): tensor for name, tensor in changes.items()}


_TINY = torch.nextafter(torch.tensor([0.5, -0.25]), torch.tensor(9.0))
_CASES: dict[str, tuple[list[dict[str, Tensor]], list[str]]] = {
    "same": ([_state() for _ in range(3)], []),
    "weight": ([_state(), _state(**{"0_of_weight": torch.ones(2, 3)}), _state()], ["0.weight"]),
    "last rank": ([_state(), _state(), _state(**{"0_of_bias": torch.ones(2)})], ["0.bias"]),
    "last bit": ([_state(), _state(**{"0_of_bias": _TINY}), _state()], ["0.bias"]),
    "order": (
        [_state(), _state(**{"0_of_bias": torch.tensor([-0.25, 0.5])}), _state()],
        ["0.bias"],
    ),
    "buffers": (
        [
            _state(),
            _state(**{"1_of_running_mean": torch.ones(2)}),
            _state(**{"1_of_num_batches_tracked": torch.tensor(31)}),
        ],
        ["1.num_batches_tracked", "1.running_mean"],
    ),
}


def _try_differing(differing: Differing) -> Any:
    found: dict[str, list[str]] = {}
    for case, (replicas, _) in _CASES.items():
        given = differing([dict(replica) for replica in replicas])
        if given is None or given is ...:
            return None
        if isinstance(given, (str, bytes)) or not isinstance(given, (list, tuple, set, dict)):
            raise Unreadable(f"Return a list of names; you returned {in_words(given)}.")
        if not all(isinstance(name, str) for name in given):
            raise Unreadable("Return a list of names: each entry is a key of the `state_dict`.")
        found[case] = sorted(set(given))
    wrong = [case for case, (_, wanted) in _CASES.items() if found[case] != wanted]
    return SimpleNamespace(given=differing, found=found, wrong=wrong)


def _only(*cases: str) -> Callable[[Any], bool]:
    return lambda seen: (
        bool(seen.wrong) and set(seen.wrong) <= set(cases) and cases[0] in seen.wrong
    )


def _what_was_found(seen: Any) -> str:
    case = seen.wrong[0]
    wanted = ", ".join(_CASES[case][1]) or "nothing"
    return f"{len(_CASES) - len(seen.wrong)} of {len(_CASES)} cases. In one, {wanted} differs, and you found {', '.join(seen.found[case]) or 'nothing'}."


def _comparing(
    same: Callable[[Tensor, Tensor], bool] = torch.equal,
    others: Callable[[Any], Any] = lambda replicas: replicas[1:],
    names: Callable[[Any], Any] = list,
    keep: Callable[[list[str]], Any] = list,
) -> Differing:
    """A right answer with one part changed."""

    def differing(replicas: Any) -> Any:
        first = replicas[0]
        return keep(
            [
                name
                for name in names(first)
                if not all(same(first[name], other[name]) for other in others(replicas))
            ]
        )

    return differing


def _the_same(replicas: Any) -> list[str]:
    differ = _comparing()(replicas)
    return [name for name in replicas[0] if name not in differ]


EXERCISES = (
    Exercise(
        key="13-clip",
        objective="Given a loop on two ranks, the learner puts reduction, clipping and step in order, so that both have equal parameters.",
        expects="the next parameters",
        try_out=_on_two_ranks,
        passes=lambda seen: all(_all_close(case, case.wanted) for case in (seen.long, seen.short)),
        so_far=_how_far,
        because="Both ranks return the same parameters, and a long gradient is clipped after it's averaged.",
        hints=(
            "Three calls: `backward`, `all_reduce`, `step`. And a gradient has a method that clips.",
            "What's clipped should be the same on both ranks. From which line on is it?",
            "`all_reduce` returns the average; `clip_norm` leaves a short gradient as it is, so it needs no `if`.",
        ),
        right=(
            lambda: (
                lambda model, loss, all_reduce: model.step(
                    all_reduce(model.backward(loss)).clip_norm(1.0)
                )
            ),
            lambda: (
                lambda model, loss, all_reduce: model.step(
                    (all_reduce(model.backward(loss)) * 2 / 2).clip_norm(1.0)
                )
            ),
        ),
        mistakes=(
            Mistake(
                matches=lambda seen: seen.long.waited or seen.short.waited,
                slug="ranks-share-one-loss",
                says="One rank called `all_reduce` and waited there for the other, which didn't call it. Print `loss` in front of that line: what does it say on each rank?",
                examples=(
                    lambda: (
                        lambda model, loss, all_reduce: model.step(
                            all_reduce(model.backward(loss)).clip_norm(1.0)
                            if loss > 1
                            else model.backward(loss)
                        )
                    ),
                ),
            ),
            Mistake(
                matches=lambda seen: not any(seen.long.calls) and not seen.long.alike,
                slug="ddp-compares-weights",
                says="Each rank took a step along its own gradient, and the replicas differ now. Nothing here averages by itself: which of the three arguments does it?",
                examples=(
                    lambda: lambda model, loss, all_reduce: model.step(model.backward(loss)),
                    lambda: (
                        lambda model, loss, all_reduce: model.step(
                            model.backward(loss).clip_norm(1.0)
                        )
                    ),
                ),
            ),
            Mistake(
                matches=lambda seen: any(seen.long.calls) and _by_itself(seen.long),
                slug="result-not-needed",
                says="`all_reduce` was called, but each rank stepped along its own gradient. Print `gradient.norm()` before and after the call: what does the call change, and what does it return?",
                examples=(lambda: _result_ignored,),
            ),
            Mistake(
                matches=lambda seen: not seen.long.alike or not seen.short.alike,
                slug="ranks-share-one-loss",
                says="The gradients were averaged, but the two ranks return different parameters. Which line depends on something that only this rank has? Print `loss` on both.",
                examples=(
                    lambda: _if_the_loss_is_high,
                    lambda: _averaged_with_its_own,
                ),
            ),
            Mistake(
                matches=lambda seen: _all_close(seen.long, seen.long.clipped_first),
                says="Both ranks agree. But each gradient was clipped by itself before they were averaged, so the ranks don't weigh the same. Print the norm of what you hand to `all_reduce`.",
                examples=(
                    lambda: (
                        lambda model, loss, all_reduce: model.step(
                            all_reduce(model.backward(loss).clip_norm(1.0))
                        )
                    ),
                    lambda: (
                        lambda model, loss, all_reduce: model.step(
                            all_reduce(model.backward(loss).clip_norm(1.0)).clip_norm(1.0)
                        )
                    ),
                ),
            ),
            Mistake(
                matches=lambda seen: _all_close(seen.long, seen.long.unclipped),
                says="Both ranks agree, and the average is right. It isn't clipped yet: print the norm of the gradient that you hand to `model.step`.",
                examples=(
                    lambda: (
                        lambda model, loss, all_reduce: model.step(all_reduce(model.backward(loss)))
                    ),
                    lambda: _clip_ignored,
                ),
            ),
            Mistake(
                matches=lambda seen: (
                    _all_close(seen.long, seen.long.wanted)
                    and not _all_close(seen.short, seen.short.wanted)
                ),
                says="A long gradient is treated right. A short one comes out with another length, though it needs no clipping: compare its norm before and after your lines.",
                examples=(
                    lambda: (
                        lambda model, loss, all_reduce: model.step(
                            (all_reduce(model.backward(loss)) * 2).clip_norm(1.0)
                        )
                    ),
                    lambda: _always_of_norm_1,
                ),
            ),
        ),
    ),
    Exercise(
        key="13-differ",
        objective="Given the weights of all ranks, the learner says which of them differ, if only in the last bit.",
        expects="a list of names",
        try_out=_try_differing,
        passes=lambda seen: not seen.wrong,
        so_far=_what_was_found,
        because=f"All {len(_CASES)} cases: weights, buffers, the last rank, the last bit.",
        hints=(
            "Take the names of one replica. For each of them, compare the tensors of all ranks.",
            "`torch.equal(a, b)` is true if two tensors have the same shape and the same numbers.",
            "A name differs if not all ranks have what rank 0 has: `not all(... for replica in replicas)`.",
        ),
        right=(
            lambda: _comparing(),
            lambda: _comparing(keep=set),
            lambda: _comparing(others=lambda replicas: replicas),
            lambda: _comparing(same=lambda a, b: bool((a == b).all())),
        ),
        mistakes=(
            Mistake(
                matches=lambda seen: all(
                    seen.found[case] == sorted(set(_state()) - set(wanted))
                    for case, (_, wanted) in _CASES.items()
                ),
                says="Each name is judged right, but you return those that are the same. Print your list for three equal replicas.",
                examples=(lambda: _the_same,),
            ),
            Mistake(
                matches=lambda seen: len(seen.found["same"]) == len(_state()),
                slug="assignment-copies",
                says="Three equal replicas come out as different in every name. Each rank has tensors of its own: compare the numbers in them, not the objects.",
                examples=(lambda: _comparing(same=lambda a, b: a is b),),
            ),
            Mistake(
                matches=_only("last bit"),
                slug="close-is-equal",
                says="Large differences are found. A difference in the last bit isn't: try your comparison on `torch.tensor(0.5)` and `torch.tensor(0.50000006)`.",
                examples=(
                    lambda: _comparing(same=lambda a, b: torch.allclose(a, b)),
                    lambda: _comparing(same=lambda a, b: bool((a - b).abs().max() < 1e-6)),
                ),
            ),
            Mistake(
                matches=_only("order", "last bit"),
                slug="close-is-equal",
                says="Most differences are found. But two tensors can have the same sum and different numbers: try yours on `torch.tensor([1.0, 2.0])` and `torch.tensor([2.0, 1.0])`.",
                examples=(
                    lambda: _comparing(same=lambda a, b: bool(a.sum() == b.sum())),
                    lambda: _comparing(
                        same=lambda a, b: bool(a.float().norm() == b.float().norm())
                    ),
                ),
            ),
            Mistake(
                matches=_only("last rank", "buffers"),
                says="Ranks 0 and 1 are compared. There can be more of them: print `len(replicas)`.",
                examples=(lambda: _comparing(others=lambda replicas: replicas[1:2]),),
            ),
            Mistake(
                matches=lambda seen: seen.wrong == ["buffers"] and len(seen.found["buffers"]) == 0,
                slug="weights-are-everything",
                says="Weights are compared. A `state_dict` holds buffers too, and they can differ while the weights agree: print all its names.",
                examples=(
                    lambda: _comparing(
                        names=lambda first: [n for n in first if n.endswith(("weight", "bias"))]
                    ),
                ),
            ),
            Mistake(
                matches=lambda seen: seen.wrong == ["buffers"] and len(seen.found["buffers"]) == 1,
                says="You find one name where two differ. Does your loop end at the first? Collect the names, and return them after the loop.",
                examples=(
                    lambda: _comparing(keep=lambda names: names[:1]),
                    lambda: _comparing(keep=lambda names: names[-1:]),
                ),
            ),
        ),
    ),
)
