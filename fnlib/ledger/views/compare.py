"""Two loops side by side, row by row."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from difflib import SequenceMatcher
from html import escape
from typing import Any

from fnlib.ledger.errors import NothingToCompare
from fnlib.ledger.views.html import side_cell
from fnlib.ledger.views.rows import Row, rows_of
from fnlib.ledger.views.table import FAR, LEGEND, WIDTH, captions, one_line
from fnlib.ledger.views.view import Shown

_SIDE = (WIDTH - 3) // 2


class Comparison:
    """Two recordings in one table; statements with the same text stand side by side.

    Made by `compare`. It prints in at most 100 columns and shows as HTML in a notebook.
    """

    def __init__(self, left: Shown, right: Shown) -> None:
        self.left, self.right = left, right
        self.rows: list[tuple[Row | None, Row | None]] = _aligned(
            rows_of(left.entries), rows_of(right.entries)
        )

    def to_dict(self) -> dict[str, Any]:
        """The pairs of rows and both counts, ready for JSON."""
        rows = [[None if row is None else asdict(row) for row in pair] for pair in self.rows]
        return {"rows": rows, "counts": [asdict(self.left.counts), asdict(self.right.counts)]}

    def __str__(self) -> str:
        lines = _beside([self.left.title], [self.right.title])
        lines.append("-" * (_SIDE + 1) + "+" + "-" * (_SIDE + 1))
        for left, right in self.rows:
            lines += _beside(_block(left), _block(right))
        lines.append("-" * (_SIDE + 1) + "+" + "-" * (_SIDE + 1))
        lines += _beside(
            captions(self.left.entries, self.left.counts),
            captions(self.right.entries, self.right.counts),
        )
        if any(
            cell.far for pair in self.rows for row in pair if row is not None for cell in row.cells
        ):
            lines.append(LEGEND)
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        cell = "text-align:left;vertical-align:top;padding:3px 16px 3px 0;background:transparent;color:inherit;border:none"
        line = "border-bottom:1px solid var(--jp-border-color1, rgba(128,128,128,.5))"
        heads = "".join(
            f'<th scope="col" style="{cell};{line}">{escape(side.title)}</th>'
            for side in (self.left, self.right)
        )
        body = "".join(
            '<tr style="background:transparent">'
            + "".join(f'<td style="{cell};{line}">{side_cell(row)}</td>' for row in pair)
            + "</tr>"
            for pair in self.rows
        )
        feet = "".join(
            f'<td style="{cell}">{"<br>".join(map(escape, captions(side.entries, side.counts)))}</td>'
            for side in (self.left, self.right)
        )
        style = "border-collapse:collapse;margin:0;color:inherit;font-size:var(--jp-code-font-size, 13px)"
        table = f'<table style="{style}"><thead><tr style="background:transparent">{heads}</tr></thead><tbody>{body}</tbody>'
        far = any(
            one.far for pair in self.rows for row in pair if row is not None for one in row.cells
        )
        legend = f'<p style="margin:4px 0 0 0">{escape(LEGEND)}</p>' if far else ""
        return (
            '<div style="overflow-x:auto;color:var(--jp-content-font-color1, inherit)">'
            f'{table}<tfoot><tr style="background:transparent">{feet}</tr></tfoot></table>{legend}</div>'
        )


def compare(left: Shown, right: Shown) -> Comparison:
    """Put two recordings side by side, row by row.

    Args:
        left: a ledger, or one iteration of one: ``ledger.iteration(2)``.
        right: another.

    Returns:
        A table: print it, or leave it at the end of a notebook cell.

    Raises:
        NothingToCompare: one of them is no recording.

    >>> import torch
    >>> from fnlib.ledger import Ledger
    >>> weight = torch.ones(2)
    >>> with Ledger(weight=weight) as in_place:
    ...     weight.mul_(3)
    tensor([3., 3.])
    >>> with Ledger(weight=weight) as out_of_place:
    ...     scaled = weight.mul(3)
    >>> print(compare(in_place, out_of_place))
    Ledger of weight                                 | Ledger of weight
    -------------------------------------------------+-------------------------------------------------
    weight.mul_(3)                                   | scaled = weight.mul(3)
        weight: changed in place                     |     scaled: name bound
    -------------------------------------------------+-------------------------------------------------
    0 of 1 statement acts at a distance; 1 value     | 0 of 1 statement acts at a distance; 0 values
    overwritten; 0 names rebound                     | overwritten; 0 names rebound
    """
    for side in (left, right):
        if not isinstance(side, Shown):
            raise NothingToCompare(side)
    return Comparison(left, right)


def _aligned(left: list[Row], right: list[Row]) -> list[tuple[Row | None, Row | None]]:
    """Pair the rows: those of the same text, and between two such pairs the others in their order."""
    matcher = SequenceMatcher(
        None, [_key(row) for row in left], [_key(row) for row in right], autojunk=False
    )
    pairs: list[tuple[Row | None, Row | None]] = []
    for _, a, b, c, d in matcher.get_opcodes():
        for step in range(max(b - a, d - c)):
            pairs.append(
                (
                    left[a + step] if a + step < b else None,
                    right[c + step] if c + step < d else None,
                )
            )
    return pairs


def _key(row: Row) -> str:
    return " ".join(row.source.split())


def _block(row: Row | None) -> list[str]:
    """A row in half the width: the statement, and below it what it changed."""
    if row is None:
        return [""]
    lines = [one_line(row)]
    for cell in row.cells:
        when = f" ({cell.when})" if cell.when else ""
        lines.append(
            " " * row.indent + f"  {FAR if cell.far else ' '} {cell.what}: {cell.how}{when}"
        )
    return lines + [" " * row.indent + f"    {note}" for note in row.notes]


def _beside(left: list[str], right: list[str]) -> list[str]:
    """Two blocks of lines next to each other."""
    sides = [[part for text in block for part in _wrapped(text)] for block in (left, right)]
    height = max(map(len, sides))
    sides = [side + [""] * (height - len(side)) for side in sides]
    return [f"{a:<{_SIDE}} | {b}".rstrip() for a, b in zip(*sides, strict=True)]


def _wrapped(content: str) -> list[str]:
    indent = " " * (len(content) - len(content.lstrip()))
    return textwrap.wrap(content, _SIDE, subsequent_indent=indent) or [""]
