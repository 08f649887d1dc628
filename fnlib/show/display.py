"""What values show of themselves: the shape of a gradient, the size of weights, how far they moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fnlib.show.table import Table, folded, html, text
from fnlib.show.tensors import COLUMNS, bytes_of, counted, tensor_table
from fnlib.values.diff import Difference

if TYPE_CHECKING:
    from fnlib.factory import Factory
    from fnlib.model import Model
    from fnlib.parameters import Parameters

__all__ = ["Difference"]

_LINES = 30  # lines of a network's own repr


def table_of(mapping: Mapping[str, Tensor], title: str) -> str:
    """Show named tensors in a terminal: name, shape, dtype, size, norm and a histogram of each.

    Args:
        mapping: names to tensors. They are only read, and copy-on-write ones stay shared.
        title: what they are.

    Returns:
        Lines of at most 100 columns.

    >>> import torch
    >>> print(table_of({"w": torch.tensor([[3.0], [4.0]])}, "Gradient"))
    Gradient
      name  shape  dtype    size  norm  from  histogram   to
      w     2×1    float32     2     5     3  █        █  4
    total: 1 tensor, 2 numbers, 8 bytes, norm 5
    """
    return text(tensor_table(title, [("total", mapping)]))


def html_of(mapping: Mapping[str, Tensor], title: str) -> str:
    """Show named tensors in a notebook. See `table_of`."""
    return html(tensor_table(title, [("total", mapping)]))


def parameters_text(parameters: Parameters) -> str:
    """Show parameters in a terminal; those that were given away say where."""
    return _unreadable(parameters) or text(_parameters(parameters, parameters._buffers))


def parameters_html(parameters: Parameters) -> str:
    """Show parameters in a notebook."""
    unreadable = _unreadable(parameters)
    return (
        html(Table(unreadable, ()))
        if unreadable
        else html(_parameters(parameters, parameters._buffers))
    )


def model_text(model: Model) -> str:
    """Show a model in a terminal: its network, its mode, the parameters that are bound."""
    bound = _unreadable(model.parameters) or text(_parameters(model.parameters, model._buffers))
    return f"Model {_mode(model)}: {_shortened(_network(model.factory))}\n{bound}"


def model_html(model: Model) -> str:
    """Show a model in a notebook."""
    network = _network(model.factory)
    above = folded(f"Model {_mode(model)}: {_kind(network)}", network)
    unreadable = _unreadable(model.parameters)
    return html(
        Table(unreadable, ()) if unreadable else _parameters(model.parameters, model._buffers),
        above,
    )


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


def _parameters(parameters: Parameters, buffers: Mapping[str, Tensor]) -> Table:
    groups: list[tuple[str, Mapping[str, Tensor]]] = [("weights", parameters._alive())]
    table = tensor_table(_named(parameters), groups + ([("buffers", buffers)] if buffers else []))
    held: list[Tensor] = []
    _walk(parameters._state, held.append)
    if parameters._state is not None:
        table.notes.append(
            (
                "optimizer state",
                f"{counted(len(held), 'tensor')}, {bytes_of(held)}, of {parameters._rule or 'no rule yet'}",
            )
        )
    if parameters._aliases:
        table.notes.append(
            (
                "tied",
                ", ".join(f"'{name}' is '{first}'" for name, first in parameters._aliases.items()),
            )
        )
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
        given = [
            f"{key}={value!r}"
            for key, value in (parameters._draw or {}).items()
            if value is not None
        ]
        return f"Parameters({', '.join(given)}), empty: ModelFactory(parameters) draws the initial weights"
    return ""


def _shapes(factory: Factory) -> Table:
    structure = factory.structure
    groups: list[tuple[str, Mapping[str, Tensor]]] = [("weights", structure.weights)]
    groups += [("buffers", structure.buffers)] if structure.buffers else []
    full = tensor_table(
        "Weights and buffers to bind" if structure.buffers else "Weights to bind", groups
    )
    parts = [(part, [row[:4] for row in rows]) for part, rows in full.parts]
    return Table(
        full.title,
        COLUMNS[:4],
        full.left,
        parts,
        [*full.notes, ("optimizer", repr(factory.optimizer))],
    )


def _is_made(factory: Factory) -> bool:
    """Say whether the structure can be shown without calling somebody's build for it."""
    return factory._blueprint.known is not None or factory._blueprint.instance is not None


def _unbuilt(factory: Factory) -> str:
    build = getattr(
        factory._blueprint.build, "__qualname__", type(factory._blueprint.build).__name__
    )
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
    return "\n".join(
        lines[:_LINES]
        + ([f"  … and {len(lines) - _LINES} more lines"] if len(lines) > _LINES else [])
    )


def _mode(model: Model) -> str:
    if isinstance(model._mode, bool):
        mode = "in training" if model._mode else "in evaluation"
    else:
        mode = "in training, but for " + ", ".join(
            f"{name}={trains}" for name, trains in model._mode
        )
    return mode if model._seed is None else f"{mode}, seed {model._seed}"


def _walk(tree: Any, visit: Callable[[Tensor], object]) -> None:
    if isinstance(tree, Tensor):
        visit(tree)
    elif isinstance(tree, (Mapping, list, tuple)):
        for item in tree.values() if isinstance(tree, Mapping) else tree:
            _walk(item, visit)
