"""Write one table as text for a terminal and as HTML for a notebook."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import zip_longest

WIDTH = 100  # columns of a terminal
ROWS = 20  # rows of a part to show; the rest is folded
PROSE = 28  # columns that a last column of words keeps
LINES = 30  # lines of a detail to show

# Where a cell continues on the next line, best first: space, opening bracket, before a dot.
_BREAKS = tuple(map(re.compile, (r"\s", r"[(\[{](?![)\]}])", r"(?=\.)")))

# The theme's own colours, so that the table is readable in light and dark notebooks.
_LINE = "border-bottom:1px solid var(--jp-border-color1, currentColor)"
_RULE = "border-top:1px solid var(--jp-border-color2, rgba(128,128,128,.4))"
_TABLE = (
    "border-collapse:collapse;margin:2px 0;color:inherit;"
    "font-size:var(--jp-code-font-size, 13px);font-variant-numeric:tabular-nums"
)
_CELL = (
    "padding:2px 12px 2px 0;border:none;background:transparent;"
    "font-weight:normal;vertical-align:top"
)
_CODE = (
    "white-space:pre-wrap;overflow-wrap:anywhere;min-width:9em;"
    "font-family:var(--jp-code-font-family, monospace)"
)
_SIDES = {"<": "left", ">": "right"}
_WRAPS = {"<": "white-space:pre-wrap", ">": "white-space:pre"}  # numbers stay on one line


@dataclass
class Table:
    """Hold a title, rows under headings, and the lines below them.

    Args:
        title: one line.
        columns: headings, each with its alignment: "<" for words, ">" for numbers.
        parts: rows under the name of their part; a cell for each column, of one or more lines.
        notes: lines below the rows.
        detail: summary and preformatted text to show between title and rows; HTML folds it.
        limit: rows of a part to show; text leaves out the rest, HTML folds it.
        code: headings of the columns of code, which wrap anywhere; the first one by default.
        signs: words that a cell may begin with, each with a sign and a colour for HTML. The word
            carries the meaning; sign and colour let the eye find it.
    """

    title: str
    columns: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    detail: tuple[str, str] | None = None
    limit: int = ROWS
    code: Sequence[str] = ()
    signs: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def text(self) -> str:
        """Write the table in at most 100 columns.

        >>> columns = {"name": "<", "size": ">"}
        >>> print(Table("Weights", columns, {"": [("w", "12"), ("bias", "3")]}, ["total: 15"]).text())
        Weights
          name  size
          w       12
          bias     3
        total: 15
        """
        rows_shown = [row for _, rows in self._parts() for row in rows[: self.limit]]
        shown = [list(self.columns), *rows_shown]
        last = list(self.columns)[-1:]
        prose = bool(last) and self.columns[last[0]] == "<" and last[0] not in self._code()
        widths = _widths(shown, PROSE if prose else WIDTH)
        lines = _filled(self.title)
        if self.detail:
            whole = self.detail[1].splitlines()
            lines += [*whole[:LINES], *_more(whole[LINES:], "lines")]
        if len(shown) > 1:
            lines += self._lines(list(self.columns), widths)
        for part, rows in self._parts():
            lines += [part] if part and len(self._parts()) > 1 else []
            for row in rows[: self.limit]:
                lines += self._lines(row, widths)
            lines += _more(rows[self.limit :])
        return "\n".join([*lines, *(line for note in self.notes for line in _filled(note))])

    def html(self) -> str:
        """Write the table as HTML that loads nothing and that a screen reader can read."""
        pieces = [f'<div style="font-weight:bold">{escape(self.title)}</div>']
        if self.detail:
            summary, content = self.detail
            pieces.append(_folded(summary, f'<pre style="color:inherit">{escape(content)}</pre>'))
        parts = self._parts()
        if parts:
            shown = [(part, rows[: self.limit]) for part, rows in parts]
            pieces.append(self._rows(self.title, shown))
        for part, rows in parts:
            for summary in _more(rows[self.limit :], part if len(parts) > 1 else ""):
                rest = self._rows(f"{self.title}, continued", [("", rows[self.limit :])])
                pieces.append(_folded(summary, rest))
        pieces += [f'<div style="margin-top:4px">{escape(note)}</div>' for note in self.notes]
        return f'<div style="overflow-x:auto">{"".join(pieces)}</div>'

    def _sign(self, cell: str) -> str:
        """Write the sign of a cell's first words, hidden from screen readers, which read the words."""
        for words, (sign, colour) in self.signs.items():
            if cell.startswith(words):
                return f'<span aria-hidden="true" style="color:{colour}">{sign}</span> '
        return ""

    def _code(self) -> Sequence[str]:
        return self.code or list(self.columns)[:1]

    def _parts(self) -> list[tuple[str, Sequence[Sequence[str]]]]:
        return [(part, rows) for part, rows in self.parts.items() if rows]

    def _lines(self, row: Sequence[str], widths: Sequence[int]) -> list[str]:
        """Write a row on as many lines as its longest cell takes."""
        cells = map(wrapped, row, widths)
        places = [
            f"{align}{width}" for align, width in zip(self.columns.values(), widths, strict=True)
        ]
        lines = zip_longest(*cells, fillvalue="")
        return [("  " + "  ".join(map(format, line, places))).rstrip() for line in lines]

    def _rows(self, label: str, parts: Sequence[tuple[str, Sequence[Sequence[str]]]]) -> str:
        """Write rows as an HTML table whose cells know their row, column and part."""
        code = self._code()
        places = [
            f"{_CELL};text-align:{_SIDES[align]};{_CODE if name in code else _WRAPS[align]}"
            for name, align in self.columns.items()
        ]
        heads = "".join(
            f'<th scope="col" style="{place};{_LINE}">{escape(heading)}</th>'
            for heading, place in zip(self.columns, places, strict=True)
        )
        bodies = ""
        # A row without a first cell belongs to the one above, so only others get a line.
        grouped = any(not row[0] for _, rows in parts for row in rows)
        for part, rows in parts:
            bodies += "<tbody>"
            if len(parts) > 1:
                span = f'scope="rowgroup" colspan="{len(self.columns)}"'
                bodies += f'<tr><th {span} style="{places[0]}">{escape(part)}</th></tr>'
            for first, *others in rows:
                line = f' style="{_RULE}"' if grouped and first else ""
                bodies += f'<tr{line}><th scope="row" style="{places[0]}">{escape(first)}</th>'
                for cell, place in zip(others, places[1:], strict=True):
                    bodies += f'<td style="{place}">{self._sign(cell)}{escape(cell)}</td>'
                bodies += "</tr>"
            bodies += "</tbody>"
        head = f"<thead><tr>{heads}</tr></thead>"
        return f'<table aria-label="{escape(label)}" style="{_TABLE}">{head}{bodies}</table>'


class Tabular:
    """Print a value as the table that its `_table` makes."""

    __slots__ = ()

    def _table(self) -> Table:
        raise NotImplementedError

    def __repr__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()


def wrapped(cell: str, width: int) -> list[str]:
    """Break a cell into lines where code or a dotted name can be broken.

    >>> wrapped("encoder.layers.0.linear1.weight", 20)
    ['encoder.layers.0', '  .linear1.weight']
    """
    lines = []
    for line in cell.splitlines() or [""]:
        indent = " " * min(len(line) - len(line.lstrip()) + 2, width // 2)
        least = max(width // 4, len(indent) + 1)  # so that each line takes something off
        while len(line) > width:
            ends = [
                [end for found in kind.finditer(line, least) if (end := found.end()) <= width]
                for kind in _BREAKS
            ]
            at = next((found[-1] for found in ends if found), width)
            lines.append(line[:at].rstrip())
            line = indent + line[at:].lstrip()
        lines.append(line)
    return lines


def _widths(rows: Iterable[Sequence[str]], least: int) -> list[int]:
    """Give each column the room it needs; the last, then the widest give way until a row fits."""
    widths = [
        max(len(line) for cell in column for line in cell.splitlines() or [""])
        for column in zip(*rows, strict=True)
    ]
    while sum(widths) + 2 * len(widths) > WIDTH:
        at = -1 if widths[-1] > least else widths.index(max(widths))
        widths[at] -= 1
    return widths


def _filled(line: str) -> list[str]:
    return textwrap.wrap(
        line, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def _more(rest: Sequence[object], things: str = "") -> list[str]:
    return [f"  ... and {len(rest)} more {things}".rstrip()] if rest else []


def _folded(summary: str, content: str) -> str:
    head = f'<summary style="cursor:pointer">{escape(summary)}</summary>'
    return f"<details>{head}{content}</details>"
