"""Lesson 00, "Where did my best model go?": its exercises."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from fnlib.teaching.exercises import Exercise, Mistake, Unreadable, in_words, names_in


def _keep_then_train(keep: Callable[[nn.Module], Any]) -> Any:
    """Let ``keep`` put a model by, change the model in place, and see what was kept."""
    model = nn.Linear(3, 2)
    before = copy.deepcopy(model.state_dict())
    kept = keep(model)
    if kept is None or kept is ...:
        return None
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1.0)
    values = kept.state_dict() if isinstance(kept, nn.Module) else kept
    intact = isinstance(values, Mapping) and all(
        torch.equal(values[name], before[name]) for name in before
    )
    copied = (
        isinstance(kept, (list, tuple))
        and all(isinstance(one, torch.Tensor) for one in kept)
        and bool(kept)
    )
    copied = copied and all(map(torch.equal, kept, before.values()))
    return SimpleNamespace(
        given=kept,
        intact=intact,
        copied=copied,
        is_model=kept is model,
        detached="detach" in names_in(keep),
    )


# --- 00-early-stop: the best epoch, not the last -------------------------------------------------


def _stop_early(best_epoch: Callable[..., Any]) -> Any:
    """Let ``best_epoch`` train a model whose score rises for three epochs and then falls."""
    model = nn.Linear(3, 2)
    states = [copy.deepcopy(model.state_dict())]

    def train_one_epoch() -> None:
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(1.0)
        states.append(copy.deepcopy(model.state_dict()))

    def score() -> float:
        return -abs(len(states) - 4.0)

    kept = best_epoch(model, train_one_epoch, score, 5)
    if kept is None or kept is ...:
        return None
    values = kept.state_dict() if isinstance(kept, nn.Module) else kept
    if not isinstance(values, Mapping):
        raise Unreadable(
            f"Give back the weights themselves, as state_dict names them, and nothing else; you gave {in_words(kept)}."
        )
    which = [
        epoch
        for epoch, state in enumerate(states)
        if all(torch.equal(values[name], state[name]) for name in state)
    ]
    return SimpleNamespace(
        epoch=which[0] if which else None,
        own=values["bias"].data_ptr() == model.bias.data_ptr(),
        epochs=len(states) - 1,
    )


def _early_stop(
    keep: Callable[[nn.Module], Any],
    better: Callable[[float, float], bool] = lambda new, old: new > old,
) -> Callable[..., Any]:
    def best_epoch(
        model: nn.Module,
        train_one_epoch: Callable[[], None],
        score: Callable[[], float],
        epochs: int,
    ) -> Any:
        best, highest = None, float("-inf")
        for _ in range(epochs):
            train_one_epoch()
            if better(score(), highest):
                best, highest = keep(model), score()
        return best

    return best_epoch


def _copied(model: nn.Module) -> Any:
    return copy.deepcopy(model.state_dict())


EXERCISES = (
    Exercise(
        key="00-keep-best",
        objective="Given a stock model, the learner keeps its weights so that later training cannot change them.",
        expects="a function that takes a model and returns weights that stay as they are",
        try_out=_keep_then_train,
        passes=lambda seen: seen.intact,
        because="The kept weights stand as they were, whatever the model does next.",
        hints=(
            "Ask of what you return: does it own its numbers, or does it share storage with the model?",
            "The standard library has a module that copies an object with all that is in it.",
            "import copy, and wrap model.state_dict() in copy.deepcopy( ... ).",
        ),
        right=(
            lambda: lambda model: copy.deepcopy(model.state_dict()),
            lambda: lambda model: copy.deepcopy(model),
            lambda: (
                lambda model: {
                    name: value.detach().clone() for name, value in model.state_dict().items()
                }
            ),
        ),
        mistakes=(
            Mistake(
                matches=lambda seen: seen.is_model,
                slug="assignment-copies",
                examples=(lambda: lambda model: model,),
            ),
            Mistake(
                matches=lambda seen: isinstance(seen.given, OrderedDict),
                slug="state-dict-is-snapshot",
                examples=(
                    lambda: lambda model: model.state_dict(),
                    lambda: lambda model: copy.copy(model.state_dict()),
                    lambda: lambda model: model.state_dict().copy(),
                ),
            ),
            Mistake(
                matches=lambda seen: isinstance(seen.given, dict) and seen.detached,
                slug="detach-copies",
                examples=(
                    lambda: (
                        lambda model: {
                            name: value.detach() for name, value in model.named_parameters()
                        }
                    ),
                ),
            ),
            Mistake(
                matches=lambda seen: isinstance(seen.given, dict),
                slug="assignment-copies",
                says="The dict is new, and the tensors in it are the ones that the model trains.",
                examples=(
                    lambda: lambda model: dict(model.state_dict()),
                    lambda: lambda model: dict(model.named_parameters()),
                ),
            ),
            Mistake(
                matches=lambda seen: isinstance(seen.given, nn.Module),
                says="A copy.copy of a module is a second shell around the same tensors.",
                examples=(lambda: lambda model: copy.copy(model),),
            ),
            Mistake(
                matches=lambda seen: seen.copied,
                says="These copies stay as they are, but they have no names: without them nothing can be loaded back. Keep a dict.",
                examples=(
                    lambda: (
                        lambda model: [weight.detach().clone() for weight in model.parameters()]
                    ),
                ),
            ),
            Mistake(
                matches=lambda seen: isinstance(seen.given, (list, tuple)),
                slug="assignment-copies",
                says="A list of the parameters holds the very tensors that training changes. Keep them by name, each one copied.",
                examples=(lambda: lambda model: list(model.parameters()),),
            ),
        ),
    ),
    Exercise(
        key="00-early-stop",
        objective="Given a training that gets worse again, the learner returns the best epoch's weights and not the last one's.",
        expects="a function that trains and returns the weights of the epoch with the highest score",
        try_out=_stop_early,
        passes=lambda seen: seen.epoch == 3 and seen.epochs == 5,
        because="The third of five epochs scored highest, and its weights came back as they were then.",
        hints=(
            "Two names are enough: the highest score so far, and what you kept when you saw it.",
            "What you keep must not change in the next epoch. You wrote such a line above.",
            "if score() > highest: highest, best = score(), copy.deepcopy(model.state_dict())",
        ),
        right=(lambda: _early_stop(_copied), lambda: _early_stop(copy.deepcopy)),
        mistakes=(
            Mistake(
                matches=lambda seen: seen.own,
                slug="state-dict-is-snapshot",
                says="What you gave back after the last epoch shares its numbers with the model.",
                examples=(
                    lambda: _early_stop(lambda model: model.state_dict()),
                    lambda: _early_stop(lambda model: model),
                ),
            ),
            Mistake(
                matches=lambda seen: seen.epochs != 5,
                says="Train all the epochs that were asked for.",
                examples=(
                    lambda: (
                        lambda model, train_one_epoch, score, epochs: (
                            train_one_epoch(),
                            _copied(model),
                        )[1]
                    ),
                ),
            ),
            Mistake(
                matches=lambda seen: seen.epoch == 5,
                says="These are the weights of the last epoch. Keep a copy each time the score is higher than ever before.",
                examples=(lambda: _early_stop(_copied, better=lambda new, old: True),),
            ),
            Mistake(
                matches=lambda seen: seen.epoch == 1,
                says="These are the weights of the first epoch. Is the highest score brought up to date?",
                examples=(
                    lambda: _early_stop(_copied, better=lambda new, old: old == float("-inf")),
                ),
            ),
        ),
    ),
)
