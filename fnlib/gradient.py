"""Gradient: what backward returns, as an immutable value."""

from __future__ import annotations

import numbers
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fnlib import errors
from fnlib.show.table import Table
from fnlib.show.tensors import tensor_table
from fnlib.values.protect import Tensors, detached, owned, register_as_mapping, share, unchangeable
from fnlib.values.trees import map_tree, same_tree
from fnlib.values.vectors import factor, norm, same_kind


class Gradient(Tensors):
    """For each weight that a loss depends on, the derivative of the loss with respect to it.

    A weight without an entry (where PyTorch's ``.grad`` is ``None``) is left as it is by ``step``.
    Gradients add, scale and negate like vectors; an absent entry is zero. The results are new
    values. Equality compares names and bytes, the hash is that of the object.

    Args:
        mapping: weight names to tensors of the weights' shapes.

    >>> g = Gradient({"w": torch.tensor([3.0, 4.0])})
    >>> float(g.norm()), (g + g)["w"], (-g / 2)["w"]
    (5.0, tensor([6., 8.]), tensor([-1.5000, -2.0000]))
    >>> sum([g, g, g])["w"]
    tensor([ 9., 12.])
    """

    __slots__ = ("__weakref__", "_network")
    _network: object  # whose names and shapes these are, so that step need not check again
    __array_ufunc__ = None  # `numpy_number * gradient` is ours to compute

    def __init__(self, mapping: Mapping[str, Tensor]) -> None:
        wrong = None if isinstance(mapping, Mapping) else f"got {type(mapping).__name__}"
        for name in mapping if wrong is None else ():
            if not isinstance(mapping[name], Tensor):
                wrong = f"'{name}' is {type(mapping[name]).__name__}"
        if wrong is not None:
            right = "fnlib.Gradient({name: tensor, ...})"
            raise errors.WrongParameters(
                "A gradient is a mapping of names to tensors", wrong, right
            )
        super().__init__({name: owned(mapping[name]) for name in mapping})
        self._network = None

    @classmethod
    def _of(cls, tensors: Mapping[str, Tensor], network: object = None) -> Gradient:
        """Take tensors that nobody else will write to."""
        self = cls.__new__(cls)
        self._tensors, self._ties, self._network = tensors, {}, network
        return self

    def __getitem__(self, name: str) -> Tensor:
        try:
            return super().__getitem__(name)
        except KeyError:
            raise KeyError(
                f"{name!r}: the loss doesn't depend on it, or no weight has this name. "
                f"This gradient has {', '.join(self._tensors)}"
            ) from None

    def __bool__(self) -> bool:
        return True

    # --- measuring --------------------------------------------------------------------------------

    def norm(self) -> Tensor:
        """Return the Euclidean length over all entries, as a tensor without dimensions.

        The same bits as the value that ``torch.nn.utils.clip_grad_norm_`` returns.

        >>> Gradient({"a": torch.ones(2, 2), "b": torch.zeros(3)}).norm()
        tensor(2.)
        """
        return norm(list(self._tensors.values()))

    def clip_norm(self, max_norm: float) -> Gradient:
        """Shorten the gradient to a length of at most `max_norm`, and keep its direction.

        Args:
            max_norm: the greatest length.

        Returns:
            A new gradient: the bits that ``torch.nn.utils.clip_grad_norm_`` would leave in ``.grad``.

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
            A new gradient.

        Raises:
            WrongParameters: the function returned something else.

        >>> Gradient({"w": torch.tensor([3.0, -4.0])}).map(lambda g: g.clamp(-1, 1))["w"]
        tensor([ 1., -1.])
        """

        def mapped(tensor: Tensor) -> Tensor:
            found = function(share(tensor))
            if not isinstance(found, Tensor) or found.shape != tensor.shape:
                got = getattr(found, "shape", None)
                raise errors.WrongParameters(
                    "map takes a function from a tensor to one of the same shape",
                    f"got {type(found).__name__ if got is None else f'shape {tuple(got)}'} "
                    f"for shape {tuple(tensor.shape)}",
                    "gradient.map(lambda g: g.clamp(-1, 1))",
                )
            right = "gradient.map(lambda g: g.round())   # of the same dtype"
            found = found.clone()  # the function may have kept a reference
            return same_kind(found, tensor, "This function", right)

        return self._map(mapped)

    # --- the algebra of vectors -------------------------------------------------------------------

    def _map(self, function: Callable[[Tensor], Tensor]) -> Gradient:
        tensors = {name: function(tensor) for name, tensor in self._tensors.items()}
        return Gradient._of(tensors, self._network)

    def __add__(self, other: object) -> Gradient:
        if isinstance(other, numbers.Real) and float(other) == 0:
            return self  # where sum() begins
        if not isinstance(other, Gradient):
            return NotImplemented
        mine, theirs = self._tensors, other._tensors
        for name in mine.keys() & theirs.keys():
            if mine[name].shape != theirs[name].shape:
                shapes = tuple(mine[name].shape), tuple(theirs[name].shape)
                raise errors.WrongParameters(
                    "These gradients don't belong to the same network",
                    f"'{name}' has shape {shapes[0]} in one and {shapes[1]} in the other",
                    "gradient = model.backward(loss_a) + model.backward(loss_b)   # of one model",
                )
        both = {name: mine[name] + theirs[name] for name in mine if name in theirs}
        same = self._network is other._network
        # In the order of `mine`, then of `theirs`.
        return Gradient._of({**mine, **theirs, **both}, self._network if same else None)

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

    # --- being a value ----------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        """Compare names and bytes (NaN equals NaN)."""
        if not isinstance(other, Gradient):
            return NotImplemented
        return same_tree(self._tensors, other._tensors)

    __hash__ = object.__hash__  # by identity: equal gradients may have different hashes

    def __reduce__(self) -> Any:
        return Gradient, (dict(detached(self._tensors)),)

    def __deepcopy__(self, memo: dict[int, Any]) -> Gradient:
        return Gradient._of(map_tree(Tensor.clone, self._tensors), self._network)

    def __setitem__(self, name: str, tensor: Tensor | None) -> None:
        raise unchangeable("gradient", name, f"fnlib.Gradient({{**gradient, '{name}': tensor}})")

    def __delitem__(self, name: str) -> None:
        self[name] = None

    def _table(self) -> Table:
        return tensor_table("Gradient", {"total": self._tensors})


register_as_mapping(Gradient)


def clip_norm(max_norm: float, *gradients: Gradient) -> tuple[Gradient, ...]:
    """Shorten several gradients to one joint length, and keep their direction.

    Args:
        max_norm: the greatest length over all entries of all gradients.
        gradients: of several models, as ``fnlib.backward(loss, a, b)`` returns them.

    Returns:
        New gradients, in their order: the bits that ``torch.nn.utils.clip_grad_norm_`` would leave
        if it were given the parameters of all models.

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
