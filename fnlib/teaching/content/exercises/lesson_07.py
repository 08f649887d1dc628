"""Lesson 07, "Convolutions, running statistics, dropout": its exercises."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import nn

from fnlib.teaching.exercises import Exercise, Mistake, Unreadable, in_words


def _try(evaluate: Any) -> Any:
    """Evaluate a small network that is in the middle of its training, and see what is left behind."""
    statistics = nn.BatchNorm1d(3)
    network = nn.Sequential(statistics, nn.Dropout(0.5))
    feature = torch.arange(12.0).reshape(4, 3)
    before = cast(torch.Tensor, statistics.running_mean).clone()
    output = evaluate(network, feature)
    if output is None or output is ...:
        return None
    if not isinstance(output, torch.Tensor):
        raise Unreadable(f"Return the output of the model, a tensor; you gave {in_words(output)}.")
    expected = feature / (1 + 1e-5) ** 0.5
    return SimpleNamespace(
        given=output,
        right=output.shape == feature.shape and torch.allclose(output.float(), expected, atol=1e-4),
        moved=not torch.equal(cast(torch.Tensor, statistics.running_mean), before),
        training=network.training and statistics.training,
        graph=output.requires_grad,
    )


class _Stop(Exception):
    """Raised by a layer on purpose."""


class _Fragile(nn.Module):
    """Passes its input on, or stops."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = False

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        if self.broken:
            raise _Stop("this layer stops on purpose")
        return feature


def _look(look: Any) -> Any:
    """Look at a network in which one layer is frozen, once as it is and once with a layer that raises."""
    frozen, fragile = nn.BatchNorm1d(3), _Fragile()
    network = nn.Sequential(frozen, nn.Dropout(0.5), fragile, nn.BatchNorm1d(3))
    frozen.eval()
    modes = [module.training for module in network.modules()]
    before = cast(torch.Tensor, network[3].running_mean).clone()
    feature = torch.arange(12.0).reshape(4, 3)
    output = look(network, feature)
    if output is None or output is ...:
        return None
    if not isinstance(output, torch.Tensor):
        raise Unreadable(f"Return the output of the model, a tensor; you gave {in_words(output)}.")
    after = [module.training for module in network.modules()]
    seen = SimpleNamespace(
        given=output,
        right=output.shape == feature.shape
        and torch.allclose(output.float(), feature / (1 + 1e-5), atol=1e-3),
        moved=not torch.equal(cast(torch.Tensor, network[3].running_mean), before),
        graph=output.requires_grad,
        all_on=all(after),
        all_off=not any(after),
        kept=after == modes,
    )
    for module, mode in zip(network.modules(), modes, strict=True):
        module.training = mode
    fragile.broken = True
    try:
        look(network, feature)
    except _Stop:
        seen.raised = True
    else:
        seen.raised = False
    seen.kept_after_error = [module.training for module in network.modules()] == modes
    return seen


EXERCISES = (
    Exercise(
        key="07-no-trace",
        objective="Given a stock model in training, the learner evaluates it so that nothing of it is changed afterwards.",
        expects="a function of (model, feature) that returns the output",
        try_out=_try,
        passes=lambda seen: seen.right and not seen.moved and seen.training and not seen.graph,
        because="No statistic moved, no graph was recorded, and the model trains on as if nobody had looked.",
        hints=(
            "Two switches are needed, and both have to be set back.",
            "eval() is one, no_grad() the other. Which of them sets itself back?",
            "model.eval(); with torch.no_grad(): output = model(feature); model.train(); return output",
        ),
        right=(lambda: _without_trace,),
        mistakes=(
            Mistake(
                matches=lambda seen: seen.moved,
                slug="eval-is-no-grad",
                says="The running statistics moved, under no_grad too.",
                examples=(lambda: _only_no_grad, lambda: lambda model, feature: model(feature)),
            ),
            Mistake(
                matches=lambda seen: not seen.training,
                says="The model is still in evaluation mode: the next training step would run without dropout, and in silence.",
                examples=(lambda: _never_back,),
            ),
            Mistake(
                matches=lambda seen: seen.graph,
                slug="eval-is-no-grad",
                says="The mode is right, and a graph was still recorded, which keeps every activation in memory.",
                examples=(lambda: _only_eval,),
            ),
            Mistake(
                matches=lambda seen: not seen.right,
                says="The model is as it was, but these are not the numbers that it gives in evaluation: return its output as it comes.",
                examples=(
                    lambda: lambda model, feature: _without_trace(model, feature).argmax(dim=1),
                ),
            ),
        ),
    ),
    Exercise(
        key="07-as-found",
        objective="Given a network in which a layer is frozen, the learner evaluates it and leaves every mode as it was.",
        expects="a function of (model, feature) that returns the output",
        try_out=_look,
        passes=lambda seen: (
            seen.right
            and not seen.moved
            and not seen.graph
            and seen.kept
            and seen.raised
            and seen.kept_after_error
        ),
        because="Every submodule has its own mode back, the frozen one too, also after an error.",
        hints=(
            "model.train() sets the flag of every submodule. What would you need to know to set each one as it was?",
            "model.modules() gives all of them; write down module.training of each before model.eval().",
            "try: with torch.no_grad(): return model(feature); finally: for module, training in modes: module.training = training",
        ),
        right=(lambda: _as_found,),
        mistakes=(
            Mistake(
                matches=lambda seen: seen.moved,
                slug="eval-is-no-grad",
                says="The running statistics moved, under no_grad too.",
                examples=(lambda: _only_no_grad,),
            ),
            Mistake(
                matches=lambda seen: seen.graph,
                slug="eval-is-no-grad",
                says="The modes are right, and a graph was still recorded.",
                examples=(lambda: _with_graph,),
            ),
            Mistake(
                matches=lambda seen: seen.all_on,
                says="The frozen BatchNorm trains now: model.train() sets the flag of all submodules, whatever they had before.",
                examples=(lambda: _without_trace, lambda: _only_the_top),
            ),
            Mistake(
                matches=lambda seen: seen.all_off,
                says="All of the model is still in evaluation mode: the next training step would run without dropout, and in silence.",
                examples=(lambda: _never_back,),
            ),
            Mistake(
                matches=lambda seen: not seen.raised,
                says="A layer raised an error, and your function kept it to itself. Set the modes back, and let the error go on: that is `finally`.",
                examples=(lambda: _swallowed,),
            ),
            Mistake(
                matches=lambda seen: seen.kept and not seen.kept_after_error,
                says="When the forward pass raises an error, your last lines are never run. `try` and `finally` run them.",
                examples=(lambda: _not_after_error,),
            ),
        ),
    ),
)


def _as_found(model: nn.Module, feature: torch.Tensor) -> torch.Tensor:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            return model(feature)
    finally:
        for module, training in modes:
            module.training = training


def _not_after_error(model: nn.Module, feature: torch.Tensor) -> torch.Tensor:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    with torch.no_grad():
        output = model(feature)
    for module, training in modes.items():
        module.training = training
    return output


def _only_the_top(model: nn.Module, feature: torch.Tensor) -> torch.Tensor:
    training = model.training
    model.eval()
    with torch.no_grad():
        output = model(feature)
    model.train(training)
    return output


def _swallowed(model: nn.Module, feature: torch.Tensor) -> torch.Tensor | None:
    try:
        return _as_found(model, feature)
    except Exception:
        return None


def _with_graph(model: nn.Module, feature: torch.Tensor) -> torch.Tensor:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        return model(feature)
    finally:
        for module, training in modes:
            module.training = training


def _without_trace(model: nn.Module, feature: torch.Tensor) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        output = model(feature)
    model.train()
    return output


def _only_no_grad(model: nn.Module, feature: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(feature)


def _never_back(model: nn.Module, feature: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(feature)


def _only_eval(model: nn.Module, feature: torch.Tensor) -> torch.Tensor:
    model.eval()
    output = model(feature)
    model.train()
    return output
