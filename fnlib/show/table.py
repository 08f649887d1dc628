"""One table, written as plain text and as HTML: what the reprs of this package are made of."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH = 100  # columns of a terminal
ROWS = 20  # a longer part is folded
BARS = "▁▂▃▄▅▆▇█"
_PLAIN = str.maketrans({**dict(zip(BARS, ".:-=+*%#", strict=True)), "×": "x", "…": "~"})

# JupyterLab's colours where there is a JupyterLab, the page's own elsewhere. No colour carries a meaning by itself.
_LINE = "var(--jp-border-color1, currentColor)"
_TABLE = "border-collapse:collapse;color:inherit;font-size:var(--jp-code-font-size, 13px);font-variant-numeric:tabular-nums;margin:0"
_CAPTION = "caption-side:top;text-align:left;font-weight:bold;color:inherit;padding:2px 8px 6px 0;white-space:nowrap"
_CELL = "padding:2px 10px 2px 0;white-space:nowrap;background:transparent;color:inherit;border:none"
_MONO = "font-family:var(--jp-code-font-family, monospace)"


@dataclass
class Table:
    """What a value shows of itself.

    Args:
        title: one line.
        columns: the headings.
        left: headings of the columns that are set flush left; the others are numbers, flush right.
        parts: for each part of the value, its name ("" for a value of one part) and its rows of cells.
        notes: lines below, each with a label: totals, and what deserves attention.
    """

    title: str
    columns: tuple[str, ...]
    left: frozenset[str] = frozenset({"name"})
    parts: list[tuple[str, list[tuple[str, ...]]]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)


def text(table: Table) -> str:
    """Write a table in at most 100 columns.

    >>> print(text(Table("Weights", ("name", "size"), parts=[("", [("w", "12"), ("bias", "3")])], notes=[("total", "15")])))
    Weights
      name  size
      w       12
      bias     3
    total: 15
    """
    shown = [row for _, rows in table.parts for row in rows[:ROWS]]
    widths = [max(map(len, column)) for column in zip(table.columns, *shown, strict=True)]
    widths[0] = (
        max(12, min(widths[0], WIDTH - sum(widths[1:]) - 2 * len(widths)))
        if widths[0] > 12
        else widths[0]
    )

    def line(cells: Sequence[str]) -> str:
        name, *others = cells
        name = (
            name if len(name) <= widths[0] else "…" + name[1 - widths[0] :]
        )  # the end of a long name tells it from the next
        padded = [name.ljust(widths[0])]
        for cell, heading, width in zip(others, table.columns[1:], widths[1:], strict=True):
            padded.append(cell.ljust(width) if heading in table.left else cell.rjust(width))
        return ("  " + "  ".join(padded)).rstrip()

    lines = [table.title]
    if shown:
        lines.append(line(table.columns))
    for part, rows in table.parts:
        if part and rows and len(table.parts) > 1:
            lines.append(part)
        lines += map(line, rows[:ROWS])
        if len(rows) > ROWS:
            lines.append(f"  … and {len(rows) - ROWS} more")
    return printable(
        "\n".join(lines + [_wrapped(f"{label}: {note}") for label, note in table.notes])
    )


def html(table: Table, above: str = "") -> str:
    """Write a table as HTML that needs nothing from elsewhere and is read well by a screen reader.

    Args:
        table: the table.
        above: HTML to stand between the title and the table.
    """
    parts = [(part, rows) for part, rows in table.parts if rows]
    bodies = "".join(
        _body(table, part if len(parts) > 1 else "", rows[:ROWS]) for part, rows in parts
    )
    caption = f'<caption style="{_CAPTION}">{escape(table.title)}</caption>'
    pieces = [above]
    if bodies:
        pieces.append(f'<table style="{_TABLE}">{caption}{_head(table)}{bodies}</table>')
    else:
        pieces.insert(0, f'<p style="margin:0;font-weight:bold">{escape(table.title)}</p>')
    for part, rows in parts:
        if len(rows) > ROWS:
            rest = f"… and {len(rows) - ROWS} more" + (
                f" {part}" if part and len(parts) > 1 else ""
            )
            caption = f'<caption style="{_CAPTION}">{escape(table.title)}, {escape(part)} from row {ROWS + 1}</caption>'
            inner = f'<table style="{_TABLE}">{caption}{_head(table)}{_body(table, "", rows[ROWS:])}</table>'
            pieces.append(
                f'<details><summary style="cursor:pointer">{escape(rest)}</summary>{inner}</details>'
            )
    for label, note in table.notes:
        pieces.append(f'<p style="margin:4px 0 0 0"><b>{escape(label)}</b>: {escape(note)}</p>')
    return f'<div style="overflow-x:auto;color:var(--jp-content-font-color1, inherit)">{"".join(pieces)}</div>'


def folded(summary: str, content: str) -> str:
    """Write preformatted text that opens on a click."""
    return (
        f'<details><summary style="cursor:pointer">{escape(summary)}</summary>'
        f'<pre style="margin:4px 0 8px 0;color:inherit;background:transparent">{escape(content)}</pre></details>'
    )


def printable(content: str) -> str:
    """Return text that the terminal can encode: bars and signs become plain characters where it cannot."""
    try:
        content.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return content.translate(_PLAIN)
    return content


def _align(table: Table, heading: str) -> str:
    return f"{_CELL};text-align:{'left' if heading in table.left else 'right'}"


def _head(table: Table) -> str:
    cells = "".join(
        f'<th scope="col" style="{_align(table, h)};border-bottom:1px solid {_LINE}">{escape(h)}</th>'
        for h in table.columns
    )
    return f'<thead><tr style="background:transparent">{cells}</tr></thead>'


def _body(table: Table, part: str, rows: list[tuple[str, ...]]) -> str:
    lines = []
    if part:
        cell = f'<th scope="rowgroup" colspan="{len(table.columns)}" style="{_CELL};text-align:left;font-weight:bold;padding-top:8px">'
        lines.append(f'<tr style="background:transparent">{cell}{escape(part)}</th></tr>')
    for name, *others in rows:
        cells = f'<th scope="row" style="{_CELL};text-align:left;font-weight:normal;{_MONO}">{escape(name)}</th>'
        for heading, cell in zip(table.columns[1:], others, strict=True):
            style = _align(table, heading)
            if set(cell) & set(BARS):
                cells += f'<td style="{style};{_MONO};line-height:1" aria-label="{_spoken(cell)}">{cell.replace(" ", "&nbsp;")}</td>'
            else:
                cells += f'<td style="{style}">{escape(cell)}</td>'
        lines.append(f'<tr style="background:transparent">{cells}</tr>')
    return f"<tbody>{''.join(lines)}</tbody>"


def _spoken(bars: str) -> str:
    """Describe a histogram to a screen reader: the heights, 0 to 8."""
    return "heights " + " ".join(str(BARS.find(bar) + 1) for bar in bars)


def _wrapped(line: str) -> str:
    """Break a note into lines of at most 100 columns."""
    import textwrap

    return textwrap.fill(
        line, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
