"""Lesson 00, "Where did my best model go?": its exercises and questions."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from fnlib.teaching.exercises import Exercise, Mistake
from fnlib.teaching.questions import Option, Question


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
    intact = isinstance(values, Mapping) and all(torch.equal(values[name], before[name]) for name in before)
    return SimpleNamespace(kept=kept, intact=intact, is_model=kept is model)


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
            lambda: lambda model: {name: value.detach().clone() for name, value in model.state_dict().items()},
        ),
        mistakes=(
            Mistake(
                matches=lambda seen: seen.is_model,
                slug="assignment-copies",
                examples=(lambda: lambda model: model,),
            ),
            Mistake(
                matches=lambda seen: isinstance(seen.kept, OrderedDict),
                slug="state-dict-is-snapshot",
                examples=(
                    lambda: lambda model: model.state_dict(),
                    lambda: lambda model: copy.copy(model.state_dict()),
                    lambda: lambda model: model.state_dict().copy(),
                ),
            ),
            Mistake(
                matches=lambda seen: isinstance(seen.kept, dict),
                slug="detach-copies",
                says="A new dict is not enough either: the tensors in it are the ones that the model trains.",
                examples=(
                    lambda: lambda model: {name: value.detach() for name, value in model.named_parameters()},
                    lambda: lambda model: dict(model.state_dict()),
                ),
            ),
            Mistake(
                matches=lambda seen: isinstance(seen.kept, nn.Module),
                says="A copy.copy of a module is a second shell around the same tensors.",
                examples=(lambda: lambda model: copy.copy(model),),
            ),
            Mistake(
                matches=lambda seen: isinstance(seen.kept, (list, tuple)),
                slug="assignment-copies",
                says="A list of the parameters holds the very tensors that training changes. Keep them by name, each one copied.",
                examples=(lambda: lambda model: list(model.parameters()),),
            ),
        ),
    ),
)

QUESTIONS = (
    Question(
        key="00-best",
        kind="predict",
        prompt="The model names 98 % right. You keep `best`, train one epoch at a ruinous rate, and load `best`. How many are right now?",
        code="best = model.state_dict()\ntrain(model, lr=ruinous)\nmodel.load_state_dict(best)",
        options=(
            Option("98 %: `best` was taken before the ruin", "state-dict-is-snapshot"),
            Option("About 10 %, as after the ruin", why="The tensors in `best` are the model's own: they were ruined with it."),
            Option(
                "Between the two: loading mixes both", "in-place-replaces", why="Loading copies numbers over numbers; nothing is mixed."
            ),
            Option("None: loading raises an error", "mistakes-are-loud", why="Names and shapes fit, so it loads without a word."),
        ),
        right=1,
        proof=(
            "import torch\n"
            "model = torch.nn.Linear(2, 2)\n"
            "best = model.state_dict()\n"
            "with torch.no_grad():\n"
            "    model.weight.add_(9.0)\n"
            "ruined = model.weight.detach().clone()\n"
            "model.load_state_dict(best)\n"
            "assert torch.equal(model.weight, ruined)"
        ),
    ),
)
