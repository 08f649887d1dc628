"""Describe named tensors: name, shape, dtype, size and norm of each, and their totals."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from fnlib.show.table import Table
from fnlib.torch_private import is_wrapped

COLUMNS = {"name": "<", "shape": "<", "dtype": "<", "size": ">", "norm": ">"}


def tensor_table(title: str, parts: Mapping[str, Mapping[str, Tensor]]) -> Table:
    """Make a table of named tensors, with a line of totals for each part.

    The tensors are only read, so copy-on-write ones stay shared. A norm is left out where there
    is nothing to read: on the meta device, in sparse tensors and inside `torch.func` transforms.

    Args:
        title: one line.
        parts: names of parts to their tensors by name; empty ones after the first are left out.

    >>> print(tensor_table("Gradient", {"total": {"w": torch.tensor([[3.0], [4.0]])}}).text())
    Gradient
      name  shape   dtype    size  norm
      w     (2, 1)  float32     2     5
    total: 1 tensor, 2 numbers, 8 bytes, norm 5
    """
    rows: dict[str, list[tuple[str, ...]]] = {}
    notes = []
    for part, mapping in parts.items():
        if rows and not mapping:
            continue
        tensors = {name: mapping[name].detach() for name in mapping}
        norms = {name: norm_of(tensor) for name, tensor in tensors.items() if _is_readable(tensor)}
        rows[part] = []
        for name, tensor in tensors.items():
            dtype, size = str(tensor.dtype).removeprefix("torch."), f"{tensor.numel():,}"
            norm = number(norms[name]) if name in norms else ""
            rows[part].append((name, shape_of(tensor), dtype, size, norm))
        every = tensors.values()
        size = counted(sum(tensor.numel() for tensor in every), "number")
        note = f"{counted(len(tensors), 'tensor')}, {size}, {bytes_of(every)}"
        devices = sorted({str(tensor.device) for tensor in tensors.values()} - {"cpu", "meta"})
        note += f" on {' and '.join(devices)}" if devices else ""
        if norms and len(norms) == len(tensors):
            total = norm_of(torch.tensor([*norms.values()], dtype=torch.float64))
            note += f", norm {number(total)}"
        notes.append(f"{part}: {note}")
    if any(cells[-1] for part in rows.values() for cells in part):
        return Table(title, COLUMNS, rows, notes)
    columns = dict(list(COLUMNS.items())[:-1])
    return Table(title, columns, {part: [c[:-1] for c in rows[part]] for part in rows}, notes)


def _is_readable(tensor: Tensor) -> bool:
    return not tensor.is_meta and tensor.layout is torch.strided and not is_wrapped(tensor)


def numbers_of(tensor: Tensor) -> Tensor:
    """Return the content as floating numbers, copied only where it has to be converted."""
    tensor = tensor.detach()
    if tensor.is_complex():
        return torch.view_as_real(tensor.resolve_conj())
    if tensor.dtype in (torch.float32, torch.float64):
        return tensor
    return tensor.to(torch.float32 if tensor.is_floating_point() else torch.float64)


@torch.no_grad()
def norm_of(tensor: Tensor) -> float:
    """Return the Euclidean norm, in double precision only where single precision overflows."""
    numbers = numbers_of(tensor)
    norm = torch.linalg.vector_norm(numbers).item()
    if norm == math.inf:
        norm = torch.linalg.vector_norm(numbers, dtype=torch.float64).item()
    return norm


def shape_of(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def number(value: float) -> str:
    return f"{value:.4g}"


def percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.3g}%" if whole else "from zero"


def counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def bytes_of(tensors: Collection[Tensor]) -> str:
    size = float(sum(tensor.numel() * tensor.element_size() for tensor in tensors))
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
