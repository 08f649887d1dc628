"""What replaying a run found: the same bits, or the first element that differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fnlib.show.table import Table, Tabular
from fnlib.show.tensors import counted, shape_of
from fnlib.values.held import Held
from fnlib.values.trees import same_tree


class Unequal:
    """The first place in which two records differ.

    Args:
        name: of the tensor or number, as an attribute of parameters would be written.
        element: its index in the tensor; ``None`` where the tensors can't be compared by element.
        stored, replayed: what is there in each record.
        count: how many elements of the tensor differ, and how many it has.
        tensors: how many tensors differ, and how many there are.
    """

    def __init__(self, stored: Held, replayed: Held) -> None:
        mine, theirs = dict(leaves_of(stored)), dict(leaves_of(replayed))
        differ = [n for n in mine if n not in theirs or not same_tree(mine[n], theirs[n])]
        differ += [name for name in theirs if name not in mine]
        self.name = differ[0] if differ else "parameters.optimizer_state"  # other containers
        self.tensors = len(differ), len(mine)
        a: Any = mine.get(self.name)
        b: Any = theirs.get(self.name)
        self.element: tuple[int, ...] | None = None
        self.count = 0, 0
        alike = isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape
        if alike and a.dtype == b.dtype:
            places = _elements(a, b)
            self.element, self.count = places[0], (len(places), a.numel())
            a, b = a[self.element].item(), b[self.element].item()
        self.stored, self.replayed = (
            f"{shape_of(x)} {x.dtype}" if isinstance(x, Tensor) else repr(x) for x in (a, b)
        )

    def __str__(self) -> str:
        at = "" if self.element is None else str(list(self.element))
        return f"{self.name}{at}"


def leaves_of(held: Held) -> Iterator[tuple[str, Any]]:
    """List all that a record holds, in the order in which people look for a difference."""
    yield from _named(held.weights, "parameters")
    yield from _named(held.buffers, "parameters.buffers")
    yield from _named(held.state, "parameters.optimizer_state")
    yield "parameters.step_count", held.step_count
    yield "the update rule", held.rule


def _named(tree: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _named(value, f"{name}[{key!r}]")
    elif isinstance(tree, (list, tuple)) and tree:
        for i, value in enumerate(tree):
            yield from _named(value, f"{name}[{i}]")
    else:
        yield name, tree


def _elements(a: Tensor, b: Tensor) -> list[tuple[int, ...]]:
    """List the elements whose bits differ."""
    numbers = [torch.view_as_real(x) if x.is_complex() else x for x in (a, b)]
    whole = [x.reshape(-1).view(torch.uint8).reshape(a.numel(), -1) for x in numbers]
    places = (whole[0] != whole[1]).any(dim=1).nonzero().flatten()
    columns = [part.tolist() for part in torch.unravel_index(places, a.shape)]
    return list(zip(*columns, strict=True)) if columns else [()]


@dataclass(eq=False, repr=False)
class Replay(Tabular):
    """What ``history.verify()`` found; true if the replay has the same bits.

    Attributes:
        steps: how many steps were replayed.
        index: the first state that differs, ``None`` if none does.
        difference: the first element of it that differs.
        environment: what differs in the environment: names to (then, now).
    """

    steps: int
    index: int | None = None
    difference: Unequal | None = None
    environment: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.index is None

    def _table(self) -> Table:
        found = self.difference
        if found is None:
            return Table(f"Bit for bit: {counted(self.steps, 'step')} replayed")
        rows = [(str(found), found.stored, found.replayed)]
        rows += [(name, *values) for name, values in self.environment.items()]
        notes = [_differ(found.tensors, "entry of the state", "entries of the state")]
        if found.element is not None:
            notes[:0] = [f"{_differ(found.count, 'element', 'elements')} here"]
        if not self.environment:
            cause = "randomness or data that the step doesn't take from its arguments"
            notes.append(f"The environment is the same: look for {cause}.")
        title = f"State {self.index} differs: the first bits that the replay doesn't repeat"
        return Table(title, {"what": "<", "stored": ">", "replayed": ">"}, {"": rows}, notes)


def _differ(count: tuple[int, int], one: str, several: str) -> str:
    """Say how many of all things differ.

    >>> _differ((1, 31), "entry", "entries"), _differ((12, 31), "entry", "entries")
    ('1 of 31 entries differs', '12 of 31 entries differ')
    """
    part, whole = count
    verb = "differs" if part == 1 else "differ"
    return f"{part:,} of {whole:,} {one if whole == 1 else several} {verb}"
