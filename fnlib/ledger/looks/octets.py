"""The bytes of a tensor. PyTorch offers them through NumPy only, which `fnlib` does not require."""

from __future__ import annotations

import ctypes

from torch import Tensor


def octets(dense: Tensor) -> bytes:
    """Copy the bytes of a contiguous tensor on the CPU.

    Args:
        dense: contiguous, on the CPU.

    Returns:
        Its bytes in their order.

    Example:
        >>> import torch
        >>> octets(torch.tensor([1, 2, 3], dtype=torch.uint8))
        b'\\x01\\x02\\x03'
    """
    return (
        ctypes.string_at(dense.data_ptr(), dense.numel() * dense.element_size())
        if dense.numel()
        else b""
    )


def window(dense: Tensor) -> memoryview:
    """Look at the bytes of a contiguous tensor on the CPU where they lie.

    Args:
        dense: contiguous, on the CPU; it must outlive the answer.

    Returns:
        Its bytes in their order, not copied.

    Example:
        >>> import torch
        >>> numbers = torch.tensor([1, 2, 3], dtype=torch.uint8)
        >>> bytes(window(numbers))
        b'\\x01\\x02\\x03'
    """
    return view_of(dense.data_ptr(), dense.nbytes)


def view_of(address: int, size: int) -> memoryview:
    """Look at bytes where they lie.

    Args:
        address: of the first of them; they must outlive the answer.
        size: their number.

    Returns:
        The bytes, not copied.

    Example:
        >>> import torch
        >>> numbers = torch.tensor([1, 2, 3], dtype=torch.uint8)
        >>> bytes(view_of(numbers.data_ptr(), 2))
        b'\\x01\\x02'
    """
    return _from_memory(address, size, _READ) if size else memoryview(b"")


_READ = 0x100  # PyBUF_READ
_from_memory = ctypes.pythonapi.PyMemoryView_FromMemory
_from_memory.argtypes, _from_memory.restype = (
    (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int),
    ctypes.py_object,
)
