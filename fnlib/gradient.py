"""Gradient: what backward returns, as an immutable value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from fnlib import errors
from fnlib.show.table import Table, Tabular
from fnlib.show.tensors import tensor_table
from fnlib.values.checks import owned
from fnlib.values.protect import map_tree, register_as_tree, same_tree, share


class Gradient(Tabular, Mapping[str, Tensor]):
    """For each weight that a loss depends on, the derivative of the loss with respect to it.

    A weight without an entry (where PyTorch's ``.grad`` is ``None``) is left as it is by ``step``.
    Gradients add, scale and negate like vectors; an absent entry is zero. The results are new values.

    Args:
        mapping: weight names to tensors of the weights' shapes.

    >>> g = Gradient({"w": torch.tensor([3.0, 4.0])})
    >>> float(g.norm()), (g + g)["w"], (-g / 2)["w"]
    (5.0, tensor([6., 8.]), tensor([-1.5000, -2.0000]))
    >>> sum([g, g, g])["w"]
    tensor([ 9., 12.])
    """

    __slots__ = ("__weakref__", "_structure", "_tensors")
    _tensors: dict[str, Tensor]
    _structure: object

    def __init__(self, mapping: Mapping[str, Tensor]) -> None:
        tensors: dict[str, Tensor] = {}
        if not isinstance(mapping, Mapping):
            raise errors.WrongParameters(
                "A gradient is a mapping of names to tensors",
                f"got {type(mapping).__name__}",
                "fnlib.Gradient({name: tensor, ...})",
            )
        for name, tensor in mapping.items():
            if not isinstance(tensor, Tensor):
                raise errors.WrongParameters(
                    "A gradient is a mapping of names to tensors",
                    f"'{name}' is {type(tensor).__name__}",
                    "fnlib.Gradient({name: tensor, ...})",
                )
            tensors[name] = owned(tensor)
        self._tensors = tensors
        self._structure = None

    @classmethod
    def _make(cls, tensors: dict[str, Tensor], structure: object = None) -> Gradient:
        """Take tensors that nobody else will write to."""
        self = cls.__new__(cls)
        self._tensors = tensors
        self._structure = (
            structure  # whose names and shapes these are, so that step need not check again
        )
        return self

    def __getitem__(self, name: str) -> Tensor:
        try:
            return share(self._tensors[name])
        except KeyError:
            raise KeyError(
                f"{name!r}: the loss doesn't depend on it, or no weight has this name. "
                f"This gradient has {', '.join(self._tensors)}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __bool__(self) -> bool:
        return True

    # --- measuring ---------------------------------------------------------------------------

    def norm(self) -> Tensor:
        """Return the Euclidean length over all entries, as a tensor without dimensions.

        The same bits as the value that ``torch.nn.utils.clip_grad_norm_`` returns.

        >>> Gradient({"a": torch.ones(2, 2), "b": torch.zeros(3)}).norm()
        tensor(2.)
        """
        return torch.nn.utils.get_total_norm(list(self._tensors.values()))

    def clip_norm(self, max_norm: float) -> Gradient:
        """Shorten the gradient to a length of at most `max_norm`, its direction kept.

        Args:
            max_norm: the greatest length.

        Returns:
            A new gradient: the bits that ``torch.nn.utils.clip_grad_norm_`` would leave in ``.grad``.

        >>> clipped = Gradient({"w": torch.tensor([3.0, 4.0])}).clip_norm(1.0)
        >>> clipped["w"]
        tensor([0.6000, 0.8000])
        """
        coefficient = torch.clamp(max_norm / (self.norm() + 1e-6), max=1.0)
        return self._map(lambda tensor: tensor * coefficient.to(tensor.device))

    # --- the algebra of vectors --------------------------------------------------------------

    def _map(self, function: Callable[[Tensor], Tensor]) -> Gradient:
        with torch.no_grad():
            return Gradient._make(
                {name: function(tensor) for name, tensor in self._tensors.items()}, self._structure
            )

    def __add__(self, other: object) -> Gradient:
        if isinstance(other, int) and other == 0:
            return self  # where sum() begins
        if not isinstance(other, Gradient):
            return NotImplemented
        mine, theirs = self._tensors, other._tensors
        for name in mine.keys() & theirs.keys():
            if mine[name].shape != theirs[name].shape:
                raise errors.WrongParameters(
                    "These gradients don't belong to the same network",
                    f"'{name}' has shape {tuple(mine[name].shape)} in one and {tuple(theirs[name].shape)} in the other",
                    "gradient = model.backward(loss_a) + model.backward(loss_b)   # of one model",
                )
        names = [*mine, *(name for name in theirs if name not in mine)]
        with torch.no_grad():
            total = {
                n: mine[n] + theirs[n] if n in mine and n in theirs else mine.get(n, theirs.get(n))
                for n in names
            }
        return Gradient._make(
            total, self._structure if self._structure is other._structure else None
        )  # type: ignore[arg-type]

    __radd__ = __add__

    def __sub__(self, other: object) -> Gradient:
        return self + -other if isinstance(other, Gradient) else NotImplemented

    def __mul__(self, factor: float | Tensor) -> Gradient:
        if isinstance(factor, Tensor) and factor.numel() == 1:
            factor = factor.detach().reshape(())
        elif isinstance(factor, bool) or not isinstance(factor, (int, float, complex)):
            return NotImplemented
        return self._map(lambda tensor: _same_kind(tensor * factor, tensor))

    __rmul__ = __mul__

    def __truediv__(self, divisor: float | Tensor) -> Gradient:
        if isinstance(divisor, Tensor) and divisor.numel() == 1:
            divisor = divisor.detach().reshape(())
        elif isinstance(divisor, bool) or not isinstance(divisor, (int, float, complex)):
            return NotImplemented
        return self._map(lambda tensor: _same_kind(tensor / divisor, tensor))

    def __neg__(self) -> Gradient:
        return self._map(torch.neg)

    # --- being a value -----------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        """Compare names and bytes (NaN equals NaN)."""
        return (
            same_tree(self._tensors, other._tensors)
            if isinstance(other, Gradient)
            else NotImplemented
        )

    __hash__ = object.__hash__

    def __reduce__(self) -> Any:
        return Gradient, (self._tensors,)

    def __deepcopy__(self, memo: dict[int, Any]) -> Gradient:
        return Gradient._make(map_tree(Tensor.clone, self._tensors), self._structure)

    def __setitem__(self, name: str, tensor: Tensor) -> None:
        raise errors.Immutable("Gradient", name)

    def __delitem__(self, name: str) -> None:
        raise errors.Immutable("Gradient", name)

    def _table(self) -> Table:
        return tensor_table("Gradient", {"total": self._tensors})


register_as_tree(Gradient)


def _same_kind(result: Tensor, like: Tensor) -> Tensor:
    if result.dtype != like.dtype:
        raise errors.WrongParameters(
            "This factor would change the dtype of the gradient",
            f"{like.dtype} would become {result.dtype}",
            "gradient * 0.5   # a real number for a real gradient",
        )
    return result
