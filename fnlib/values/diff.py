"""How far two values lie apart: what ``parameters.diff(other)`` returns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from fnlib.show.table import Table, Tabular
from fnlib.show.tensors import counted, norm_of, number, numbers_of, percent, shape_of
from fnlib.values.protect import same_bits


class Difference(Tabular, Mapping[str, float]):
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
      w     (2,)          1       20%                1
      b     (2,)       same
    total: distance 1, 20% of the norm 5
    """

    def __init__(self, mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
        # Read at once: the memory of either value may be given away later.
        self._shapes = {name: shape_of(mine[name]) for name in mine}
        self._counters = {
            name
            for name in mine
            if not mine[name].is_floating_point() and not mine[name].is_complex()
        }
        self._same = {name for name in mine if same_bits(mine[name], theirs[name])}
        self._norms = {name: norm_of(theirs[name]) for name in mine}
        self._distances: dict[str, float] = {}
        self._greatest: dict[str, float] = {}
        for name in mine:
            change = (
                torch.zeros(0)
                if name in self._same
                else numbers_of(mine[name]) - numbers_of(theirs[name]).to(mine[name].device)
            )
            self._distances[name] = norm_of(change)
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
            moved = (
                number(distance),
                percent(distance, self._norms[name]),
                number(self._greatest[name]),
            )
            rows.append(
                (name, self._shapes[name], *(("same", "", "") if name in self._same else moved))
            )
        title = f"Difference: {len(self) - len(self._same)} of {counted(len(self), 'tensor')} moved"
        measured = self._distances.keys() - self._counters
        total, norm = (
            math.hypot(*(lengths[name] for name in measured))
            for lengths in (self._distances, self._norms)
        )
        note = f"distance {number(total)}" + (
            f", {percent(total, norm)} of the norm {number(norm)}" if norm else ""
        )
        columns = {"name": "<", "shape": "<", "distance": ">", "relative": ">"}
        return Table(title, {**columns, "greatest change": ">"}, {"": rows}, [f"total: {note}"])
