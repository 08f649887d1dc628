"""What values show of themselves: the shape of a gradient, the size of weights, how far they moved."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fnlib.protect import same_bits
from fnlib.render import BARS, Table, folded, html, text

if TYPE_CHECKING:
    from fnlib.factory import Factory
    from fnlib.model import Model
    from fnlib.parameters import Parameters

_COLUMNS = ("name", "shape", "dtype", "size", "norm", "from", "histogram", "to")
_BINS = 10
_SAMPLE = 1 << 22  # elements of one tensor that a histogram looks at, at most
_LINES = 30  # lines of a network's own repr


def table_of(mapping: Mapping[str, Tensor], title: str) -> str:
    """Show named tensors in a terminal: name, shape, dtype, size, norm and a histogram of each.

    Args:
        mapping: names to tensors. They are only read, and copy-on-write ones stay shared.
        title: what they are.

    Returns:
        Lines of at most 100 columns.

    >>> print(table_of({"w": torch.tensor([[3.0], [4.0]])}, "Gradient"))
    Gradient
      name  shape  dtype    size  norm  from  histogram   to
      w     2×1    float32     2     5     3  █        █  4
    total: 1 tensor, 2 numbers, 8 bytes, norm 5
    """
    return text(_tensors(title, [("total", mapping)]))


def html_of(mapping: Mapping[str, Tensor], title: str) -> str:
    """Show named tensors in a notebook. See `table_of`."""
    return html(_tensors(title, [("total", mapping)]))


def parameters_text(parameters: Parameters) -> str:
    """Show parameters in a terminal; those that were given away say where."""
    return _unreadable(parameters) or text(_parameters(parameters, parameters._buffers))


def parameters_html(parameters: Parameters) -> str:
    """Show parameters in a notebook."""
    unreadable = _unreadable(parameters)
    return html(Table(unreadable, ())) if unreadable else html(_parameters(parameters, parameters._buffers))


def model_text(model: Model) -> str:
    """Show a model in a terminal: its network, its mode, the parameters that are bound."""
    bound = _unreadable(model.parameters) or text(_parameters(model.parameters, model._buffers))
    return f"Model {_mode(model)}: {_shortened(_network(model.factory))}\n{bound}"


def model_html(model: Model) -> str:
    """Show a model in a notebook."""
    network = _network(model.factory)
    above = folded(f"Model {_mode(model)}: {_kind(network)}", network)
    unreadable = _unreadable(model.parameters)
    return html(Table(unreadable, ()) if unreadable else _parameters(model.parameters, model._buffers), above)


def factory_text(factory: Factory) -> str:
    """Show a factory in a terminal: its network, the shapes of its weights, its update rule."""
    if not _is_made(factory):
        return _unbuilt(factory)
    return f"Factory of {_shortened(_network(factory))}\n{text(_shapes(factory))}"


def factory_html(factory: Factory) -> str:
    """Show a factory in a notebook."""
    if not _is_made(factory):
        return html(Table(_unbuilt(factory), ()))
    network = _network(factory)
    return html(_shapes(factory), folded(f"Factory of {_kind(network)}", network))


class Difference(Mapping[str, float]):
    """How far each tensor lies from the one of the same name in another value: a mapping of names to distances.

    Prints, for each, its Euclidean distance, the same relative to the norm of the other, and the greatest
    absolute change of one number; "same" where the bytes are equal.

    Args:
        mine: names to tensors.
        theirs: tensors of the same names and shapes, from which the distance is taken.

    >>> before, after = {"w": torch.tensor([3.0, 4.0]), "b": torch.zeros(2)}, {"w": torch.tensor([3.0, 5.0]), "b": torch.zeros(2)}
    >>> difference = Difference(after, before)
    >>> dict(difference)
    {'w': 1.0, 'b': 0.0}
    >>> difference
    Difference: 1 of 2 tensors moved
      name  shape  distance  relative  greatest change
      w     2             1       20%                1
      b     2          same
    total: distance 1, 20% of the norm 5
    """

    def __init__(self, mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
        # Read at once: the memory of either value may be given away later.
        self._shapes = {name: _shape(mine[name]) for name in mine}
        self._counters = {name for name in mine if not mine[name].is_floating_point() and not mine[name].is_complex()}
        self._same = {name for name in mine if same_bits(mine[name], theirs[name])}
        self._norms = {name: _norm(_numbers(theirs[name])) for name in mine}
        self._distances: dict[str, float] = {}
        self._greatest: dict[str, float] = {}
        for name in mine:
            change = torch.zeros(0) if name in self._same else _numbers(mine[name]) - _numbers(theirs[name]).to(mine[name].device)
            self._distances[name] = _norm(change)
            self._greatest[name] = change.abs().max().item() if change.numel() else 0.0

    def __getitem__(self, name: str) -> float:
        return self._distances[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._distances)

    def __len__(self) -> int:
        return len(self._distances)

    def _table(self) -> Table:
        rows: list[tuple[str, ...]] = []
        for name, distance in self._distances.items():
            moved = (_number(distance), _percent(distance, self._norms[name]), _number(self._greatest[name]))
            rows.append((name, self._shapes[name], *(("same", "", "") if name in self._same else moved)))
        title = f"Difference: {len(self) - len(self._same)} of {_count(len(self), 'tensor')} moved"
        measured = self._distances.keys() - self._counters
        total, norm = (math.hypot(*(lengths[name] for name in measured)) for lengths in (self._distances, self._norms))
        note = f"distance {_number(total)}" + (f", {_percent(total, norm)} of the norm {_number(norm)}" if norm else "")
        columns = ("name", "shape", "distance", "relative", "greatest change")
        return Table(title, columns, frozenset({"name", "shape"}), [("", rows)], [("total", note)])

    def __repr__(self) -> str:
        return text(self._table())

    def _repr_html_(self) -> str:
        return html(self._table())


# --- tables of tensors --------------------------------------------------------------------------


def _tensors(title: str, groups: list[tuple[str, Mapping[str, Tensor]]]) -> Table:
    """Describe named tensors, a part of the table for each group, with totals."""
    table = Table(title, _COLUMNS, frozenset({"name", "shape", "dtype", "histogram", "to"}))
    not_finite: list[str] = []
    for part, mapping in groups:
        rows, norms, known = [], [], True
        tensors = {name: mapping[name].detach() for name in mapping}
        with torch.no_grad():
            for name, tensor in tensors.items():
                cells = [name, _shape(tensor), str(tensor.dtype).removeprefix("torch."), f"{tensor.numel():,}"]
                if _is_readable(tensor):
                    numbers = _numbers(tensor)
                    norms.append(_norm(numbers))
                    if not math.isfinite(norms[-1]):
                        numbers, found = _finite(numbers)
                        not_finite += [f"{found} in '{name}'"] if found else []
                    cells += [_number(norms[-1]), *_histogram(numbers)]
                else:
                    known = False
                    cells += ["", "", "", ""]
                rows.append(tuple(cells))
        table.parts.append((part, rows))
        note = f"{_count(len(tensors), 'tensor')}, {_count(sum(map(Tensor.numel, tensors.values())), 'number')}, {_bytes(tensors.values())}"
        devices = sorted({str(tensor.device) for tensor in tensors.values()} - {"cpu", "meta"})
        note += f" on {' and '.join(devices)}" if devices else ""
        table.notes.append((part, note + (f", norm {_number(math.hypot(*norms))}" if known and norms else "")))
    if not_finite:
        more = f" and {len(not_finite) - 4} more" if len(not_finite) > 4 else ""
        table.notes.append(("not finite", "; ".join(not_finite[:4]) + more))
    return table


def _is_readable(tensor: Tensor) -> bool:
    """Say whether a tensor has content that can be looked at here: not on "meta", not owned by a transform, not sparse."""
    return not tensor.is_meta and tensor.layout is torch.strided and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def _numbers(tensor: Tensor) -> Tensor:
    """Return the content as floating numbers, without a copy where it is that already."""
    tensor = tensor.detach()
    if tensor.is_complex():
        return torch.view_as_real(tensor.resolve_conj())
    if tensor.dtype in (torch.float32, torch.float64):
        return tensor
    return tensor.to(torch.float32 if tensor.is_floating_point() else torch.float64)


def _norm(numbers: Tensor) -> float:
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
        return "", f"all {_number(least, 3)}", ""
    flat = numbers.reshape(-1)
    stride = -(-flat.numel() // _SAMPLE)
    flat = flat[:: stride | 1].to("cpu", torch.float64) if stride > 1 or not flat.is_cpu else flat
    counts = torch.histc(flat, _BINS, least, greatest).tolist()
    most = max(counts)
    bars = "".join(BARS[max(round(count / most * len(BARS)), 1) - 1] if count else " " for count in counts)
    return _number(least, 3), bars, _number(greatest, 3)


# --- the parts of a parameters, a model, a factory ----------------------------------------------


def _parameters(parameters: Parameters, buffers: Mapping[str, Tensor]) -> Table:
    groups: list[tuple[str, Mapping[str, Tensor]]] = [("weights", parameters._alive())]
    table = _tensors(_named(parameters), groups + ([("buffers", buffers)] if buffers else []))
    held: list[Tensor] = []
    _walk(parameters._state, held.append)
    if parameters._state is not None:
        table.notes.append(("optimizer state", f"{_count(len(held), 'tensor')}, {_bytes(held)}, of {parameters._rule or 'no rule yet'}"))
    if parameters._aliases:
        table.notes.append(("tied", ", ".join(f"'{name}' is '{first}'" for name, first in parameters._aliases.items())))
    return table


def _named(parameters: Parameters) -> str:
    return f"Parameters after step {parameters.step_count}"


def _unreadable(parameters: Parameters) -> str:
    """Say what empty parameters and donated ones are; nothing for those that can be read."""
    if parameters._donated is not None:
        return (
            f"{_named(parameters)}, given away by step(gradient, donate=True) at {parameters._donated}: "
            "their memory belongs to the parameters that this step returned"
        )
    if parameters._weights is None:
        given = [f"{key}={value!r}" for key, value in (parameters._draw or {}).items() if value is not None]
        return f"Parameters({', '.join(given)}), empty: ModelFactory(parameters) draws the initial weights"
    return ""


def _shapes(factory: Factory) -> Table:
    structure = factory.structure
    groups: list[tuple[str, Mapping[str, Tensor]]] = [("weights", structure.weights)]
    groups += [("buffers", structure.buffers)] if structure.buffers else []
    full = _tensors("Weights and buffers to bind" if structure.buffers else "Weights to bind", groups)
    parts = [(part, [row[:4] for row in rows]) for part, rows in full.parts]
    return Table(full.title, _COLUMNS[:4], full.left, parts, [*full.notes, ("optimizer", repr(factory.optimizer))])


def _is_made(factory: Factory) -> bool:
    """Say whether the structure can be shown without calling somebody's build for it."""
    return factory._structure is not None or factory._instance is not None


def _unbuilt(factory: Factory) -> str:
    build = getattr(factory._build, "__qualname__", type(factory._build).__name__)
    return f"Factory of {build}, built when parameters are first bound, optimizer {factory.optimizer!r}"


def _network(factory: Factory) -> str:
    """Return the repr of the network, as PyTorch prints it."""
    structure = factory.structure
    skeleton = structure.borrow(True)
    try:
        return repr(skeleton.module)
    finally:
        structure.give_back(skeleton, [])


def _kind(network: str) -> str:
    return network.partition("(")[0]


def _shortened(network: str) -> str:
    lines = network.splitlines()
    return "\n".join(lines[:_LINES] + ([f"  … and {len(lines) - _LINES} more lines"] if len(lines) > _LINES else []))


def _mode(model: Model) -> str:
    if isinstance(model._mode, bool):
        mode = "in training" if model._mode else "in evaluation"
    else:
        mode = "in training, but for " + ", ".join(f"{name}={trains}" for name, trains in model._mode)
    return mode if model._seed is None else f"{mode}, seed {model._seed}"


# --- words and numbers --------------------------------------------------------------------------


def _walk(tree: Any, visit: Callable[[Tensor], object]) -> None:
    if isinstance(tree, Tensor):
        visit(tree)
    elif isinstance(tree, (Mapping, list, tuple)):
        for item in tree.values() if isinstance(tree, Mapping) else tree:
            _walk(item, visit)


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"


def _number(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}g}"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.3g}%" if whole else "from zero"


def _count(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _bytes(tensors: Any) -> str:
    size = float(sum(tensor.numel() * tensor.element_size() for tensor in tensors))
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
