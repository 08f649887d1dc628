"""Tensors that can be handed out: whatever is written to them does not reach the value they came from.

A value must not change when somebody writes to a tensor that it handed out, and there are many ways to
write: `add_`, `out=`, `.data`, NumPy, fused kernels. All of them end in the tensor's storage, so that is
where the protection sits: a *copy-on-write* tensor shares the memory of its origin until it is first
written to, and takes a copy of its own then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

from fnlib.show.table import Table, Tabular
from fnlib.show.tensors import tensor_table

# Private in PyTorch 2.13: 0.4 us and no memory, where clone takes 1.3 us and a copy. Used where it exists.
_lazy_clone: Callable[[Tensor], Tensor] | None = getattr(Tensor, "_lazy_clone", None)
lazy_clone: Callable[[Tensor], Tensor] = _lazy_clone or Tensor.clone
_is_cow: Callable[[Tensor], bool] = getattr(torch._C, "_is_cow_tensor", lambda tensor: False)
_in_transform: Callable[[Tensor], bool] = torch._C._functorch.is_functorch_wrapped_tensor
_active_transform: Callable[[], object] = torch._C._functorch.peek_interpreter_stack


def share(tensor: Tensor) -> Tensor:
    """Return a copy-on-write copy: same content, and writes to either do not reach the other.

    Args:
        tensor: any tensor. Gradients flow through the copy, as through `clone`.

    Returns:
        A tensor of the same shape, strides, dtype and device. Where PyTorch cannot share lazily
        (sparse tensors, memory that it did not allocate) the copy is made at once.

    >>> a = torch.zeros(2)
    >>> share(a).add_(1)
    tensor([1., 1.])
    >>> a
    tensor([0., 0.])
    """
    if _active_transform() is not None:
        if _in_transform(tensor):  # the transform owns the tensor, and a copy would hide it
            return tensor
        with outside_transforms():
            return share(tensor)
    if _lazy_clone is not None and type(tensor) in (Tensor, torch.nn.Parameter):
        try:
            return _lazy_clone(tensor)
        except (RuntimeError, NotImplementedError):
            pass
    return tensor.clone()


def share_all(tensors: Collection[Tensor]) -> list[Tensor]:
    """Share a list of tensors. The same as `share` on each, at a third of the cost in the common case.

    >>> share_all([torch.zeros(1), torch.ones(1)])
    [tensor([0.]), tensor([1.])]
    """
    if _lazy_clone is not None and _active_transform() is None:
        try:
            return list(map(_lazy_clone, tensors))
        except (RuntimeError, NotImplementedError):
            pass
    return [share(tensor) for tensor in tensors]


_INTEGER_OF_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Say whether two tensors are equal byte for byte: NaN equals NaN, and 0.0 differs from -0.0.

    >>> same_bits(torch.tensor(float("nan")), torch.tensor(float("nan")))
    True
    >>> same_bits(torch.tensor(0.0), torch.tensor(-0.0))
    False
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

    A tensor that is still copy-on-write has not been written to. One that is not may have been: some
    kernels (LSTM's, for one) ask for writable memory and only read, so that the bytes decide.
    """
    return _in_transform(tensor) or _is_cow(tensor) or same_bits(tensor, origin)


def all_unchanged(tensors: Collection[Tensor], origins: Collection[Tensor]) -> bool:
    """Say whether nothing was written to any of `tensors` since they were shared from `origins`."""
    return (not in_transform() and all(map(_is_cow, tensors))) or all(
        map(unchanged, tensors, origins)
    )


def in_transform() -> bool:
    """Say whether a transform of ``torch.func`` is running: its tensors belong to it and must not outlive it."""
    return _active_transform() is not None


@contextlib.contextmanager
def outside_transforms() -> Iterator[None]:
    """Step out of the transforms of ``torch.func`` that are running, to work on tensors that are not theirs."""
    if not in_transform():
        yield
        return
    from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

    with temporarily_clear_interpreter_stack():
        yield


class Tensors(Tabular, Mapping[str, Tensor]):
    """Named tensors that are read, never changed: each one is handed out copy-on-write.

    >>> weights = Tensors({"w": torch.zeros(2)})
    >>> weights["w"].fill_(7)
    tensor([7., 7.])
    >>> weights["w"]
    tensor([0., 0.])
    """

    __slots__ = ("_tensors",)
    _tensors: Mapping[str, Tensor]

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def __getitem__(self, name: str) -> Tensor:
        return share(self._tensors[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def _table(self) -> Table:
        return tensor_table("Tensors", {"total": self._tensors})


_ATOMS = frozenset({type(None), bool, int, float, str})


def map_tree(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """Copy a tree of dicts, lists and tuples with `function` applied to its tensors."""
    if isinstance(tree, Tensor):
        return function(tree)
    if type(tree) in _ATOMS:
        return tree
    if isinstance(tree, Mapping):
        return {key: map_tree(function, value) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(map_tree(function, value) for value in tree))
    if isinstance(tree, (list, tuple)):
        return type(tree)(map_tree(function, value) for value in tree)
    return tree


def same_tree(a: Any, b: Any) -> bool:
    """Compare two trees of dicts, lists, tuples, tensors (by bytes), numbers and strings (NaN equals NaN)."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and same_bits(a, b)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same_tree(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same_tree, a, b))
    if type(a) is not type(b):
        return False
    return bool(a == b) or (a != a and b != b)


def _as_dict(mapping: Mapping[str, Tensor]) -> tuple[list[Tensor], list[str]]:
    return [mapping[name] for name in mapping], list(mapping)


def register_as_tree(kind: type) -> None:
    """Let `torch.func` and `torch.compile` see a mapping of tensors as a dict of its tensors."""
    _pytree.register_pytree_node(
        kind,
        _as_dict,
        lambda tensors, names: dict(zip(names, tensors, strict=True)),
        serialized_type_name=f"fnlib.{kind.__name__}",
    )


register_as_tree(Tensors)
