"""A tensor as a small heat map: at most 16 x 16 means, one byte each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

SIDE = 16  # rows and columns at most
_MOST, NOT_FINITE = 127, -128


@dataclass(frozen=True, slots=True)
class Heat:
    """Rows and columns of means; ``octets`` are signed bytes in units of ``scale`` / 127.

    -128 stands for a mean that is infinite or not a number.
    """

    rows: int
    columns: int
    scale: float
    octets: bytes


def heat_of(tensor: Tensor, side: int = SIDE) -> Heat | None:
    """Draw a tensor as means over equal blocks.

    A tensor of one dimension becomes a strip; of more than two, all but the first are one.

    Args:
        tensor: of any shape and type of number.
        side: rows and columns at most.

    Returns:
        The heat map; ``None`` for a tensor of one number or none.

    Example:
        >>> drawn = heat_of(torch.tensor([[1.0, 3.0], [-4.0, 0.0]]))
        >>> drawn.rows, drawn.columns, drawn.scale, list(drawn.octets)
        (2, 2, 4.0, [32, 95, 129, 0])
    """
    if tensor.numel() < 2 or not side:
        return None
    numbers = tensor.detach().to("cpu")
    numbers = (numbers.abs() if numbers.is_complex() else numbers).to(torch.float64)
    size = cells_of(tensor.shape, side)
    flat = numbers.reshape(1 if numbers.dim() == 1 else numbers.shape[0], -1)
    means = adaptive_avg_pool2d(flat[None], size)[0]
    finite = means.isfinite()
    means = means.where(finite, 0.0)
    scale = means.abs().max().item()
    cells = (means * (_MOST / scale)).round() if scale else means
    cells = cells.where(finite, float(NOT_FINITE)).to(torch.int8)
    return Heat(*size, scale, bytes(cell & 255 for cell in cells.flatten().tolist()))


def cells_of(shape: Sequence[int], side: int = SIDE) -> tuple[int, int]:
    """Return rows and columns of a tensor's heat map.

    >>> cells_of((64, 128)), cells_of((8, 3, 3, 3)), cells_of((500,)), cells_of(())
    ((16, 16), (8, 16), (1, 64), (0, 0))
    """
    if math.prod(shape) < 2:
        return (0, 0)
    if len(shape) == 1:
        return (1, min(shape[0], 4 * side))
    return (min(shape[0], side), min(math.prod(shape[1:]), side))


def difference(before: Tensor, after: Tensor, side: int = SIDE) -> Heat | None:
    """Draw what was added to a tensor; ``None`` if the two have different forms."""
    if before.shape != after.shape or before.dtype != after.dtype:
        return None
    wide = torch.complex128 if before.is_complex() else torch.float64
    return heat_of(after.detach().to("cpu", wide) - before.detach().to("cpu", wide), side)
