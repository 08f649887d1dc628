"""Arithmetic on named tensors: norms, factors, and values in between."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fnlib import errors
from fnlib.values.held import Held
from fnlib.values.protect import detached, share


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
        return number.reshape(()) if number.numel() == 1 else None
    if isinstance(number, numbers.Integral):
        return None if isinstance(number, bool) else int(number)
    if isinstance(number, numbers.Real):
        return None if isinstance(number, numbers.Rational) else float(number)
    return complex(number) if isinstance(number, numbers.Complex) else None


def same_kind(result: Tensor, like: Tensor, what: str, right: str) -> Tensor:
    """Return a result that has the dtype of `like`: `what` would change it, write `right`."""
    if result.dtype != like.dtype:
        raise errors.WrongParameters(
            f"{what} would change the dtype of the gradient",
            f"{like.dtype} would become {result.dtype}",
            right,
        )
    return result


def mapped(function: Callable[[Tensor], Tensor], tensor: Tensor) -> Tensor:
    """Apply a function that a user gives to one entry of a gradient."""
    found = function(share(tensor))
    if not isinstance(found, Tensor) or found.shape != tensor.shape:
        got = f"shape {tuple(found.shape)}" if hasattr(found, "shape") else type(found).__name__
        raise errors.WrongParameters(
            "map takes a function from a tensor to one of the same shape",
            f"got {got} for shape {tuple(tensor.shape)}",
            "gradient.map(lambda g: g.clamp(-1, 1))",
        )
    right = "gradient.map(lambda g: g.round())   # of the same dtype"
    return same_kind(found.clone(), tensor, "This function", right)  # it may have kept `found`


def added(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add entry by entry, in the order of the first; an absent entry is zero."""
    for name in mine.keys() & theirs.keys():
        if mine[name].shape != theirs[name].shape:
            shapes = tuple(mine[name].shape), tuple(theirs[name].shape)
            raise errors.WrongParameters(
                "These gradients don't belong to the same network",
                f"'{name}' has shape {shapes[0]} in one and {shapes[1]} in the other",
                "gradient = model.backward(loss_a) + model.backward(loss_b)   # of one model",
            )
    both = {name: mine[name] + theirs[name] for name in mine if name in theirs}
    return {**mine, **theirs, **both}


def interpolated(mine: Held, theirs: Held, weight: float, buffers: str) -> Held:
    """Return a record on the way from one to another. See ``fnlib.Parameters.lerp``."""
    kept = {"own": mine.buffers, "other": theirs.buffers}
    if buffers == "lerp":
        kept["lerp"] = {**detached(_between(mine.buffers, theirs.buffers, weight))}
    weights = _between(mine.weights, theirs.weights, weight)
    return mine._replace(weights=weights, buffers=kept[buffers])


def _between(
    mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor], weight: float
) -> dict[str, Tensor]:
    def moved(a: Tensor, b: Tensor) -> Tensor:
        return torch.lerp(a, b, weight) if a.is_floating_point() or a.is_complex() else b

    return {name: moved(tensor, theirs[name]) for name, tensor in mine.items()}
