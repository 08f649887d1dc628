"""Named tensors as a table: shape, dtype, size, norm and a small histogram of each, and words for numbers."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from fnlib.show.table import BARS, Table

COLUMNS = ("name", "shape", "dtype", "size", "norm", "from", "histogram", "to")
_BINS = 10
_SAMPLE = 1 << 22  # elements of one tensor that a histogram looks at, at most


def tensor_table(title: str, groups: list[tuple[str, Mapping[str, Tensor]]]) -> Table:
    """Describe named tensors, a part of the table for each group, with totals."""
    table = Table(title, COLUMNS, frozenset({"name", "shape", "dtype", "histogram", "to"}))
    not_finite: list[str] = []
    for part, mapping in groups:
        rows, norms, known = [], [], True
        tensors = {name: mapping[name].detach() for name in mapping}
        with torch.no_grad():
            for name, tensor in tensors.items():
                cells = [
                    name,
                    shape_of(tensor),
                    str(tensor.dtype).removeprefix("torch."),
                    f"{tensor.numel():,}",
                ]
                if _is_readable(tensor):
                    numbers = numbers_of(tensor)
                    norms.append(norm_of(numbers))
                    if not math.isfinite(norms[-1]):
                        numbers, found = _finite(numbers)
                        not_finite += [f"{found} in '{name}'"] if found else []
                    cells += [number(norms[-1]), *_histogram(numbers)]
                else:
                    known = False
                    cells += ["", "", "", ""]
                rows.append(tuple(cells))
        table.parts.append((part, rows))
        size = sum(map(Tensor.numel, tensors.values()))
        note = f"{counted(len(tensors), 'tensor')}, {counted(size, 'number')}, {bytes_of(tensors.values())}"
        devices = sorted({str(tensor.device) for tensor in tensors.values()} - {"cpu", "meta"})
        note += f" on {' and '.join(devices)}" if devices else ""
        table.notes.append(
            (part, note + (f", norm {number(math.hypot(*norms))}" if known and norms else ""))
        )
    if not_finite:
        more = f" and {len(not_finite) - 4} more" if len(not_finite) > 4 else ""
        table.notes.append(("not finite", "; ".join(not_finite[:4]) + more))
    return table


def _is_readable(tensor: Tensor) -> bool:
    """Say whether a tensor has content that can be looked at here: not on "meta", not owned by a transform, not sparse."""
    return (
        not tensor.is_meta
        and tensor.layout is torch.strided
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def numbers_of(tensor: Tensor) -> Tensor:
    """Return the content as floating numbers, without a copy where it is that already."""
    tensor = tensor.detach()
    if tensor.is_complex():
        return torch.view_as_real(tensor.resolve_conj())
    if tensor.dtype in (torch.float32, torch.float64):
        return tensor
    return tensor.to(torch.float32 if tensor.is_floating_point() else torch.float64)


def norm_of(numbers: Tensor) -> float:
    """Return the Euclidean length, in double precision only where single precision overflows."""
    norm = torch.linalg.vector_norm(numbers).item()
    if norm == math.inf:
        norm = torch.linalg.vector_norm(numbers, dtype=torch.float64).item()
    return norm


def _finite(numbers: Tensor) -> tuple[Tensor, str]:
    """Return the finite numbers, and what the others are."""
    kinds = {"NaN": numbers.isnan().sum().item(), "inf": numbers.isinf().sum().item()}
    found = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
    return numbers[numbers.isfinite()] if found else numbers, found


def _histogram(numbers: Tensor) -> tuple[str, str, str]:
    """Return the least number, bars for how many lie where, and the greatest."""
    if not numbers.numel():
        return "", "", ""
    least, greatest = (end.item() for end in torch.aminmax(numbers))
    if least == greatest:
        return "", f"all {number(least, 3)}", ""
    flat = numbers.reshape(-1)
    stride = -(-flat.numel() // _SAMPLE)
    flat = flat[:: stride | 1].to("cpu", torch.float64) if stride > 1 or not flat.is_cpu else flat
    counts = torch.histc(flat, _BINS, least, greatest).tolist()
    most = max(counts)
    bars = "".join(
        BARS[max(round(count / most * len(BARS)), 1) - 1] if count else " " for count in counts
    )
    return number(least, 3), bars, number(greatest, 3)


def shape_of(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"


def number(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}g}"


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
