"""Hand tensors out and take tensors over so that no later write reaches a value.

`add_`, `out=`, `.data`, NumPy and fused kernels all write to a tensor's storage. A *copy-on-write*
tensor shares the storage of its origin until one of the two is written to, and then takes a copy.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Iterator, Mapping

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from fnlib import errors
from fnlib.show.table import Table, Tabular
from fnlib.show.tensors import tensor_table
from fnlib.torch_private import (
    active_transform,
    is_cow,
    is_wrapped,
    lazily_cloned,
    outside_transforms,
    register_as_tree,
)

_REQUIRES_GRAD = operator.attrgetter("requires_grad")


# --- handing out ----------------------------------------------------------------------------------


def share(tensor: Tensor) -> Tensor:
    """Return a copy-on-write copy: same content, and a write to either doesn't reach the other.

    Gradients flow through the copy, as through `clone`. Where PyTorch cannot share lazily (sparse
    tensors, memory that it did not allocate), the copy is made at once.

    >>> a = torch.zeros(2)
    >>> share(a).add_(1), a
    (tensor([1., 1.]), tensor([0., 0.]))
    """
    if active_transform() is not None:
        if is_wrapped(tensor):  # the transform owns the tensor, and a copy would hide it
            return tensor
        with outside_transforms():
            return share(tensor)
    if lazily_cloned is not None and type(tensor) in (Tensor, torch.nn.Parameter):
        try:
            return lazily_cloned(tensor)
        except (RuntimeError, NotImplementedError):
            pass
    return tensor.clone()


def share_all(tensors: Collection[Tensor]) -> list[Tensor]:
    """Share a list of tensors: `share` on each, at a third of the cost in the common case.

    >>> share_all([torch.zeros(1), torch.ones(1)])
    [tensor([0.]), tensor([1.])]
    """
    if lazily_cloned is not None and active_transform() is None:
        try:
            return list(map(lazily_cloned, tensors))
        except (RuntimeError, NotImplementedError):
            pass
    return [share(tensor) for tensor in tensors]


class Tensors(Tabular, Mapping[str, Tensor]):
    """Named tensors to read: each one is handed out copy-on-write.

    `ties` maps second names of tied tensors to their first names.

    >>> weights = Tensors({"w": torch.zeros(2)})
    >>> _ = weights["w"].fill_(7)
    >>> weights["w"]
    tensor([0., 0.])
    """

    __slots__ = ("_tensors", "_ties")
    _tensors: Mapping[str, Tensor]  # themselves, for use inside of fnlib
    _ties: Mapping[str, str]

    def __init__(
        self, tensors: Mapping[str, Tensor], ties: Mapping[str, str] | None = None
    ) -> None:
        self._tensors, self._ties = tensors, ties or {}

    def __getitem__(self, name: str) -> Tensor:
        return share(self._tensors[self._ties.get(name, name)])

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def _table(self) -> Table:
        return tensor_table("Tensors", {"total": self._tensors})


class Weights(Tensors):
    """Named tensors that are handed out as they are, for autograd to find."""

    __slots__ = ()

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[self._ties.get(name, name)]


class Unassignable(Tabular):
    """Refuse to assign to an entry, with the line that makes another value."""

    __slots__ = ()
    _instead: str  # that line, with a place for the name of the entry

    def __setitem__(self, name: str, tensor: Tensor | None) -> None:
        variable = type(self).__name__.lower()
        raise errors.Immutable(
            f"{variable.capitalize().removesuffix('s')}s never change: every other name for this "
            "value would see the change too.",
            f"{variable}['{name}'] = tensor",
            "writes into the value",
            f"{variable} = {self._instead.format(name)}   # right: makes a new value",
        )

    def __delitem__(self, name: str) -> None:
        self[name] = None


# --- taking over ----------------------------------------------------------------------------------


def owned(tensor: Tensor) -> Tensor:
    """Take over a tensor that a user gives, as a copy: NumPy may write to its memory unnoticed."""
    if is_wrapped(tensor):
        return tensor
    with outside_transforms():
        return tensor.detach().clone()


def has_graph(weights: Iterable[Tensor]) -> bool:
    """Say whether weights carry a graph: inside of a transform it's the transform's to follow."""
    return any(map(_REQUIRES_GRAD, weights)) and not in_transform()


def detached(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return tensors without a graph: themselves, where they have none."""
    if any(map(_REQUIRES_GRAD, tensors.values())):
        return {name: tensors[name].detach() for name in tensors}
    return tensors


def carried(tensor: Tensor) -> Tensor:
    """Take over a weight that a user gives, with the graph and the tangent behind it."""
    follows = tensor.requires_grad and torch.is_grad_enabled()
    if is_wrapped(tensor) or not (follows or unpack_dual(tensor).tangent is not None):
        return owned(tensor)
    return tensor.clone()


def kept(tensor: Tensor) -> Tensor:
    """Take over a tensor that an update rule made: what it writes to it later has no effect."""
    # An expanded tensor repeats one place of memory, which a later step could not update in place.
    dense = tensor.layout is not torch.strided or tensor.is_contiguous()
    shared = share(tensor) if dense else tensor.clone()
    return shared.detach() if shared.requires_grad else shared


# --- comparing ------------------------------------------------------------------------------------

_INTEGER_OF_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Say whether two tensors are equal byte for byte: NaN equals NaN, 0.0 differs from -0.0.

    >>> same_bits(torch.tensor(torch.nan), torch.tensor(torch.nan))
    True
    """
    if a is b:
        return True
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device or a.layout != b.layout:
        return False
    if a.is_meta or a.numel() == 0:
        return True
    if a.layout is not torch.strided:
        a, b = a.coalesce(), b.coalesce()
        return same_bits(a.indices(), b.indices()) and same_bits(a.values(), b.values())
    if not a.is_floating_point() and not a.is_complex():
        return torch.equal(a, b)
    a, b = a.detach(), b.detach()
    if a.is_complex():
        a, b = torch.view_as_real(a.resolve_conj()), torch.view_as_real(b.resolve_conj())
    whole = _INTEGER_OF_SIZE[a.element_size()]  # four times as fast as byte by byte
    return torch.equal(a.resolve_neg().view(whole), b.resolve_neg().view(whole))


def unchanged(tensor: Tensor, origin: Tensor) -> bool:
    """Say whether nothing was written to `tensor` since it was shared from `origin`.

    Some kernels (LSTM's) ask for writable memory and only read it; then the bytes decide.
    """
    return is_wrapped(tensor) or is_cow(tensor) or same_bits(tensor, origin)


def all_unchanged(tensors: Collection[Tensor], origins: Collection[Tensor]) -> bool:
    """Say whether nothing was written to any of `tensors` since they were shared."""
    if active_transform() is None and all(map(is_cow, tensors)):
        return True
    return all(map(unchanged, tensors, origins))


def is_sharded(tensor: Tensor) -> bool:
    """Say whether a tensor is a DTensor, of which each rank holds a part."""
    return type(tensor) is not Tensor and hasattr(tensor, "device_mesh")  # importing it is slow


def is_share(tensor: Tensor) -> bool:
    """Say whether this rank's numbers of a tensor differ from other ranks' by design."""
    return is_sharded(tensor) and not all(one.is_replicate() for one in tensor.placements)  # type: ignore[attr-defined]


def in_transform() -> bool:
    """Say whether a transform of ``torch.func`` runs, whose tensors must not outlive it."""
    return active_transform() is not None


def register_as_mapping(kind: type) -> None:
    """Let `torch.func` and `torch.compile` see a mapping of tensors as a dict of its tensors."""
    register_as_tree(
        kind,
        lambda mapping: ([mapping[name] for name in mapping], list(mapping)),
        lambda tensors, names: dict(zip(names, tensors, strict=True)),
    )


register_as_mapping(Tensors)
register_as_mapping(Weights)
