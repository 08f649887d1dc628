"""Comparing and copying bytes where they lie: Python goes through a whole weight in the time that PyTorch needs for a few rows.

``torch.equal`` compares integers one by one, about 40 microseconds for 32 KB. A ``bytearray`` and a view of memory are
compared by the C library's ``memcmp``, which takes one; two views would be compared number by number.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fnlib.ledger.looks.octets import view_of

storage_address: Callable[[Tensor], int] = torch._C._data_address  # type: ignore[attr-defined]
_PIECE = 1 << 20


def gapless(tensor: Tensor) -> bool:
    """Whether an ordinary tensor lies in main memory without gaps, in whatever order, so that its bytes can be read as they lie."""
    if (
        not tensor.is_cpu
        or tensor.is_neg()
        or tensor.is_conj()
        or not tensor.numel()
        or not storage_address(tensor)
    ):
        return False
    if tensor.is_contiguous():
        return True
    return (
        1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
        == tensor.numel()
    )


def start_of(tensor: Tensor) -> int:
    """The address of the first number of a tensor that is not empty; a copy-on-write tensor stays one."""
    return int(storage_address(tensor) + tensor.storage_offset() * tensor.itemsize)


def over(octets: bytearray, tensor: Tensor) -> Tensor:
    """A tensor of the form of a gapless one, over bytes taken from it; nothing is copied."""
    flat = torch.frombuffer(octets, dtype=tensor.dtype)
    return (
        flat.view(tensor.shape)
        if tensor.is_contiguous()
        else flat.as_strided(tensor.shape, tensor.stride())
    )


def differ(one: Tensor, other: Tensor) -> bool:
    """Whether two gapless tensors of one form hold different bytes."""
    a, b = view_of(start_of(one), one.nbytes), view_of(start_of(other), other.nbytes)
    return any(
        bytearray(a[at : at + _PIECE]) != b[at : at + _PIECE] for at in range(0, len(a), _PIECE)
    )
