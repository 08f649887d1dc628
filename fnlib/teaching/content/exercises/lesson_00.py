"""Lesson 00, "Where did my best model go?": its exercises."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from fnlib.teaching.exercises import Exercise, Mistake, Unreadable, in_words, names_in


def _move(model: nn.Module) -> None:
    """Change the weights in place, as training does."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1.0)


def _by_name(kept: Any) -> dict[str, Any]:
    """What was kept as name -> tensor; empty if it has no names."""
    values = kept.state_dict() if isinstance(kept, nn.Module) else kept
    return dict(values) if isinstance(values, Mapping) else {}


def _same(values: Mapping[str, Any], state: Mapping[str, Tensor]) -> bool:
    return all(
        isinstance(values.get(name), Tensor) and torch.equal(values[name], state[name])
        for name in state
    )


def _keep_then_train(keep: Callable[[nn.Module], Any]) -> Any:
    """Let ``keep`` keep a model's weights, change the model in place, and look at what was kept."""
    model = nn.Linear(3, 2)
    before = copy.deepcopy(model.state_dict())
    kept = keep(model)
    if kept is None or kept is ...:
        if "save" in names_in(keep):
            raise Unreadable("Saved to a file, the weights are safe. Here, return them instead.")
        return None
    _move(model)
    values = _by_name(kept)
    if any(type(value).__name__ == "ndarray" for value in values.values()):
        raise Unreadable("These are NumPy arrays, and `load_state_dict` takes tensors: keep those.")
    tensors = isinstance(kept, (list, tuple)) and all(isinstance(one, Tensor) for one in kept)
    return SimpleNamespace(
        given=kept,
        intact=_same(values, before),
        named=set(before) <= set(values),
        copied=tensors and len(kept) == 2 and all(map(torch.equal, kept, before.values())),
        is_model=kept is model,
        detached="detach" in names_in(keep),
    )


# --- 00-early-stop: the best epoch, not the last -------------------------------------------------


def _best_of_five(best_epoch: Callable[..., Any]) -> Any:
    """Let ``best_epoch`` train a model whose score goes 0.7, 0.8, 0.9, 0.8, 0.7, then one with scores below 0."""
    seen = _five_epochs(best_epoch, highest=0.9)
    if seen is not None and seen.epoch == 3 and seen.epochs == 5:
        try:
            below = _five_epochs(best_epoch, highest=-0.1)
        except UnboundLocalError:  # no score was high enough, so `best` was never bound
            below = None
        seen.below = below is not None and below.epoch == 3
    return seen


def _five_epochs(best_epoch: Callable[..., Any], highest: float) -> Any:
    """Let ``best_epoch`` train a model whose score rises to ``highest`` in epoch 3, and falls again."""
    model = nn.Linear(3, 2)
    states = [copy.deepcopy(model.state_dict())]

    def train_one_epoch() -> None:
        _move(model)
        states.append(copy.deepcopy(model.state_dict()))

    def score() -> float:
        return highest - abs(len(states) - 4) / 10

    kept = best_epoch(model, train_one_epoch, score, 5)
    if kept is None or kept is ...:
        return None
    values = _by_name(kept)
    if not values:
        raise Unreadable(
            "Return the weights alone, in a dictionary like that of `state_dict()`; "
            f"you returned {in_words(kept)}."
        )
    which = [epoch for epoch, state in enumerate(states) if _same(values, state)]
    bias = values.get("bias")
    return SimpleNamespace(
        given=kept,
        epoch=which[0] if which else None,
        own=isinstance(bias, Tensor) and bias.data_ptr() == model.bias.data_ptr(),
        epochs=len(states) - 1,
        below=False,
    )


def _which_epoch(seen: Any) -> str:
    if seen.epoch is None:
        return "The weights you returned are those of no epoch."
    return f"You returned the weights after epoch {seen.epoch}; epoch 3 scored highest."


def _loop(
    keep: Callable[[nn.Module], Any],
    better: Callable[[float, float], bool] = lambda new, old: new > old,
    start: float = float("-inf"),
) -> Callable[..., Any]:
    """The loop as people write it, with one thing changed."""

    def best_epoch(
        model: nn.Module,
        train_one_epoch: Callable[[], None],
        score: Callable[[], float],
        epochs: int,
    ) -> Any:
        best, highest = None, start
        for _ in range(epochs):
            train_one_epoch()
            if better(score(), highest):
                best, highest = keep(model), score()
        return best

    return best_epoch


def _stops(
    model: nn.Module, train_one_epoch: Callable[[], None], score: Callable[[], float], epochs: int
) -> Any:
    """Stop as soon as the score falls."""
    best, highest = None, 0.0
    for _ in range(epochs):
        train_one_epoch()
        if score() < highest:
            break
        best, highest = _copied(model), score()
    return best


def _never_bound(
    model: nn.Module, train_one_epoch: Callable[[], None], score: Callable[[], float], epochs: int
) -> Any:
    """Give `best` no value before the first score that is high enough."""
    highest = 0.0
    for _ in range(epochs):
        train_one_epoch()
        if score() > highest:
            best, highest = _copied(model), score()
    return best


def _first_then_better(
    model: nn.Module, train_one_epoch: Callable[[], None], score: Callable[[], float], epochs: int
) -> Any:
    """Take the first epoch whatever its score is."""
    best, highest = None, 0.0
    for epoch in range(epochs):
        train_one_epoch()
        if epoch == 0 or score() > highest:
            best, highest = _copied(model), score()
    return best


def _copied(model: nn.Module) -> Any:
    return copy.deepcopy(model.state_dict())


EXERCISES = (
    Exercise(
        key="00-keep-best",
        objective="Given a stock model, the learner keeps its weights so that later training cannot change them.",
        expects="the model's weights by name, in memory of their own",
        try_out=_keep_then_train,
        passes=lambda seen: seen.intact,
        because="We trained the model on, and the weights you kept stayed as they were.",
        hints=(
            "Look at what you return. Does each tensor have memory of its own, and its name?",
            "A module of the standard library can copy an object with everything in it.",
            "The function is `deepcopy`. Which object has all the weights, by name?",
        ),
        right=(
            lambda: lambda model: copy.deepcopy(model.state_dict()),
            lambda: lambda model: copy.deepcopy(model),
            lambda: lambda model: copy.deepcopy(model).state_dict(),
            lambda: lambda model: {k: v.clone() for k, v in model.state_dict().items()},
            lambda: lambda model: {k: v.detach().clone() for k, v in model.named_parameters()},
        ),
        mistakes=(
            Mistake(
                matches=lambda seen: seen.is_model,
                slug="assignment-copies",
                says="You returned the model itself, and training goes on in it: try `keep(model) is model`.",
                examples=(lambda: lambda model: model,),
            ),
            Mistake(
                matches=lambda seen: isinstance(seen.given, OrderedDict),
                slug="state-dict-is-snapshot",
                says=(
                    "The names are right, and the dictionary is new, but its tensors use the model's memory. "
                    "Compare the `data_ptr()` of one with that of the model's own weight."
                ),
                examples=(
                    lambda: lambda model: model.state_dict(),
                    lambda: lambda model: copy.copy(model.state_dict()),
                    lambda: lambda model: model.state_dict().copy(),
                ),
            ),
            Mistake(
                matches=lambda seen: seen.named and seen.detached,
                slug="detach-copies",
                says=(
                    "`detach()` takes a tensor out of the graph, and leaves it in the same memory: "
                    "compare the `data_ptr()` before and after."
                ),
                examples=(
                    lambda: lambda model: {k: v.detach() for k, v in model.named_parameters()},
                ),
            ),
            Mistake(
                matches=lambda seen: seen.named and isinstance(seen.given, dict),
                slug="container-copies",
                says=(
                    "The dictionary is new. The tensors in it aren't: compare the `data_ptr()` of one "
                    "with that of the model's own weight."
                ),
                examples=(
                    lambda: lambda model: dict(model.state_dict()),
                    lambda: lambda model: dict(model.named_parameters()),
                    lambda: lambda model: {k: v.data for k, v in model.named_parameters()},
                    lambda: lambda model: {k: v.cpu() for k, v in model.state_dict().items()},
                ),
            ),
            Mistake(
                matches=lambda seen: isinstance(seen.given, nn.Module),
                says="`copy.copy` builds a second module around the same tensors: try `kept.weight is model.weight`.",
                examples=(lambda: lambda model: copy.copy(model),),
            ),
            Mistake(
                matches=lambda seen: seen.copied,
                says="Training can't reach these copies. But they've lost their names, and `load_state_dict` needs them.",
                examples=(lambda: lambda model: [w.detach().clone() for w in model.parameters()],),
            ),
            Mistake(
                matches=lambda seen: isinstance(seen.given, (list, tuple)),
                slug="container-copies",
                says=(
                    "The list is new, and what's in it are the model's own parameters: "
                    "try `kept[0] is model.weight`."
                ),
                examples=(lambda: lambda model: list(model.parameters()),),
            ),
        ),
    ),
    Exercise(
        key="00-early-stop",
        objective="Given a training that gets worse again, the learner returns the best epoch's weights and not the last one's.",
        expects="the weights of the epoch with the highest score",
        try_out=_best_of_five,
        passes=lambda seen: seen.epoch == 3 and seen.epochs == 5 and seen.below,
        so_far=_which_epoch,
        because="Epoch 3 of 5 scored highest, and its weights came back.",
        hints=(
            "You need two names: the highest score so far, and the weights that reached it.",
            "What you keep must not change in the next epoch. You've solved that above.",
            "Measure once an epoch, after training. When the score beats the highest, update both names.",
        ),
        right=(
            lambda: _loop(_copied),
            lambda: _loop(copy.deepcopy),
            lambda: _loop(_copied, better=lambda new, old: new >= old),
            lambda: _first_then_better,
        ),
        mistakes=(
            Mistake(
                matches=lambda seen: seen.own,
                slug="state-dict-is-snapshot",
                says=(
                    "What you returned is the model's own memory, so it holds the weights of the last epoch. "
                    "Copy them at the moment you keep them."
                ),
                examples=(
                    lambda: _loop(lambda model: model.state_dict()),
                    lambda: _loop(lambda model: model),
                ),
            ),
            Mistake(
                matches=lambda seen: seen.epoch == 3 and seen.epochs == 5,
                says=(
                    "Right as long as a score is above 0. With -0.3, -0.2, -0.1, -0.2, -0.3 your loop misses epoch 3: "
                    "where does your highest score start?"
                ),
                examples=(lambda: _loop(_copied, start=0.0), lambda: _never_bound),
            ),
            Mistake(
                matches=lambda seen: seen.epoch == 3,
                says=(
                    "These are the right weights, but you didn't train all 5 epochs. "
                    "A score that falls can rise again, so go through them all."
                ),
                examples=(lambda: _stops,),
            ),
            Mistake(
                matches=lambda seen: seen.epochs != 5,
                says="You copied in time, but trained another number of epochs than `epochs` says, which was 5.",
                examples=(
                    lambda: lambda model, train, score, epochs: (train(), _copied(model))[1],
                ),
            ),
            Mistake(
                matches=lambda seen: seen.epoch == 5,
                says="You copied, but the last epoch and not the best. Print the score each time you copy.",
                examples=(lambda: _loop(_copied, better=lambda new, old: True),),
            ),
            Mistake(
                matches=lambda seen: seen.epoch == 1,
                says="You copied the first epoch and none after it. Print your highest score in each epoch: does it rise?",
                examples=(lambda: _loop(_copied, better=lambda new, old: old == 0.0, start=0.0),),
            ),
        ),
    ),
)
