"""Gradient: what backward returns, as an immutable value."""

from __future__ import annotations

import numbers
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from fnlib import errors
from fnlib.show.table import Table, Tabular
from fnlib.show.tensors import tensor_table
from fnlib.values.protect import owned, register_as_mapping, share
from fnlib.values.trees import map_tree, same_tree

_REQUIRES_GRAD = operator.attrgetter("requires_grad")


class Gradient(Tabular, Mapping[str, Tensor]):
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

    __slots__ = ("__weakref__", "_network", "_tensors")
    _tensors: dict[str, Tensor]
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
        self._tensors = {name: owned(mapping[name]) for name in mapping}
        self._network = None

    @classmethod
    def _of(cls, tensors: dict[str, Tensor], network: object = None) -> Gradient:
        """Take tensors that nobody else will write to."""
        self = cls.__new__(cls)
        self._tensors, self._network = tensors, network
        return self

    @property
    def detached(self) -> dict[str, Tensor]:
        """The tensors without a graph, for use inside of fnlib: a step isn't differentiated."""
        if any(map(_REQUIRES_GRAD, self._tensors.values())):
            return {name: tensor.detach() for name, tensor in self._tensors.items()}
        return self._tensors

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

    # --- measuring --------------------------------------------------------------------------------

    def norm(self) -> Tensor:
        """Return the Euclidean length over all entries, as a tensor without dimensions.

        The same bits as the value that ``torch.nn.utils.clip_grad_norm_`` returns.

        >>> Gradient({"a": torch.ones(2, 2), "b": torch.zeros(3)}).norm()
        tensor(2.)
        """
        return _norm(list(self._tensors.values()))

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
            return _same_kind(found.clone(), tensor)  # the function may have kept a reference

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

    def __mul__(self, factor: float | Tensor) -> Gradient:
        number = _number(factor)
        if number is None:
            return NotImplemented
        return self._map(lambda tensor: _same_kind(tensor * number, tensor))

    __rmul__ = __mul__

    def __truediv__(self, divisor: float | Tensor) -> Gradient:
        number = _number(divisor)
        if number is None:
            return NotImplemented
        return self._map(lambda tensor: _same_kind(tensor / number, tensor))

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
        return Gradient, (self.detached,)

    def __deepcopy__(self, memo: dict[int, Any]) -> Gradient:
        return Gradient._of(map_tree(Tensor.clone, self._tensors), self._network)

    def __setitem__(self, name: str, tensor: Tensor) -> None:
        raise errors.Immutable("Gradient", name)

    def __delitem__(self, name: str) -> None:
        raise errors.Immutable("Gradient", name)

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
    norm = _norm([tensor for gradient in gradients for tensor in gradient._tensors.values()])
    coefficient = torch.clamp(max_norm / (norm + 1e-6), max=1.0)
    return tuple([g._map(lambda tensor: tensor * coefficient.to(tensor.device)) for g in gradients])


def _norm(tensors: list[Tensor]) -> Tensor:
    """Return the length over all tensors, with a graph if they have one."""
    if not any(tensor.requires_grad for tensor in tensors):
        return torch.nn.utils.get_total_norm(tensors)
    device = tensors[0].device  # get_total_norm runs under no_grad
    norms = [torch.linalg.vector_norm(tensor).to(device) for tensor in tensors]
    return torch.linalg.vector_norm(torch.stack(norms))


def _number(factor: Any) -> Any:
    """Return a factor as a tensor without dimensions or Python's own number (NumPy's too), or None."""
    if isinstance(factor, Tensor):
        return factor.detach().reshape(()) if factor.numel() == 1 else None
    if isinstance(factor, numbers.Integral):
        return None if isinstance(factor, bool) else int(factor)
    if isinstance(factor, numbers.Real):
        return None if isinstance(factor, numbers.Rational) else float(factor)
    return complex(factor) if isinstance(factor, numbers.Complex) else None


def _same_kind(result: Tensor, like: Tensor) -> Tensor:
    if result.dtype != like.dtype:
        raise errors.WrongParameters(
            "This factor would change the dtype of the gradient",
            f"{like.dtype} would become {result.dtype}",
            "gradient * 0.5   # a real number for a real gradient",
        )
    return result
