"""PyTorch's fused kernels, for ``fused=True``: one call updates many weights in place."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fnlib import errors

Moments = dict[str, Tensor]  # what a rule keeps of one weight


def fused_sgd(
    rule: Any, weights: Sequence[Tensor], gradient: Sequence[Tensor], kept: Sequence[Moments]
) -> None:
    """Move weights in place, and put momentum into the dicts of what is kept."""
    first = [bool(rule.momentum) and not entry for entry in kept]
    for entry, slope, starts in zip(kept, gradient, first, strict=True):
        if starts:
            entry["momentum_buffer"] = torch.empty_like(slope)  # the kernel's first step writes it
    for at in _alike(zip(weights, first, strict=True)):
        torch._fused_sgd_(
            [weights[i] for i in at],
            [gradient[i] for i in at],
            [kept[i]["momentum_buffer"] for i in at] if rule.momentum else [],
            weight_decay=rule.weight_decay,
            momentum=rule.momentum,
            lr=rule.lr,
            dampening=rule.dampening,
            nesterov=rule.nesterov,
            maximize=rule.maximize,
            is_first_step=first[at[0]],
        )


def fused_adam(
    rule: Any, weights: Sequence[Tensor], gradient: Sequence[Tensor], kept: Sequence[Moments]
) -> None:
    """Move weights and moments in place. The counters have been moved before."""
    kernel = torch._fused_adamw_ if rule.decoupled_weight_decay else torch._fused_adam_
    for at in _alike((weight, None) for weight in weights):
        moments = (
            [kept[i][key] for i in at if key in kept[i]]
            for key in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step")
        )
        kernel(
            [weights[i] for i in at],
            [gradient[i] for i in at],
            *moments,
            amsgrad=rule.amsgrad,
            lr=rule.lr,
            beta1=rule.betas[0],
            beta2=rule.betas[1],
            weight_decay=rule.weight_decay,
            eps=rule.eps,
            maximize=rule.maximize,
        )


def refuse_broken_kernel(
    kind: type, settings: Mapping[str, Any], weights: Iterable[Tensor]
) -> None:
    """Refuse fused momentum in half precision on a CPU: PyTorch 2.13 reads unwritten memory there."""
    if not (kind is torch.optim.SGD and settings.get("fused") and settings.get("momentum")):
        return
    if any(w.is_cpu and w.dtype in (torch.float16, torch.bfloat16) for w in weights):
        why = "with momentum in half precision its fused CPU kernel reads uninitialised memory"
        right = "optimizer=fnlib.SGD(lr=..., momentum=...)   # right: without fused=True"
        wrong = "optimizer=fnlib.SGD(lr=..., momentum=..., fused=True)"
        raise errors.CannotWrap("torch.optim.SGD", f"{why}, so two runs differ", right, wrong)


def _alike(marked: Iterable[tuple[Tensor, Hashable]]) -> list[list[int]]:
    """Group indices by device, dtype and mark: a fused kernel takes one kind."""
    found: dict[Any, list[int]] = {}
    for i, (weight, mark) in enumerate(marked):
        found.setdefault((weight.device, weight.dtype, mark), []).append(i)
    return list(found.values())
