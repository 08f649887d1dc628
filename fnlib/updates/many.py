"""Many: a list of tensors that a formula takes for one tensor, so that one call moves them all.

PyTorch's ``_foreach`` kernels have the bits of a loop and spare its calls. `make bench` shows what
that buys: nothing with 4 weights, a third of the update with 5,000.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

FEW = 16  # a loop over fewer weights takes no longer


class Many:
    """Tensors that take each operation together. ``torch.lerp(many, ...)`` is ``_foreach_lerp``."""

    __slots__ = ("tensors",)

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = list(tensors)

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Many:
        options = dict(kwargs or {})
        out = options.pop("out", None)
        return _each(function.__name__ + ("_" if out is not None else ""), *args, **options)

    def __neg__(self) -> Many:
        return _each("neg", self)

    def __truediv__(self, number: float) -> Many:
        return _each("div", self, number)

    def add_(self, number: float) -> Many:
        return _each("add_", self, number)

    def sqrt(self) -> Many:
        return _each("sqrt", self)

    def clone(self) -> Many:
        return Many([tensor.clone() for tensor in self.tensors])


def _each(operation: str, first: Many, *others: Any, **options: Any) -> Many:
    """Call an operation on lists. In place (``add_``) the first list holds the results."""
    lists = [other.tensors if isinstance(other, Many) else other for other in others]
    found = getattr(torch, f"_foreach_{operation}")(first.tensors, *lists, **options)
    return first if operation.endswith("_") else Many(found)


def worthwhile(weights: Sequence[Tensor]) -> bool:
    """Say whether moving these together is faster: the temporaries are those of all at once."""
    return (
        len(weights) >= FEW
        and sum(map(Tensor.numel, weights)) <= 1 << 22
        and all(map(Tensor.is_contiguous, weights))
    )
