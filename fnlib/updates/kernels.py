"""The kernels of PyTorch that update many weights at once: on lists of tensors, and fused into one call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fnlib import errors

Moments = dict[str, Tensor]  # what a rule keeps of one weight


def each(operation: str, in_place: bool, tensors: list[Tensor], *others: Any) -> list[Tensor]:
    """Call one of the operations of PyTorch that take a list of tensors, in place or not."""
    if not in_place:
        return list(getattr(torch, f"_foreach_{operation}")(tensors, *others))
    getattr(torch, f"_foreach_{operation}_")(tensors, *others)
    return tensors


def batches(weights: list[Tensor], most: int = 1 << 22) -> list[list[int]]:
    """Group indices so that temporary memory stays near `most` elements: a small network at once, a large one weight by weight."""
    groups: list[list[int]] = [[]]
    size = 0
    for i, weight in enumerate(weights):
        if groups[-1] and size + weight.numel() > most:
            groups.append([])
            size = 0
        groups[-1].append(i)
        size += weight.numel()
    return groups


def real(tensor: Tensor) -> Tensor:
    """View a complex tensor as pairs of real numbers, as ``torch.optim`` does before it multiplies."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def fused_sgd(
    weights: list[Tensor],
    gradient: list[Tensor],
    moments: list[Moments],
    settings: Mapping[str, Any],
) -> list[Tensor]:
    """Move weights in place, and put buffers of momentum into their dicts."""
    starts = [bool(settings["momentum"]) and not entry for entry in moments]
    for start, entry, g in zip(starts, moments, gradient, strict=True):
        if start:
            entry["momentum_buffer"] = torch.empty_like(g)  # the kernel's first step writes it
    for at in _alike(weights, starts):
        torch._fused_sgd_(
            [weights[i] for i in at],
            [gradient[i] for i in at],
            [moments[i]["momentum_buffer"] for i in at] if settings["momentum"] else [],
            weight_decay=settings["weight_decay"],
            momentum=settings["momentum"],
            lr=settings["lr"],
            dampening=settings["dampening"],
            nesterov=settings["nesterov"],
            maximize=settings["maximize"],
            is_first_step=starts[at[0]],
        )
    return weights


def fused_adam(
    weights: list[Tensor],
    gradient: list[Tensor],
    moments: list[Moments],
    settings: Mapping[str, Any],
) -> list[Tensor]:
    """Move weights and moments in place."""
    kernel = torch._fused_adamw_ if settings["decoupled_weight_decay"] else torch._fused_adam_
    for at in _alike(weights):
        kernel(
            [weights[i] for i in at],
            [gradient[i] for i in at],
            *(
                [moments[i][key] for i in at if key in moments[i]]
                for key in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step")
            ),
            amsgrad=settings["amsgrad"],
            lr=settings["lr"],
            beta1=settings["betas"][0],
            beta2=settings["betas"][1],
            weight_decay=settings["weight_decay"],
            eps=settings["eps"],
            maximize=settings["maximize"],
        )
    return weights


def refuse_broken_kernel(
    like: type, settings: Mapping[str, Any], weights: Collection[Tensor]
) -> None:
    """Refuse what PyTorch 2.13 computes from memory that nobody wrote: two stock runs of it differ, too."""
    if (
        like is torch.optim.SGD
        and settings.get("fused")
        and settings.get("momentum")
        and any(w.is_cpu and is_half(w) for w in weights)
    ):
        raise errors.CannotWrap(
            "torch.optim.SGD",
            "with momentum in half precision its fused CPU kernel reads uninitialised memory, so two runs differ",
            "optimizer=fnlib.SGD(lr=..., momentum=...)   # right: without fused=True",
            "optimizer=fnlib.SGD(lr=..., momentum=..., fused=True)",
        )


def some(kind: Callable[[Tensor], bool], tensors: Collection[Tensor]) -> bool:
    """Say whether one of the tensors is of a kind."""
    return any(map(kind, tensors))


def is_half(tensor: Tensor) -> bool:
    """Say whether a tensor holds numbers of half precision."""
    return tensor.dtype in (torch.float16, torch.bfloat16)


def is_sparse(tensor: Tensor) -> bool:
    """Say whether a tensor leaves its zeros out."""
    return tensor.layout is not torch.strided


def _alike(weights: list[Tensor], marks: Sequence[bool] | None = None) -> list[list[int]]:
    """Group indices by device, dtype and mark: a fused kernel takes one kind."""
    found: dict[Any, list[int]] = {}
    for i, weight in enumerate(weights):
        found.setdefault((weight.device, weight.dtype, marks and marks[i]), []).append(i)
    return list(found.values())
