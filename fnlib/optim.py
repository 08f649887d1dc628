"""Update rules: pure functions from weights, gradient and state to new weights and state.

A rule is any object with two methods, and this file holds the three that the lessons use:

    init(weights) -> state                                  before the first step
    update(weights, gradient, state) -> (weights, state)    at each step

What a rule of yours is given is copy-on-write, so that it may work in place. The arithmetic below follows the order
of operations of ``torch.optim``: that is what makes the results equal bit for bit. It makes new tensors, and only
where the memory has been donated it reuses that. A rule may have a third method, ``at(step_count)``, which returns the rule
with everything scheduled set to its value for that step.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from fnlib.updates.kernels import (
    Moments,
    batches,
    each,
    fused_adam,
    fused_sgd,
    is_half,
    is_sparse,
    real,
    refuse_broken_kernel,
    some,
)
from fnlib.updates.rule import Groups, Rule, Schedule, Settings, UpdateRule

__all__ = ["SGD", "Adam", "AdamW", "Groups", "Rule", "Schedule", "UpdateRule"]


class SGD(Rule):
    """Stochastic gradient descent: ``w <- w - lr * g``, with momentum ``b <- momentum * b + (1 - dampening) * g``, ``w <- w - lr * b``.

    Args:
        lr: the learning rate, or a function of the step count (the first step uses ``lr(0)``).
        momentum: how much of the last update is kept.
        dampening: how much of the gradient is left out of the momentum.
        weight_decay: adds ``weight_decay * w`` to the gradient.
        nesterov: look ahead along the momentum.
        maximize: climb instead of descend.
        foreach: accepted as in torch.optim; the bits are the same.
        differentiable: not supported here: a step is not differentiated.
        fused: one kernel for the whole update.
        groups: a function of a weight's name and the weight that returns settings of its own.

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning (2013), in the
    form that ``torch.optim.SGD`` gives it.

    >>> rule = SGD(lr=0.25, momentum=0.5)
    >>> weights, state = {"w": torch.tensor([1.0])}, rule.init({})
    >>> for gradient in (-2.0, -1.0, 0.0):
    ...     weights, state = rule.update(weights, {"w": torch.tensor([gradient])}, state)
    ...     print(weights["w"].item(), state["state"]["w"]["momentum_buffer"].item())
    1.5 -2.0
    2.0 -2.0
    2.25 -1.0
    """

    like = torch.optim.SGD

    def __init__(
        self,
        lr: float | Tensor | Schedule = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        groups: Groups | None = None,
    ) -> None:
        settings = {
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        flags = {
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(lr, groups, {**settings, **flags})

    def _left_to_torch(
        self, settings: Settings, weights: Collection[Tensor], gradient: Collection[Tensor]
    ) -> bool:
        if settings["fused"]:
            refuse_broken_kernel(self.like, settings, weights)
            return some(Tensor.is_complex, weights) or some(
                is_sparse, gradient
            )  # torch.optim refuses them
        # foreach=True rounds momentum to half precision before it multiplies
        return bool(settings["momentum"] and settings["foreach"]) and some(is_half, weights)

    def _kept(self, weight: Tensor, settings: Settings) -> dict[str, torch.Size]:
        return {"momentum_buffer": weight.shape}

    def _move(
        self,
        weights: list[Tensor],
        gradient: list[Tensor],
        moments: list[Moments],
        settings: Settings,
        in_place: bool,
    ) -> list[Tensor]:
        if settings["fused"]:
            return fused_sgd(weights, gradient, moments, settings)
        momentum, dampening = settings["momentum"], settings["dampening"]
        if settings["maximize"]:
            gradient = [-g for g in gradient]
        if settings["weight_decay"]:
            gradient = [
                g.add(w, alpha=settings["weight_decay"])
                for g, w in zip(gradient, weights, strict=True)
            ]
        if momentum:
            ahead = []
            for g, entry in zip(gradient, moments, strict=True):
                last = entry.get("momentum_buffer")
                if last is None:
                    buffer = g.clone()
                else:
                    buffer = (last.mul_(momentum) if in_place else last.mul(momentum)).add_(
                        g, alpha=1 - dampening
                    )
                entry["momentum_buffer"] = buffer
                ahead.append(g.add(buffer, alpha=momentum) if settings["nesterov"] else buffer)
            gradient = ahead
        if not in_place:
            return list(torch._foreach_add(weights, gradient, alpha=-settings["lr"]))
        torch._foreach_add_(weights, gradient, alpha=-settings["lr"])
        return weights


class Adam(Rule):
    """Adam: the gradient's running mean, divided by the root of its running mean square.

    ``m <- b1 * m + (1 - b1) * g``, ``v <- b2 * v + (1 - b2) * g * g``,
    ``w <- w - lr * (m / (1 - b1**t)) / (sqrt(v / (1 - b2**t)) + eps)``.

    Args:
        lr: the learning rate, or a function of the step count (the first step uses ``lr(0)``).
        betas: b1 and b2, how much of each running mean is kept.
        eps: added to the denominator.
        weight_decay: adds ``weight_decay * w`` to the gradient.
        amsgrad: divide by the greatest mean square so far.
        foreach: accepted as in torch.optim; the bits are the same.
        maximize: climb instead of descend.
        capturable: not supported here, as `differentiable`: see `fnlib.wrap`.
        fused: one kernel for the whole update; never chosen by itself.
        decoupled_weight_decay: shrink the weights instead, as AdamW does.
        groups: a function of a weight's name and the weight that returns settings of its own.

    Source: Kingma and Ba, Adam: A Method for Stochastic Optimization (2014), in the order of operations of
    ``torch.optim.Adam``.

    >>> rule = Adam(lr=0.5)
    >>> weights, state = rule.update({"w": torch.tensor([1.0])}, {"w": torch.tensor([2.0])}, rule.init({}))
    >>> weights["w"], sorted(state["state"]["w"])
    (tensor([0.5000]), ['exp_avg', 'exp_avg_sq', 'step'])
    """

    like: Any = torch.optim.Adam

    def __init__(
        self,
        lr: float | Tensor | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        groups: Groups | None = None,
    ) -> None:
        settings: dict[str, Any] = {
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
        }
        settings |= {
            "foreach": foreach,
            "maximize": maximize,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
        }
        if self.like is torch.optim.Adam:
            settings["decoupled_weight_decay"] = decoupled_weight_decay
        super().__init__(lr, groups, settings)

    def _left_to_torch(
        self, settings: Settings, weights: Collection[Tensor], gradient: Collection[Tensor]
    ) -> bool:
        if any(isinstance(value, Tensor) for value in (self._arguments["lr"], *settings["betas"])):
            return True
        # Half precision is rounded in another order there, with foreach and without; the others it refuses.
        return (
            some(is_half, weights)
            or some(is_sparse, gradient)
            or bool(settings["fused"] and some(Tensor.is_complex, weights))
        )

    def _kept(self, weight: Tensor, settings: Settings) -> dict[str, torch.Size]:
        means = {
            key: weight.shape
            for key in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")[
                : 3 if settings["amsgrad"] else 2
            ]
        }
        return {"step": torch.Size(), **means}

    def _move(
        self,
        weights: list[Tensor],
        gradient: list[Tensor],
        moments: list[Moments],
        settings: Settings,
        in_place: bool,
    ) -> list[Tensor]:
        begin(weights, moments, settings)
        steps = _counted(moments)
        if settings["fused"]:
            return fused_adam(weights, gradient, moments, settings)
        lr, (beta1, beta2), decay = settings["lr"], settings["betas"], settings["weight_decay"]
        if settings["maximize"]:
            gradient = [-g for g in gradient]
        if decay and not settings["decoupled_weight_decay"]:
            gradient = [g.add(w, alpha=decay) for g, w in zip(gradient, weights, strict=True)]
        moved: list[Tensor] = []
        for batch in batches(weights):
            w, g = [real(weights[i]) for i in batch], [real(gradient[i]) for i in batch]
            mean, square = (
                [real(moments[i][key]) for i in batch] for key in ("exp_avg", "exp_avg_sq")
            )
            if decay and settings["decoupled_weight_decay"]:
                w = each("mul", in_place, w, 1 - lr * decay)
            mean = each("lerp", in_place, mean, g, 1 - beta1)
            square = each("mul", in_place, square, beta2)
            torch._foreach_addcmul_(square, g, g, 1 - beta2)
            later = {"exp_avg": mean, "exp_avg_sq": square}
            if settings["amsgrad"]:
                square = each(
                    "maximum", in_place, [real(moments[i]["max_exp_avg_sq"]) for i in batch], square
                )
                later["max_exp_avg_sq"] = square
            denominator = torch._foreach_sqrt(square)
            torch._foreach_div_(denominator, [(1 - beta2 ** steps[i]) ** 0.5 for i in batch])
            torch._foreach_add_(denominator, settings["eps"])
            w = each(
                "addcdiv",
                in_place,
                w,
                mean,
                denominator,
                [-(lr / (1 - beta1 ** steps[i])) for i in batch],
            )
            if not in_place:
                moved += w
                for key, tensors in later.items():
                    for i, tensor in zip(batch, tensors, strict=True):
                        moments[i][key] = tensor
        return weights if in_place else moved


class AdamW(Adam):
    """Adam with weight decay beside the gradient: ``w <- (1 - lr * weight_decay) * w`` before each step.

    Args: as `Adam`; ``weight_decay`` is 0.01 by default.

    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization (2017).

    >>> AdamW(lr=0.1)
    fnlib.AdamW(lr=0.1)
    """

    like = torch.optim.AdamW

    def __init__(
        self,
        lr: float | Tensor | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        groups: Groups | None = None,
    ) -> None:
        flags: dict[str, Any] = {
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        super().__init__(lr, betas, eps, weight_decay, amsgrad, **flags, fused=fused, groups=groups)


def begin(weights: list[Tensor], moments: list[Moments], settings: Settings) -> None:
    """Make the moments of weights that move for the first time. They share a counter: it is never written to."""
    zeros: dict[torch.device | None, Tensor] = {}
    counter = (
        torch.float64
        if torch.get_default_dtype() is torch.float64 and not settings["fused"]
        else torch.float32
    )
    for w, entry in zip(weights, moments, strict=True):
        if not entry:
            device = w.device if settings["fused"] else None
            entry["step"] = zeros.setdefault(device, torch.zeros((), dtype=counter, device=device))
            for key in (
                "exp_avg",
                "exp_avg_sq",
                *(["max_exp_avg_sq"] if settings["amsgrad"] else []),
            ):
                entry[key] = torch.zeros_like(w, memory_format=torch.preserve_format)


def _counted(moments: list[Moments]) -> list[float]:
    """Count the step. Weights that moved equally often share one counter: it is a value, and one addition serves all."""
    counted: dict[Tensor, tuple[Tensor, float]] = {}  # by identity
    later: dict[tuple[float, torch.device], Tensor] = {}
    numbers = []
    for entry in moments:
        before = entry["step"]
        if before not in counted:
            number = before.item() + 1
            counted[before] = later.setdefault((number, before.device), before + 1), number
        entry["step"], number = counted[before]
        numbers.append(number)
    return numbers
