"""Gradient: what backward returns, as an immutable value."""

from __future__ import annotations

import numbers
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fnlib import errors
from fnlib.network.pool import Network
from fnlib.show.table import Table
from fnlib.show.tensors import tensor_table
from fnlib.values.protect import Tensors, Unassignable, detached, owned, register_as_mapping
from fnlib.values.trees import same_tree
from fnlib.values.vectors import added, factor, mapped, norm, same_kind


class Gradient(Unassignable, Tensors):
    """For each weight that a loss depends on, the derivative of the loss with respect to it.

    ``step`` leaves a weight without an entry (where PyTorch's ``.grad`` is ``None``) as it is.
    Gradients add, scale and negate like vectors; an absent entry is zero.

    Args:
        mapping: weight names to tensors of the weights' shapes.

    >>> g = Gradient({"w": torch.tensor([3.0, 4.0])})
    >>> float(g.norm()), (g + g)["w"], (-g / 2)["w"]
    (5.0, tensor([6., 8.]), tensor([-1.5000, -2.0000]))
    >>> sum([g, g, g])["w"]
    tensor([ 9., 12.])
    """

    __slots__ = ("__weakref__", "_network")
    _network: Network | None  # whose names and shapes these are: step need not check again
    _instead = "fnlib.Gradient({{**gradient, '{}': tensor}})"
    __array_ufunc__ = None  # `numpy_number * gradient` is ours to compute

    def __init__(self, mapping: Mapping[str, Tensor]) -> None:
        if not isinstance(mapping, Mapping):
            wrong = [f"got {type(mapping).__name__}"]
        else:
            items = ((name, mapping[name]) for name in mapping)
            wrong = [f"'{k}' is {type(v).__name__}" for k, v in items if not isinstance(v, Tensor)]
        if wrong:
            what = "A gradient is a mapping of names to tensors"
            raise errors.WrongParameters(what, wrong[0], "fnlib.Gradient({name: tensor, ...})")
        ties = mapping._ties if isinstance(mapping, Tensors) else None
        super().__init__({name: owned(mapping[name]) for name in mapping}, ties)
        self._network = None

    @classmethod
    def _of(
        cls,
        tensors: Mapping[str, Tensor],
        network: Network | None = None,
        ties: Mapping[str, str] | None = None,
    ) -> Gradient:
        """Take tensors that nobody else will write to."""
        self = cls.__new__(cls)
        self._tensors, self._network = tensors, network
        self._ties = (ties or {}) if network is None else network.names.ties
        return self

    def __getitem__(self, name: str) -> Tensor:
        try:
            return super().__getitem__(name)
        except KeyError:
            raise KeyError(
                f"{name!r}: the loss doesn't depend on it, or no weight has this name. "
                f"This gradient has {', '.join(map(str, self._tensors)) or 'no entry'}"
            ) from None

    def __bool__(self) -> bool:
        return True

    def norm(self) -> Tensor:
        """Return the Euclidean length over all entries.

        Returns:
            A tensor without dimensions, with the bits that ``torch.nn.utils.clip_grad_norm_``
            returns.

        >>> Gradient({"a": torch.ones(2, 2), "b": torch.zeros(3)}).norm()
        tensor(2.)
        """
        return norm(list(self._tensors.values()))

    def clip_norm(self, max_norm: float) -> Gradient:
        """Shorten the gradient to a length of at most `max_norm`, and keep its direction.

        Args:
            max_norm: the greatest length.

        Returns:
            A new gradient, with the bits that ``torch.nn.utils.clip_grad_norm_`` would leave in
            ``.grad``.

        >>> clipped = Gradient({"w": torch.tensor([3.0, 4.0])}).clip_norm(1.0)
        >>> clipped["w"]
        tensor([0.6000, 0.8000])
        """
        return clip_norm(max_norm, self)[0]

    def map(self, function: Callable[[Tensor], Tensor]) -> Gradient:
        """Apply a function to each entry: clamp it, add noise to it, round it.

        Args:
            function: from a tensor to one of the same shape and dtype.

        Returns:
            A new gradient with the same names.

        Raises:
            WrongParameters: the function returned something else.

        >>> Gradient({"w": torch.tensor([3.0, -4.0])}).map(lambda g: g.clamp(-1, 1))["w"]
        tensor([ 1., -1.])
        """
        return self._map(lambda tensor: mapped(function, tensor))

    def _map(self, function: Callable[[Tensor], Tensor]) -> Gradient:
        tensors = {name: function(tensor) for name, tensor in self._tensors.items()}
        return Gradient._of(tensors, self._network, self._ties)

    def __add__(self, other: object) -> Gradient:
        if isinstance(other, numbers.Real) and float(other) == 0:
            return self  # where sum() begins
        if not isinstance(other, Gradient):
            return NotImplemented
        network = self._network if self._network is other._network else None
        tensors = added(self._tensors, other._tensors)
        # A tie of one network doesn't hide the entry that the name has in the other.
        ties = {n: first for n, first in {**self._ties, **other._ties}.items() if n not in tensors}
        return Gradient._of(tensors, network, ties)

    __radd__ = __add__

    def __sub__(self, other: object) -> Gradient:
        return self + -other if isinstance(other, Gradient) else NotImplemented

    def __mul__(self, number: float | Tensor) -> Gradient:
        return self._scaled(operator.mul, number)

    __rmul__ = __mul__

    def __truediv__(self, number: float | Tensor) -> Gradient:
        return self._scaled(operator.truediv, number)

    def _scaled(self, operation: Callable[[Tensor, Any], Tensor], number: Any) -> Gradient:
        by = factor(number)
        if by is None:
            return NotImplemented
        right = "gradient * 0.5   # a real number for a real gradient"
        return self._map(lambda g: same_kind(operation(g, by), g, "This factor", right))

    def __neg__(self) -> Gradient:
        return self._map(torch.neg)

    def __eq__(self, other: object) -> bool:
        """Compare names and bytes (NaN equals NaN). The hash is the object's."""
        if not isinstance(other, Gradient):
            return NotImplemented
        return same_tree(self._tensors, other._tensors)

    __hash__ = object.__hash__

    def __reduce__(self) -> Any:
        return Gradient._of, (dict(detached(self._tensors)), None, dict(self._ties))

    def __deepcopy__(self, memo: dict[int, Any]) -> Gradient:
        return self._map(Tensor.clone)

    def _table(self) -> Table:
        return tensor_table("Gradient", {"total": self._tensors})


register_as_mapping(Gradient)


def clip_norm(max_norm: float, *gradients: Gradient) -> tuple[Gradient, ...]:
    """Shorten several gradients to one joint length, and keep their direction.

    Args:
        max_norm: the greatest length over all entries of all gradients.
        gradients: of several models, as ``fnlib.backward(loss, a, b)`` returns them.

    Returns:
        New gradients, with the bits of ``clip_grad_norm_`` over the parameters of all models.

    Raises:
        WrongParameters: one of them is no gradient.

    >>> g, h = Gradient({"w": torch.tensor([3.0])}), Gradient({"w": torch.tensor([4.0])})
    >>> g, h = clip_norm(1.0, g, h)
    >>> g["w"], h["w"]
    (tensor([0.6000]), tensor([0.8000]))
    """
    wrong = [thing for thing in gradients if not isinstance(thing, Gradient)]
    if wrong or not gradients or isinstance(max_norm, Gradient):
        got = ", ".join(type(thing).__name__ for thing in (max_norm, *gradients))
        raise errors.WrongParameters(
            "clip_norm takes the greatest length and then gradients",
            f"got {got}",
            "g, h = fnlib.clip_norm(1.0, *fnlib.backward(loss, a, b))",
        )
    total = norm([tensor for gradient in gradients for tensor in gradient._tensors.values()])
    scale = torch.clamp(max_norm / (total + 1e-6), max=1.0)
    return tuple([g._map(lambda tensor: tensor * scale.to(tensor.device)) for g in gradients])
