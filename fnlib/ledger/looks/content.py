"""Reading tensors without touching them: compare with an earlier copy, copy, summarise.

A change is found by comparing bytes with the copy taken after the last change. Version counters are not used: they
miss BatchNorm's statistics, fused optimizers, ``.data`` and NumPy. Reading must not make a copy-on-write tensor
real, so ``data_ptr()``, ``numpy()`` and DLPack are never asked of a tensor that is watched.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]
from torch.utils._python_dispatch import _disable_current_modes

from fnlib.ledger.entries import Summary
from fnlib.ledger.looks.memory import differ, gapless, start_of, storage_address
from fnlib.ledger.looks.octets import window

is_cow: Callable[[Tensor], bool] = torch._C._is_cow_tensor  # type: ignore[attr-defined]
SAME_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_PLAIN_TYPES = (Tensor, nn.Parameter, nn.Buffer)


class quietly:
    """Run PyTorch operations that no mode, hook or graph of the watched program takes notice of."""

    __slots__ = ("_functions", "_inference", "_modes")

    def __enter__(self) -> None:
        self._functions, self._inference = (
            torch._C.DisableTorchFunction(),
            torch._C._InferenceMode(True),
        )
        self._modes = _disable_current_modes() if torch._C._len_torch_dispatch_stack() else None
        self._functions.__enter__()
        self._inference.__enter__()
        if self._modes is not None:
            self._modes.__enter__()

    def __exit__(self, *error: Any) -> None:
        if self._modes is not None:
            self._modes.__exit__(*error)
        self._inference.__exit__(*error)
        self._functions.__exit__(*error)


def unreadable(tensor: Tensor) -> str | None:
    """Say why the numbers of a tensor cannot be followed, or return ``None``."""
    if (
        type(tensor) in _PLAIN_TYPES
        and tensor.layout is torch.strided
        and not (tensor.is_meta or tensor.is_nested or tensor.is_quantized)
    ):
        if storage_address(tensor) or not tensor.numel():
            return None
        return "has given its memory back (its storage was resized); it is followed once it has memory again"
    if isinstance(tensor, UninitializedTensorMixin):
        return "has no shape yet (a lazy module); it is followed once it has one"
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return "is inside a torch.func transform, which may not be looked into"
    if tensor.is_meta:
        return "is a meta tensor and has no numbers; only its identity is followed"
    if tensor.is_quantized:
        return "is quantized; only its identity is followed"
    if tensor.is_nested:
        return "is nested and has no shape of its own; only its identity is followed"
    if tensor.layout is torch._mkldnn:  # type: ignore[attr-defined]
        return "is in the oneDNN layout; only its identity is followed"
    if torch._C._dispatch_keys(tensor).has(torch._C.DispatchKey.Python) and not hasattr(
        tensor, "__tensor_flatten__"
    ):
        return f"is a {type(tensor).__name__} that computes its own operations; only its identity is followed"
    return None


def parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """The dense tensors that hold a tensor's numbers: itself, or those of a sparse or wrapping one."""
    layout = tensor.layout
    if type(tensor) not in _PLAIN_TYPES and hasattr(tensor, "__tensor_flatten__"):
        if torch._C._dispatch_keys(tensor).has(torch._C.DispatchKey.Python):
            names, _ = tensor.__tensor_flatten__()
            return tuple(part for name in names for part in parts(getattr(tensor, name)))
    if layout is torch.strided:
        return (tensor,)
    if layout is torch.sparse_coo:
        return (tensor._indices(), tensor._values())
    if layout in (torch.sparse_csr, torch.sparse_bsr):
        return (tensor.crow_indices(), tensor.col_indices(), tensor.values())
    return (tensor.ccol_indices(), tensor.row_indices(), tensor.values())


def address(tensor: Tensor) -> int:
    """Where a dense tensor's numbers begin, copy-on-write tensors left as they are; 0 for an empty one.

    Copies of one copy-on-write tensor share an address and yet do not share changes, so they give their own
    storage's instead.
    """
    if tensor.numel() == 0:
        return 0
    if is_cow(tensor):
        return int(tensor.untyped_storage()._cdata)
    return start_of(tensor)


def span(tensor: Tensor, start: int) -> tuple[int, int]:
    """The addresses of a dense tensor's first byte and after its last: what tells whether two of them overlap."""
    if tensor.is_contiguous():
        return start, start + tensor.nbytes
    extent = 1 + sum((n - 1) * abs(s) for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + extent * tensor.element_size()


def _bits(tensor: Tensor) -> Tensor:
    """The same bytes as integers, so that NaN equals itself and -0.0 does not equal 0.0."""
    if tensor.dtype in (torch.complex128,):
        tensor = torch.view_as_real(tensor.resolve_conj())
    elif tensor.is_conj() or tensor.is_neg():
        tensor = tensor.resolve_conj().resolve_neg()
    return tensor.view(SAME_SIZE[tensor.element_size()])


def same(tensor: Tensor, copy: Tensor) -> bool:
    """Whether a dense tensor still holds the bytes of an earlier copy. Reads, and nothing else."""
    if tensor.shape != copy.shape or tensor.dtype != copy.dtype or tensor.device != copy.device:
        return False
    if is_cow(tensor) and is_cow(copy) and _place(tensor) == _place(copy):
        return True  # nobody can have written here: a write would have moved one of them away
    if (
        gapless(tensor)
        and gapless(copy)
        and (tensor.stride() == copy.stride() or (tensor.is_contiguous() and copy.is_contiguous()))
    ):
        return not differ(tensor, copy)
    return torch.equal(_bits(tensor), _bits(copy))


def _place(tensor: Tensor) -> tuple[int, int, tuple[int, ...]]:
    return storage_address(tensor), int(tensor.storage_offset()), tensor.stride()


def copied(tensor: Tensor) -> Tensor:
    """An independent copy; shared and free where the tensor is copy-on-write already."""
    return torch._lazy_clone(tensor.detach()) if is_cow(tensor) else tensor.clone()


def norm(tensor: Tensor) -> float | None:
    """Euclidean norm as a number; ``None`` where there is none (an empty or integer-coded tensor)."""
    if tensor.numel() == 0:
        return 0.0
    return torch.linalg.vector_norm(_wide(tensor)).item()


def _wide(tensor: Tensor) -> Tensor:
    """The numbers in a type in which squares can be added."""
    if tensor.dtype is torch.float32:
        return tensor
    if not (tensor.dtype.is_floating_point or tensor.dtype.is_complex):
        return tensor.to(torch.float64)
    return tensor.to(torch.float32) if tensor.element_size() < 4 else tensor


def distance(before: Tensor, after: Tensor) -> float | None:
    """Norm of the difference of two copies; ``None`` if they are not of one shape and kind."""
    if before.shape != after.shape or before.dtype != after.dtype or before.device != after.device:
        return None
    return norm(_wide(after) - _wide(before))


def fingerprint(tensor: Tensor) -> str:
    """A checksum of the bytes in their order, eight letters; of a copy that nobody else holds."""
    dense = tensor.clone() if is_cow(tensor) else tensor
    if not dense.is_cpu:
        dense = dense.cpu()
    if not dense.is_contiguous():
        dense = dense.contiguous()
    if dense.dtype is not torch.float32:
        dense = _bits(dense) if dense.numel() else dense.to(torch.uint8)
    return checksum(window(dense))


def checksum(octets: bytearray | memoryview) -> str:
    """A checksum of bytes in their order, eight letters."""
    return f"{zlib.crc32(octets):08x}"


def summarise(
    copies: tuple[Tensor, ...],
    shape: tuple[int, ...] | None,
    token: int | None,
    keep: bool,
    octets: bytearray | None = None,
) -> Summary:
    """Sum a tensor up from the copies of its parts; the numbers themselves are kept only if asked.

    Args:
        copies: one for a dense tensor; indices and values of a sparse one; none if it could not be read.
        shape: of the whole, where it is not that of a single part.
        octets: the bytes of a single copy as they lie, if they are at hand.
    """
    if not copies:
        return Summary(shape or (), "not followed", "", None, None, token)
    main = copies[-1]
    return Summary(
        tuple(main.shape) if shape is None else shape,
        name_of(main.dtype),
        name_of(main.device),
        norm(main),
        checksum(octets)
        if octets is not None and main.is_contiguous()
        else "".join([fingerprint(copy) for copy in copies]),
        token,
        main if keep else None,
    )


@functools.cache
def name_of(kind: torch.dtype | torch.device) -> str:
    """``float32``, ``cpu``."""
    return str(kind).removeprefix("torch.")
