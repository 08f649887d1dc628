"""The bytes of tensors: compare them with a copy, copy them, sum them up, and change nothing.

A change is found by comparing bytes with the copy taken after the last change. Version counters
miss BatchNorm's statistics, fused optimizers, ``.data`` and NumPy. ``data_ptr()``, ``numpy()`` and
DLPack would make a copy-on-write tensor real, so they are never asked of a watched tensor.
"""

from __future__ import annotations

import ctypes
import functools
import zlib
from typing import Any

import torch
from torch import Tensor, nn

from fnlib import torch_private
from fnlib.ledger.entries import Summary
from fnlib.torch_private import (
    computes_itself,
    coordinates,
    is_cow,
    is_wrapped,
    lazy_clone,
    memory_of,
    storage_address,
)

_SAME_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_PLAIN_TYPES = (Tensor, nn.Parameter, nn.Buffer)
_ORDINARY = frozenset(
    {
        *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.uint8, torch.bool),
    }
)
_ASPECTS: tuple[Any, ...] = (  # those of a form, without a Python call for each tensor
    *(Tensor.stride, storage_address, Tensor.storage_offset, Tensor.size),
    *(Tensor.dtype.__get__, Tensor.requires_grad.__get__),  # type: ignore[attr-defined]
)
_PIECE = 1 << 20  # bytes compared at a time, so that no second copy of a large weight is made
_READ = 0x100  # PyBUF_READ

_from_memory = ctypes.pythonapi.PyMemoryView_FromMemory
_from_memory.argtypes = (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)
_from_memory.restype = ctypes.py_object


# --- where they are -----------------------------------------------------------------------------


def view_of(address: int, size: int) -> memoryview:
    """Look at bytes in memory, which must outlive the answer; nothing is copied.

    >>> numbers = torch.tensor([1, 2, 3], dtype=torch.uint8)
    >>> bytes(view_of(numbers.data_ptr(), 2))
    b'\\x01\\x02'
    """
    return _from_memory(address, size, _READ) if size else memoryview(b"")


def window(dense: Tensor) -> memoryview:
    """Look at the bytes of a contiguous CPU tensor, which must outlive the answer.

    >>> numbers = torch.tensor([1, 2, 3], dtype=torch.uint8)
    >>> bytes(window(numbers))
    b'\\x01\\x02\\x03'
    """
    return view_of(dense.data_ptr(), dense.nbytes)


def gapless(tensor: Tensor) -> bool:
    """Say whether a tensor's bytes are one piece of main memory, in whatever order."""
    if not tensor.is_cpu or tensor.is_neg() or tensor.is_conj() or not tensor.numel():
        return False
    if torch_private.data_address is None or not storage_address(tensor):
        return False
    return tensor.is_contiguous() or _extent(tensor.shape, tensor.stride()) == tensor.numel()


def start_of(tensor: Tensor) -> int:
    """Return the address of a tensor's first number; a copy-on-write tensor stays one."""
    return int(storage_address(tensor) + tensor.storage_offset() * tensor.itemsize)


Form = tuple[tuple[int, ...], int, int, tuple[int, ...], torch.dtype, bool]


def form_of(tensor: Tensor) -> Form:
    """Return strides, where the numbers are, and how large they are: what a write doesn't change."""
    where, offset = storage_address(tensor), int(tensor.storage_offset())
    return tensor.stride(), where, offset, tensor.shape, tensor.dtype, tensor.requires_grad


def forms_of(tensors: list[Tensor]) -> list[Form]:
    """Return the forms of many tensors in a few passes in C."""
    return list(zip(*[map(aspect, tensors) for aspect in _ASPECTS], strict=True))


def span_of(form: Form) -> tuple[int, int]:
    """Return the addresses of the first byte of a tensor of this form and of the one after its last."""
    strides, where, offset, shape, dtype, _ = form
    start = where + offset * dtype.itemsize
    return start, start + _extent(shape, strides) * dtype.itemsize


def address(tensor: Tensor) -> int:
    """Identify where a dense tensor's numbers begin; 0 for an empty one.

    Copies of one copy-on-write tensor share an address but no changes, so they are identified by
    their own storage.
    """
    if tensor.numel() == 0:
        return 0
    return memory_of(tensor) if is_cow(tensor) else start_of(tensor)


def _extent(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    return 1 + sum([(n - 1) * abs(s) for n, s in zip(shape, strides, strict=True)])


# --- what can be read ---------------------------------------------------------------------------


def ordinary(tensor: Tensor) -> Form | None:
    """Return the form of a tensor whose bytes can be compared where they are, else ``None``."""
    if type(tensor) not in _PLAIN_TYPES or tensor.dtype not in _ORDINARY or tensor.is_nested:
        return None
    if tensor.layout is not torch.strided or not storage_address(tensor) or not tensor.numel():
        return None
    return None if is_cow(tensor) or tensor.is_neg() else form_of(tensor)


def unreadable(tensor: Tensor) -> str | None:
    """Say why the numbers of a tensor cannot be followed, or return ``None``."""
    plain = type(tensor) in _PLAIN_TYPES and tensor.layout is torch.strided
    if plain and not (tensor.is_meta or tensor.is_nested or tensor.is_quantized):
        if storage_address(tensor) or not tensor.numel():
            return None
        return "has given its memory back (its storage was resized); it is followed once it has memory again"
    if nn.parameter.is_lazy(tensor):
        return "has no shape yet (a lazy module); it is followed once it has one"
    if is_wrapped(tensor):
        return "is inside a torch.func transform, which may not be looked into"
    if tensor.is_meta:
        return "is a meta tensor and has no numbers; only its identity is followed"
    if tensor.is_quantized:
        return "is quantized; only its identity is followed"
    if tensor.is_nested:
        return "is nested and has no shape of its own; only its identity is followed"
    if tensor.is_mkldnn:
        return "is in the oneDNN layout; only its identity is followed"
    if computes_itself(tensor) and not hasattr(tensor, "__tensor_flatten__"):
        return f"is a {type(tensor).__name__} that computes its own operations; only its identity is followed"
    return None


def parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """Return the dense tensors with a tensor's numbers: itself, or those inside of it."""
    if type(tensor) not in _PLAIN_TYPES and hasattr(tensor, "__tensor_flatten__"):
        if computes_itself(tensor):
            names, _ = tensor.__tensor_flatten__()
            inside = (getattr(tensor, name) for name in names)  # a DTensor lists its mesh, too
            return tuple(p for one in inside if isinstance(one, Tensor) for p in parts(one))
    if tensor.layout is torch.strided:
        return (tensor,)
    if tensor.layout is torch.sparse_coo:
        return coordinates(tensor)
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return (tensor.crow_indices(), tensor.col_indices(), tensor.values())
    return (tensor.ccol_indices(), tensor.row_indices(), tensor.values())


# --- comparing and copying ----------------------------------------------------------------------


def same(tensor: Tensor, copy: Tensor) -> bool:
    """Say whether a dense tensor still has the bytes of an earlier copy.

    ``memcmp`` compares 32 KB in 1 us, where `torch.equal` needs 40: it takes one integer at a time.
    Python calls it for a ``bytearray`` and a view, not for two views.
    """
    if tensor.shape != copy.shape or tensor.dtype != copy.dtype or tensor.device != copy.device:
        return False
    if is_cow(tensor) and is_cow(copy) and _place(tensor) == _place(copy):
        return True  # a write would have moved one of them away
    if not (gapless(tensor) and gapless(copy) and _one_order(tensor, copy)):
        return torch.equal(_bits(tensor), _bits(copy))
    a, b = (view_of(start_of(one), one.nbytes) for one in (tensor, copy))
    return all(
        bytearray(a[at : at + _PIECE]) == b[at : at + _PIECE] for at in range(0, len(a), _PIECE)
    )


def _one_order(a: Tensor, b: Tensor) -> bool:
    return a.stride() == b.stride() or (a.is_contiguous() and b.is_contiguous())


def _place(tensor: Tensor) -> tuple[int, int, tuple[int, ...]]:
    return storage_address(tensor), int(tensor.storage_offset()), tensor.stride()


def _bits(tensor: Tensor) -> Tensor:
    """View the bytes as integers, so that NaN equals itself and -0.0 differs from 0.0."""
    if tensor.dtype is torch.complex128:
        tensor = torch.view_as_real(tensor.resolve_conj())
    elif tensor.is_conj() or tensor.is_neg():
        tensor = tensor.resolve_conj().resolve_neg()
    return tensor.view(_SAME_SIZE[tensor.element_size()])


def copied(tensor: Tensor) -> Tensor:
    """Copy a tensor; the copy shares memory only where both are copy-on-write."""
    return lazy_clone(tensor.detach()) if is_cow(tensor) else tensor.clone()


def over(octets: bytearray, form: Form) -> Tensor:
    """Make a tensor of a gapless one's form over bytes taken from it; nothing is copied."""
    strides, _, _, shape, dtype, _ = form
    return torch.frombuffer(octets, dtype=dtype).as_strided(shape, strides)


# --- summing up ---------------------------------------------------------------------------------


def norm(tensor: Tensor) -> float | None:
    """Return the Euclidean norm; 0 for an empty tensor."""
    return torch.linalg.vector_norm(_wide(tensor)).item() if tensor.numel() else 0.0


def distance(before: Tensor, after: Tensor) -> float | None:
    """Return the norm of a difference; ``None`` for tensors of different form."""
    if before.shape != after.shape or before.dtype != after.dtype or before.device != after.device:
        return None
    return norm(_wide(after) - _wide(before))


def _wide(tensor: Tensor) -> Tensor:
    """Return the numbers in a type in which squares can be added."""
    if tensor.dtype is torch.float32:
        return tensor
    if not (tensor.dtype.is_floating_point or tensor.dtype.is_complex):
        return tensor.to(torch.float64)
    return tensor.to(torch.float32) if tensor.element_size() < 4 else tensor


def fingerprint(tensor: Tensor) -> str:
    """Return a checksum of a copy's bytes in their order, eight letters."""
    dense = tensor.clone() if is_cow(tensor) else tensor
    dense = dense.cpu().contiguous()
    if dense.dtype is not torch.float32:
        dense = _bits(dense) if dense.numel() else dense.to(torch.uint8)
    return checksum(window(dense))


def checksum(octets: bytes | bytearray | memoryview) -> str:
    """Return a checksum of bytes in their order, eight letters."""
    return f"{zlib.crc32(octets):08x}"


def summarise(
    copies: tuple[Tensor, ...],
    shape: tuple[int, ...] | None,
    token: int | None,
    keep: bool,
    octets: bytearray | None = None,
    small: bool = False,
) -> Summary:
    """Sum a tensor up from the copies of its parts.

    Args:
        copies: one for a dense tensor, indices and values for a sparse one, none if unreadable.
        shape: of the whole, where it isn't that of a single part.
        token: number of the tensor object.
        keep: whether the summary keeps the copy.
        octets: the bytes of a single copy, if they are at hand.
        small: whether the summary keeps the bytes.
    """
    if not copies:
        return Summary(shape or (), "not followed", "", None, None, token)
    main = copies[-1]
    if octets is not None and main.is_contiguous():
        print_ = checksum(octets)
    else:
        print_ = "".join([fingerprint(copy) for copy in copies])
    whole = tuple(main.shape) if shape is None else shape
    summary = Summary(whole, name_of(main.dtype), name_of(main.device), norm(main), print_, token)
    if keep:
        summary.value = main
    elif small and main.numel() and tuple(main.shape) == whole:
        at_hand = octets is not None and main.is_contiguous()
        summary.octets = octets if at_hand else octets_of(main)
    return summary


def octets_of(tensor: Tensor) -> bytearray:
    """Copy a tensor's bytes in the order of its numbers."""
    dense = tensor.clone() if is_cow(tensor) else tensor
    return bytearray(window(dense.resolve_conj().resolve_neg().cpu().contiguous()))


@functools.cache
def name_of(kind: torch.dtype | torch.device) -> str:
    """Name a type of number or a device: ``float32``, ``cpu``."""
    return str(kind).removeprefix("torch.")
