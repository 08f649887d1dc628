"""Lesson 07, "Do convolutions change the picture?": its exercises."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn

from fnlib.teaching.exercises import Exercise, Mistake, Unreadable, in_words

FEATURE = torch.arange(12.0).reshape(4, 3)


def _watched(network: nn.Module) -> list[bool]:
    """Note for each call of a part whether its output has a graph."""
    graphs: list[bool] = []
    for module in network.modules():
        module.register_forward_hook(
            lambda part, given, output: graphs.append(output.requires_grad)
        )
    return graphs


def _seen(network: nn.Module, norm: nn.BatchNorm1d, look: Any, expected: Tensor) -> Any:
    """Let a function look at a network, and see what it leaves behind."""
    before = cast(Tensor, norm.running_mean).clone()
    modes = [module.training for module in network.modules()]
    graphs = _watched(network)
    try:
        output = look(network, FEATURE)
        recording = torch.is_grad_enabled()
    finally:
        torch.set_grad_enabled(True)
    if output is None or output is ...:
        return None
    if not isinstance(output, Tensor):
        raise Unreadable(f"Return the model's output, a tensor; you gave {in_words(output)}.")
    after = [module.training for module in network.modules()]
    return SimpleNamespace(
        given=output,
        expected=expected,
        right=output.shape == expected.shape
        and torch.allclose(output.detach().float(), expected, atol=1e-3),
        moved=not torch.equal(cast(Tensor, norm.running_mean), before),
        graph=output.requires_grad,
        recorded=any(graphs),
        recording=recording,
        frozen=not all(weight.requires_grad for weight in network.parameters()),
        modes=modes,
        after=after,
        kept=after == modes,
    )


def _no_trace(seen: Any) -> bool:
    return bool(
        seen.right
        and not seen.moved
        and not seen.recorded
        and seen.recording
        and not seen.frozen
        and seen.kept
    )


def _try(evaluate: Any) -> Any:
    """Evaluate a small network that is in the middle of its training."""
    norm = nn.BatchNorm1d(3)
    network = nn.Sequential(norm, nn.Dropout(0.5))
    return _seen(network, norm, evaluate, FEATURE / (1 + 1e-5) ** 0.5)


class _Stop(Exception):
    """Raised by a layer on purpose."""


class _Fragile(nn.Module):
    """Passes its input on, or stops."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = False

    def forward(self, feature: Tensor) -> Tensor:
        if self.broken:
            raise _Stop("this layer stops on purpose")
        return feature


def _look(look: Any) -> Any:
    """Look at a network in which one layer is frozen, once as it is and once with a layer that raises."""
    frozen, fragile, norm = nn.BatchNorm1d(3), _Fragile(), nn.BatchNorm1d(3)
    network = nn.Sequential(frozen, nn.Dropout(0.5), fragile, norm)
    frozen.eval()
    seen = _seen(network, norm, look, FEATURE / (1 + 1e-5))
    if seen is None:
        return None
    for module, mode in zip(network.modules(), seen.modes, strict=True):
        module.training = mode
    fragile.broken, seen.raised = True, False
    try:
        look(network, FEATURE)
    except _Stop:
        seen.raised = True
    finally:
        torch.set_grad_enabled(True)
    seen.kept_after_error = [module.training for module in network.modules()] == seen.modes
    return seen


def _what_is_left(seen: Any) -> str:
    """Say what is wrong with an output, or how many parts have another mode than before."""
    if not seen.right:
        return (
            f"The model is as it was, but this isn't its output in evaluation mode: wanted a tensor of shape "
            f"{tuple(seen.expected.shape)} that begins with {float(seen.expected[0, 1]):.3g} in column 1, got "
            f"{in_words(seen.given)}. Return what the model returns."
        )
    others = sum(a != b for a, b in zip(seen.after, seen.modes, strict=True))
    return f"{others} of the model's {len(seen.modes)} modules (itself among them) have another mode than before."


_MOVED = Mistake(
    matches=lambda seen: seen.moved,
    slug="eval-is-no-grad",
    says="The running statistics moved. Print `model[0].running_mean` before and after: which switch makes BatchNorm only read it?",
    examples=(lambda: _only_no_grad, lambda: lambda model, feature: model(feature)),
)
_OFF = Mistake(
    matches=lambda seen: not seen.recording,
    says="Autograd is still switched off for everything that comes afterwards. Use the `with` form, which switches it back.",
    examples=(lambda: _grad_left_off,),
)
_FROZEN = Mistake(
    matches=lambda seen: seen.frozen,
    says="The weights have `requires_grad = False` now, so they'd train no more. There's a way that touches no weight.",
    examples=(lambda: _weights_frozen,),
)
_GRAPH = Mistake(
    matches=lambda seen: seen.graph,
    slug="eval-is-no-grad",
    says="The statistics stayed, but the output has a graph, which keeps every activation in memory. Print `output.grad_fn`.",
    examples=(lambda: _only_eval,),
)
_CUT = Mistake(
    matches=lambda seen: seen.recorded and not seen.graph,
    slug="eval-is-no-grad",
    says="The output has no graph, but one was recorded while the model ran and cut off afterwards. Keep it from being recorded.",
    examples=(lambda: lambda model, feature: _only_eval(model, feature).detach(),),
)


EXERCISES = (
    Exercise(
        key="07-no-trace",
        objective="Given a stock model in training, the learner evaluates it so that nothing in it has changed afterwards.",
        expects="the model's output in evaluation mode",
        try_out=_try,
        passes=_no_trace,
        so_far=_what_is_left,
        because="No statistic moved, no graph was recorded, and every layer is in training mode again.",
        hints=(
            "Two things have to be switched for the pass: what the layers compute, and whether a graph is recorded.",
            "One of the two switches is a `with`, which switches itself back. The other one you set back yourself.",
            "Four lines and a `return`: one before the pass, one around it, the pass, and one after it.",
        ),
        right=(lambda: _without_trace,),
        mistakes=(
            _MOVED,
            _OFF,
            _FROZEN,
            Mistake(
                matches=lambda seen: not all(seen.after),
                says="The model is still in evaluation mode, so the next training step would run without dropout. Print `model.training` at the end.",
                examples=(lambda: _never_back,),
            ),
            _GRAPH,
            _CUT,
        ),
    ),
    Exercise(
        key="07-as-found",
        objective="Given a network in which a layer is frozen, the learner evaluates it and leaves every mode as it was.",
        expects="the model's output in evaluation mode",
        try_out=_look,
        passes=lambda seen: _no_trace(seen) and seen.raised and seen.kept_after_error,
        so_far=_what_is_left,
        because="Every module has its own mode back, the frozen one too, and also after an error.",
        hints=(
            "`model.train()` sets the flag of every module. What do you need to know to set each one as it was?",
            "`model.modules()` gives all of them, the model included. Write down each one's `training` before `model.eval()`.",
            "What has to happen in any case belongs into the `finally` of a `try`.",
        ),
        right=(lambda: _as_found,),
        mistakes=(
            _MOVED,
            _OFF,
            _FROZEN,
            Mistake(
                matches=lambda seen: all(seen.after),
                says="The frozen BatchNorm trains now: `model.train()` sets every flag, whatever it was. Print `[m.training for m in model.modules()]` before and after.",
                examples=(lambda: _without_trace, lambda: _only_the_top),
            ),
            Mistake(
                matches=lambda seen: not any(seen.after),
                says="The whole model is still in evaluation mode, so the next training step would run without dropout.",
                examples=(lambda: _never_back,),
            ),
            replace(_GRAPH, examples=(lambda: _with_graph,)),
            replace(
                _CUT,
                examples=(lambda: lambda model, feature: _with_graph(model, feature).detach(),),
            ),
            Mistake(
                matches=lambda seen: seen.right and not seen.raised,
                says="A layer raised an error, and your function swallowed it. `finally` sets the modes back and lets the error go on.",
                examples=(lambda: _swallowed,),
            ),
            Mistake(
                matches=lambda seen: seen.right and seen.kept and not seen.kept_after_error,
                says="Right, as long as all goes well. When a layer raises an error, your last lines aren't run, and the modes stay switched.",
                examples=(lambda: _not_after_error,),
            ),
        ),
    ),
)


def _as_found(model: nn.Module, feature: Tensor) -> Tensor:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            return model(feature)
    finally:
        for module, training in modes:
            module.training = training


def _not_after_error(model: nn.Module, feature: Tensor) -> Tensor:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    with torch.no_grad():
        output = model(feature)
    for module, training in modes.items():
        module.training = training
    return output


def _only_the_top(model: nn.Module, feature: Tensor) -> Tensor:
    training = model.training
    model.eval()
    with torch.no_grad():
        output = model(feature)
    model.train(training)
    return output


def _swallowed(model: nn.Module, feature: Tensor) -> Tensor | None:
    try:
        return _as_found(model, feature)
    except Exception:
        return None


def _without_trace(model: nn.Module, feature: Tensor) -> Tensor:
    model.eval()
    with torch.no_grad():
        output = model(feature)
    model.train()
    return output


def _only_no_grad(model: nn.Module, feature: Tensor) -> Tensor:
    with torch.no_grad():
        return model(feature)


def _never_back(model: nn.Module, feature: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval()(feature)


def _only_eval(model: nn.Module, feature: Tensor) -> Tensor:
    model.eval()
    output = model(feature)
    model.train()
    return output


def _grad_left_off(model: nn.Module, feature: Tensor) -> Tensor:
    torch.set_grad_enabled(False)
    return _only_eval(model, feature)


def _weights_frozen(model: nn.Module, feature: Tensor) -> Tensor:
    model.requires_grad_(False)
    return _only_eval(model, feature)


def _with_graph(model: nn.Module, feature: Tensor) -> Tensor:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        return cast(Tensor, model(feature))
    finally:
        for module, training in modes:
            module.training = training
