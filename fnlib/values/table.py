"""What a value prints."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from fnlib.show.table import Table
from fnlib.show.tensors import bytes_of, counted, tensor_table
from fnlib.values.held import Content, Empty, GivenAway
from fnlib.values.trees import map_tree


def table_of(content: Content, buffers: Mapping[str, Tensor] | None = None) -> Table:
    """Show a value, with a model's own `buffers`; or how it is drawn, or where it went."""
    if isinstance(content, Empty):
        given = {k: value for k, value in content._asdict().items() if value is not None}
        call = ", ".join(f"{key}={value!r}" for key, value in given.items())
        return Table(f"Parameters({call}), empty: binding them draws the initial weights")
    title = f"Parameters after step {content.step_count}"
    if isinstance(content, GivenAway):
        return Table(
            f"{title}, given away by step(gradient, donate=True) at {content.where}: "
            "their memory now belongs to the parameters that this step returned"
        )
    buffers = content.buffers if buffers is None else buffers
    table = tensor_table(title, {"weights": content.weights, "buffers": buffers})
    notes = [f"'{name}' is tied to '{first}'" for name, first in content.names.ties.items()]
    if content.state is not None:
        tensors: list[Tensor] = []
        map_tree(tensors.append, content.state)
        state = f"{counted(len(tensors), 'tensor')}, {bytes_of(tensors)}"
        notes.insert(0, f"optimizer state: {state}, of {content.rule or 'no rule yet'}")
    table.notes = [*table.notes, *notes]
    return table
