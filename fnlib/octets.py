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
    return ctypes.string_at(dense.data_ptr(), dense.numel() * dense.element_size()) if dense.numel() else b""
