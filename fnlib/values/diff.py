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
    """How far each tensor is from the one of the same name in another value, as a mapping.

    Prints, for each, its Euclidean distance, the same relative to the norm of the other, and the
    greatest absolute change of one number; "same" where the bytes are equal.

    >>> before = {"w": torch.tensor([3.0, 4.0]), "b": torch.zeros(2)}
    >>> difference = Difference({**before, "w": torch.tensor([3.0, 5.0])}, before)
    >>> difference["w"]
    1.0
    >>> difference
    Difference: 1 of 2 tensors moved
      name  shape  distance  relative  greatest change
      w     (2,)          1       20%                1
      b     (2,)       same
    total: distance 1, 20% of the norm 5
    """

    def __init__(
        self,
        mine: Mapping[str, Tensor],
        theirs: Mapping[str, Tensor],
        ties: Mapping[str, str] | None = None,
    ) -> None:
        self._ties = ties or {}
        # Read at once: the memory of either value may be given away later.
        self._shapes = {name: shape_of(mine[name]) for name in mine}
        self._counters = {
            n for n, t in mine.items() if not (t.is_floating_point() or t.is_complex())
        }
        self._same = {name for name in mine if same_bits(mine[name], theirs[name])}
        self._norms = {name: norm_of(theirs[name]) for name in mine}
        self._distances: dict[str, float] = {}
        self._greatest: dict[str, float] = {}
        for name in mine:
            change = torch.zeros(0)
            if name not in self._same:
                change = numbers_of(mine[name]) - numbers_of(theirs[name]).to(mine[name].device)
            self._distances[name] = norm_of(change)
            self._greatest[name] = change.abs().max().item() if change.numel() else 0.0

    def __getitem__(self, name: str) -> float:
        return self._distances[self._ties.get(name, name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._distances)

    def __len__(self) -> int:
        return len(self._distances)

    def _table(self) -> Table:
        rows: list[tuple[str, ...]] = []
        for name, distance in self._distances.items():
            moved = "same", "", ""
            if name not in self._same:
                relative = percent(distance, self._norms[name])
                moved = number(distance), relative, number(self._greatest[name])
            rows.append((name, self._shapes[name], *moved))
        title = f"Difference: {len(self) - len(self._same)} of {counted(len(self), 'tensor')} moved"
        measured = self._distances.keys() - self._counters
        total, norm = (
            math.hypot(*(lengths[name] for name in measured))
            for lengths in (self._distances, self._norms)
        )
        note = f"distance {number(total)}"
        note += f", {percent(total, norm)} of the norm {number(norm)}" if norm else ""
        columns = {"name": "<", "shape": "<", "distance": ">", "relative": ">"}
        return Table(title, {**columns, "greatest change": ">"}, {"": rows}, [f"total: {note}"])
