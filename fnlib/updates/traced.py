"""The update rules as ``torch.compile`` likes them: nothing in place, the rate a tensor, one weight after the other.

The compiler reorders the arithmetic, so that the results agree with those of `optim.py` to a tolerance, not to the bit.
"""

from __future__ import annotations

from torch import Tensor, lerp, maximum

from fnlib.optim import SGD, Adam, AdamW, begin
from fnlib.updates.kernels import Moments
from fnlib.updates.rule import Rule, Settings

Moved = tuple[list[Tensor], list[Moments]]


def is_traced(rule: object) -> bool:
    """Say whether a rule has a form for the compiler; any other is called after the graph, as it is."""
    return type(rule) in (SGD, Adam, AdamW)


def traced(
    rule: Rule,
    weights: list[Tensor],
    gradient: list[Tensor],
    moments: list[Moments],
    settings: Settings,
    rate: Tensor,
) -> Moved:
    """Return moved weights and moments of one group.

    Args:
        rule: one that `is_traced`.
        weights: those of the group that move.
        gradient: a tensor for each.
        moments: what the rule keeps of each; empty before the first step.
        settings: of the group, without the rate.
        rate: the learning rate, so that another one needs no other graph.
    """
    move = _adam if isinstance(rule, Adam) else _sgd
    return move(weights, gradient, moments, settings, rate)


def _sgd(
    weights: list[Tensor],
    gradient: list[Tensor],
    moments: list[Moments],
    settings: Settings,
    rate: Tensor,
) -> Moved:
    new_weights, new_moments = [], []
    for w, g, entry in zip(weights, gradient, moments, strict=True):
        g = -g if settings["maximize"] else g
        g = g + settings["weight_decay"] * w if settings["weight_decay"] else g
        if settings["momentum"]:
            last = entry.get("momentum_buffer")
            buffer = (
                g if last is None else settings["momentum"] * last + (1 - settings["dampening"]) * g
            )
            g = g + settings["momentum"] * buffer if settings["nesterov"] else buffer
            entry = {"momentum_buffer": buffer}
        new_weights.append(w - rate * g)
        new_moments.append(entry)
    return new_weights, new_moments


def _adam(
    weights: list[Tensor],
    gradient: list[Tensor],
    moments: list[Moments],
    settings: Settings,
    rate: Tensor,
) -> Moved:
    begin(weights, moments, settings)
    (beta1, beta2), decay = settings["betas"], settings["weight_decay"]
    counted = {entry["step"]: entry["step"] + 1 for entry in moments}
    new_weights, new_moments = [], []
    for w, g, entry in zip(weights, gradient, moments, strict=True):
        g = -g if settings["maximize"] else g
        if decay and settings["decoupled_weight_decay"]:
            w = w * (1 - rate * decay)
        elif decay:
            g = g + decay * w
        step = counted[entry["step"]]
        mean = lerp(entry["exp_avg"], g, 1 - beta1)
        square = beta2 * entry["exp_avg_sq"] + (1 - beta2) * g * g
        new = {"step": step, "exp_avg": mean, "exp_avg_sq": square}
        if settings["amsgrad"]:
            new["max_exp_avg_sq"] = square = maximum(entry["max_exp_avg_sq"], square)
        denominator = (square / (1 - beta2**step)).sqrt() + settings["eps"]
        new_weights.append(w - rate * (mean / (1 - beta1**step)) / denominator)
        new_moments.append(new)
    return new_weights, new_moments
