"""Arithmetic on named tensors: norms, factors, and values in between."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fnlib import errors


def norm(tensors: list[Tensor]) -> Tensor:
    """Return the Euclidean length over all tensors, with a graph if they have one."""
    if not any(tensor.requires_grad for tensor in tensors):
        return torch.nn.utils.get_total_norm(tensors)
    device = tensors[0].device  # get_total_norm runs under no_grad
    norms = [torch.linalg.vector_norm(tensor).to(device) for tensor in tensors]
    return torch.linalg.vector_norm(torch.stack(norms))


def factor(number: Any) -> Any:
    """Return a tensor without dimensions or Python's own number (of NumPy's too), or None."""
    if isinstance(number, Tensor):
        return number.detach().reshape(()) if number.numel() == 1 else None
    if isinstance(number, numbers.Integral):
        return None if isinstance(number, bool) else int(number)
    if isinstance(number, numbers.Real):
        return None if isinstance(number, numbers.Rational) else float(number)
    return complex(number) if isinstance(number, numbers.Complex) else None


def same_kind(result: Tensor, like: Tensor, what: str, right: str) -> Tensor:
    """Return a result that has the dtype of the tensor it was made of.

    Args:
        result: the new tensor.
        like: the old one.
        what: what would change the dtype, for an error.
        right: the line to write instead.
    """
    if result.dtype != like.dtype:
        raise errors.WrongParameters(
            f"{what} would change the dtype of the gradient",
            f"{like.dtype} would become {result.dtype}",
            right,
        )
    return result


def between(
    mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor], weight: float
) -> dict[str, Tensor]:
    """Return tensors on the way from some to others; counters are the others'."""

    def moved(a: Tensor, b: Tensor) -> Tensor:
        return torch.lerp(a, b, weight) if a.is_floating_point() or a.is_complex() else b

    return {name: moved(tensor, theirs[name]) for name, tensor in mine.items()}
