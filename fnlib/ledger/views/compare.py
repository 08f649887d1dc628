"""Two loops side by side, row by row."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Any

from fnlib.ledger.errors import NothingToCompare
from fnlib.ledger.views.rows import Row, rows_of
from fnlib.ledger.views.table import LEGEND, captions, marked
from fnlib.ledger.views.view import Recording
from fnlib.show.table import Table

Pair = tuple[Row | None, Row | None]
# What a statement does in a training loop, by the calls that were seen in it.
_ROLES = {
    "zero_grad": "clear",
    "backward": "backward",
    "grad": "backward",
    "step": "step",
    "functional step": "step",
    "scheduler step": "schedule",
}


class Comparison:
    """Two recordings in one table, made by `compare`.

    Statements with the same text or the same role (forward, backward, step) are in one row.
    """

    def __init__(self, left: Recording, right: Recording) -> None:
        self.left, self.right = left, right
        self.rows: list[Pair] = _paired(rows_of(left.entries), rows_of(right.entries))

    def to_dict(self) -> dict[str, Any]:
        """Return the pairs of rows and both counts, ready for JSON."""
        rows = [[row and row.to_dict() for row in pair] for pair in self.rows]
        counts = [side.to_dict()["counts"] for side in (self.left, self.right)]
        return {"rows": rows, "counts": counts}

    def _table(self) -> Table:
        sides = (self.left, self.right)
        lines = [tuple(map(_block, pair)) for pair in self.rows]
        lines.append(("", ""))
        lines.append(tuple("\n".join(captions(side.entries, side.counts)) for side in sides))
        rows = [row for pair in self.rows for row in pair if row is not None]
        far = any(cell.far for row in rows for cell in row.cells)
        columns = {self.left.title: "<", f"{self.right.title} ": "<"}  # two titles may be alike
        return Table(
            "Two recordings side by side", columns, {"": lines}, [LEGEND] if far else [],
            limit=len(lines), code=tuple(columns),
        )  # fmt: skip

    def __repr__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()


def compare(left: Recording, right: Recording) -> Comparison:
    """Put two recordings side by side: what changes where, and both counts.

    Args:
        left: a ledger, or one iteration of it.
        right: another one.

    Raises:
        NothingToCompare: one of them is not a recording.

    >>> import torch
    >>> from fnlib.ledger import Ledger
    >>> weight = torch.ones(2)
    >>> with Ledger(weight=weight) as in_place:
    ...     scaled = weight.mul_(3)
    >>> with Ledger(weight=weight) as out_of_place:
    ...     copied = weight.clone()
    ...     scaled = weight.mul(3)
    >>> print(compare(in_place, out_of_place))
    Two recordings side by side
      Ledger of weight                                  Ledger of weight
      scaled = weight.mul_(3)
          weight: changed in place
          scaled: bound
                                                        copied = weight.clone()
                                                            copied: bound
                                                        scaled = weight.mul(3)
                                                            scaled: rebound
    <BLANKLINE>
      0 of 1 statement acts at a distance; 1 value      0 of 2 statements act at a distance; 0 values
        overwritten; 0 names rebound                      overwritten; 1 name rebound
    """
    for side in (left, right):
        if not isinstance(side, Recording):
            raise NothingToCompare(side)
    return Comparison(left, right)


def _paired(left: list[Row], right: list[Row]) -> list[Pair]:
    """Pair rows of the same text; between two such pairs, rows of the same role."""
    a_texts, b_texts = (
        [" ".join(row.entry.source.split()) for row in side] for side in (left, right)
    )
    pairs: list[Pair] = []
    for tag, a, b, c, d in SequenceMatcher(None, a_texts, b_texts, False).get_opcodes():
        some = left[a:b], right[c:d]
        pairs += zip(*some, strict=True) if tag == "equal" else _by_role(*some)
    return pairs


def _by_role(left: list[Row], right: list[Row]) -> Iterator[Pair]:
    a_roles, b_roles = list(map(_role, left)), list(map(_role, right))
    for tag, a, b, c, d in SequenceMatcher(None, a_roles, b_roles, False).get_opcodes():
        if tag == "equal":
            yield from zip(left[a:b], right[c:d], strict=True)
        else:  # what has no partner is alone in its row
            yield from ((row, None) for row in left[a:b])
            yield from ((None, row) for row in right[c:d])


def _role(row: Row) -> str:
    """Name what a statement does: the last of its calls that has a role, else its text."""
    roles = [_ROLES[one.kind] for one in row.entry.all_events if one.kind in _ROLES]
    if roles:
        return roles[-1]
    if any(one.state == "graph" and one.kind == "created" for one in row.entry.changes):
        return "forward"
    return "header" if row.entry.kind == "header" else row.code.strip()


def _block(row: Row | None) -> str:
    """Write the statement, and below it what it changed."""
    if row is None:
        return ""
    below = [f"{marked(cell)}: {cell.done}" for cell in row.cells]
    below += [f"  {note}" for note in row.notes]
    return "\n".join([row.code, *(" " * (row.indent + 2) + line for line in below)])
