"""Update rules: pure functions from weights, gradient and state to new weights and state.

A rule is any object with two methods:

    init(weights) -> state                                  before the first step
    update(weights, gradient, state) -> (weights, state)    at each step

It may also have a `name`, which values show, and a method `at(step_count)`, which returns the rule for
one step of a schedule (docs/functional.md). The tensors that it gets are copy-on-write, so it may
work in place.

SGD and Adam are one formula each, `move`, for one weight `w` with gradient `g`, in the order of
operations of ``torch.optim``, which decides the last bit. The class of torch.optim that a formula
is `like` takes the steps that PyTorch computes in another order: half precision, sparse gradients,
``foreach``, accelerators. ``out=out(w)`` reuses the memory of `w` if that has been donated.

Any number among the settings may be a function of the step count: the first step uses ``f(0)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from fnlib.updates.formula import Formula, Out, add, addcdiv, addcmul, formula, lerp, used
from fnlib.updates.fused import Moments, fused_adam, fused_sgd
from fnlib.updates.rule import Groups, Rule, UpdateRule

__all__ = ["SGD", "Adam", "AdamW", "Groups", "Number", "Rule", "UpdateRule"]

Number = float | Tensor | Callable[[int], float]  # or a function of the step count


@formula
class SGD(Formula):
    """Step against the gradient, with momentum if you ask for it.

    ``b <- momentum * b + (1 - dampening) * g`` (the first ``b`` is ``g``), then ``w <- w - lr * b``.

    Args:
        lr: the learning rate.
        momentum: how much of the last update is kept.
        dampening: how much of the gradient is left out of the momentum.
        weight_decay: adds ``weight_decay * w`` to the gradient.
        nesterov: look ahead along the momentum.
        maximize: climb instead of descend.
        foreach: as in torch.optim, which then takes the step.
        differentiable: refused, because a step is not differentiated.
        fused: one kernel for the whole update; never chosen by itself.
        groups: a function of a weight's name and the weight that returns its own settings.

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning
    (2013), in the form that ``torch.optim.SGD`` gives it.

    >>> rule = SGD(lr=0.25, momentum=0.5)
    >>> weights, state = {"w": torch.tensor([1.0])}, rule.init({})
    >>> for gradient in (-2.0, -1.0, 0.0):
    ...     weights, state = rule.update(weights, {"w": torch.tensor([gradient])}, state)
    ...     print(weights["w"].item(), state["state"]["w"]["momentum_buffer"].item())
    1.5 -2.0
    2.0 -2.0
    2.25 -1.0
    """

    like: ClassVar[Any] = torch.optim.SGD
    _fused_kernel = fused_sgd

    lr: Number = 1e-3
    momentum: Number = 0
    dampening: Number = 0
    weight_decay: Number = 0
    nesterov: bool = False
    _: KW_ONLY
    maximize: bool = False
    foreach: bool | None = None
    differentiable: bool = False
    fused: bool | None = None
    groups: Groups | None = None

    def moments(self) -> tuple[str, ...]:
        return ("momentum_buffer",)

    def move(self, w: Tensor, g: Tensor, kept: Moments, t: Any, out: Out) -> tuple[Tensor, Moments]:
        rule: Any = self  # its numbers are those of this step
        if rule.maximize:
            g = -g
        if used(rule.weight_decay):
            g = add(g, rule.weight_decay, w)
        if used(rule.momentum):
            b = kept.get("momentum_buffer")
            if b is None:
                b = g.clone()
            else:
                b = torch.mul(b, rule.momentum, out=out(b))
                b = add(b, 1 - rule.dampening, g, out=b)
            g = add(g, rule.momentum, b) if rule.nesterov else b
            kept = {**kept, "momentum_buffer": b}
        return add(w, -rule.lr, g, out=out(w)), kept


@formula
class Adam(Formula):
    """Divide the gradient's running mean by the root of its running mean square.

    ``m <- b1 * m + (1 - b1) * g``, ``v <- b2 * v + (1 - b2) * g * g``, then
    ``w <- w - lr * (m / (1 - b1**t)) / (sqrt(v / (1 - b2**t)) + eps)``.

    Args:
        lr: the learning rate.
        betas: b1 and b2, how much of each running mean is kept.
        eps: added to the denominator.
        weight_decay: adds ``weight_decay * w`` to the gradient.
        amsgrad: divide by the greatest mean square so far.
        decoupled_weight_decay: shrink the weights instead, as AdamW does.
        foreach, maximize, differentiable, fused, groups: as in `SGD`; capturable is refused too.

    Source: Kingma and Ba, Adam: A Method for Stochastic Optimization (2014), in the order of
    operations of ``torch.optim.Adam``.

    >>> rule = Adam(lr=0.5)
    >>> weights, gradient = {"w": torch.tensor([1.0])}, {"w": torch.tensor([2.0])}
    >>> weights, state = rule.update(weights, gradient, rule.init(weights))
    >>> weights["w"], sorted(state["state"]["w"])
    (tensor([0.5000]), ['exp_avg', 'exp_avg_sq', 'step'])
    """

    like: ClassVar[Any] = torch.optim.Adam
    _fused_kernel = fused_adam
    counts = True

    lr: Number = 1e-3
    betas: tuple[Number, Number] = (0.9, 0.999)
    eps: Number = 1e-8
    weight_decay: Number = 0
    amsgrad: bool = False
    _: KW_ONLY
    foreach: bool | None = None
    maximize: bool = False
    capturable: bool = False
    differentiable: bool = False
    fused: bool | None = None
    decoupled_weight_decay: bool = False
    groups: Groups | None = None

    def moments(self) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")[: 3 if self.amsgrad else 2]

    def start(self, w: Tensor) -> Moments:
        return {key: torch.zeros_like(w) for key in self.moments()}

    def move(self, w: Tensor, g: Tensor, kept: Moments, t: Any, out: Out) -> tuple[Tensor, Moments]:
        rule: Any = self  # its numbers are those of this step
        b1, b2 = rule.betas
        m, v = kept["exp_avg"], kept["exp_avg_sq"]
        if rule.maximize:
            g = -g
        if used(rule.weight_decay) and rule.decoupled_weight_decay:
            w = torch.mul(w, 1 - rule.lr * rule.weight_decay, out=out(w))
        elif used(rule.weight_decay):
            g = add(g, rule.weight_decay, w)
        m = lerp(m, g, 1 - b1, out=out(m))
        v = torch.mul(v, b2, out=out(v))
        v = addcmul(v, 1 - b2, g, g, out=v)
        kept = {**kept, "exp_avg": m, "exp_avg_sq": v}
        if rule.amsgrad:
            most = kept["max_exp_avg_sq"]
            kept["max_exp_avg_sq"] = v = torch.maximum(most, v, out=out(most))
        root = (v.sqrt() / (1 - b2**t) ** 0.5).add_(rule.eps)
        return addcdiv(w, -(rule.lr / (1 - b1**t)), m, root, out=out(w)), kept


@formula
class AdamW(Adam):
    """Shrink the weights beside the gradient: ``w <- (1 - lr * weight_decay) * w`` before each step.

    Args: as `Adam`; ``weight_decay`` is 0.01 by default.

    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization (2017).

    >>> AdamW(lr=0.1)
    fnlib.AdamW(lr=0.1)
    """

    like: ClassVar[Any] = torch.optim.AdamW

    weight_decay: Number = 1e-2
    decoupled_weight_decay: bool = field(default=True, init=False)
