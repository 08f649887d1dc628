"""A recording as HTML: for notebooks, in both themes, with nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from fnlib.ledger.entries import Counts, Entry
from fnlib.ledger.views.rows import Cell, Row, rows_of
from fnlib.ledger.views.table import FAR, LEGEND, captions

OPENED = (
    12  # iterations that can be opened one by one; a long run keeps its last ones out of the page
)

# A sign and a word for each kind, so that no colour carries a meaning by itself (Okabe and Ito's palette).
_SIGNS = {
    "created": ("●", "#009E73"),
    "changed in place": ("■", "#D55E00"),
    "replaced": ("◆", "#0072B2"),
    "removed": ("✖", "#777777"),
    "kept": ("○", "#E69F00"),
}
_LINE = "1px solid var(--jp-border-color1, rgba(128,128,128,.5))"
_CELL = "text-align:left;vertical-align:top;padding:2px 12px 2px 0;background:transparent;color:inherit;border:none"
_CODE = (
    "font-family:var(--jp-code-font-family, monospace);white-space:pre-wrap;overflow-wrap:anywhere"
)
_TABLE = "table-layout:auto;border-collapse:collapse;margin:0;color:inherit;font-size:var(--jp-code-font-size, 13px)"

# A long statement goes on in the next line rather than take the room of what it did.
_HEADS = (("line", "2em"), ("statement", "9em"), ("what it changed", "7em"), ("how", "7em"))


def html(
    entries: Sequence[Entry],
    counts: Counts,
    title: str,
    notes: Sequence[str],
    iterations: Sequence[tuple[str, list[Entry]]],
) -> str:
    """Write entries as an HTML table; iterations are folded, and each can be opened below.

    Args:
        entries: of a ledger or a view.
        counts: of the same entries.
        title: the caption.
        notes: sentences to stand below.
        iterations: name and entries of each iteration that can be opened.
    """
    rows = rows_of(entries)
    pieces = [_table(rows, title)]
    if any(cell.far for row in rows for cell in row.cells):
        pieces.append(_line(LEGEND))
    pieces += [
        _line(sentence, bold=number == 0)
        for number, sentence in enumerate(captions(entries, counts))
    ]
    pieces += [_line(f"note: {note}") for note in notes]
    for name, some in iterations[:OPENED]:
        pieces.append(
            f'<details><summary style="cursor:pointer">{escape(name)}</summary>{_table(rows_of(some), name)}</details>'
        )
    if len(iterations) > OPENED:
        pieces.append(
            _line(
                f"{len(iterations) - OPENED} more iterations: ledger.iteration({OPENED + 1}) and on"
            )
        )
    return f'<div style="overflow-x:auto;color:var(--jp-content-font-color1, inherit)">{"".join(pieces)}</div>'


def _table(rows: list[Row], title: str) -> str:
    caption = f'<caption style="caption-side:top;text-align:left;font-weight:bold;color:inherit;padding:2px 0">{escape(title)}</caption>'
    heads = "".join(
        f'<th scope="col" style="{_CELL};border-bottom:{_LINE};min-width:{width}">{name}</th>'
        for name, width in _HEADS
    )
    body = "".join(_rows(row) for row in rows)
    return f'<table style="{_TABLE}">{caption}<thead><tr style="background:transparent">{heads}</tr></thead><tbody>{body}</tbody></table>'


def _rows(row: Row) -> str:
    cells: list[Cell] = row.cells or [Cell("nothing", "")]
    source = "\n".join(
        " " * row.indent + "> " * row.depth + line for line in row.source.splitlines()
    )
    notes = "".join(f'<div style="white-space:normal">{escape(note)}</div>' for note in row.notes)
    span = f' rowspan="{len(cells)}"' if len(cells) > 1 else ""
    head = (
        f'<td{span} style="{_CELL};border-top:{_LINE};text-align:right">{row.line}</td>'
        f'<th{span} scope="row" style="{_CELL};border-top:{_LINE};font-weight:normal;{_CODE}">{escape(source)}{notes}</th>'
    )
    lines = []
    for number, cell in enumerate(cells):
        top = f";border-top:{_LINE}" if number == 0 else ""
        far = f'<b title="{escape(LEGEND[2:])}">{FAR}</b> ' if cell.far else ""
        sign, colour = _SIGNS.get(cell.kind, ("", ""))
        how = f"{cell.how} ({cell.when})" if cell.when else cell.how
        shown = f'<span aria-hidden="true" style="color:{colour}">{sign}</span> ' if sign else ""
        lines.append(
            f'<tr style="background:transparent">{head if number == 0 else ""}'
            f'<td style="{_CELL}{top}">{far}{escape(cell.what)}</td><td style="{_CELL}{top}">{shown}{escape(how)}</td></tr>'
        )
    return "".join(lines)


def side_cell(row: Row | None) -> str:
    """A row as one cell of a comparison: the statement, and below it what it changed."""
    if row is None:
        return ""
    source = "\n".join(
        " " * row.indent + "> " * row.depth + line for line in row.source.splitlines()
    )
    lines = [f'<div style="{_CODE}">{escape(source)}</div>']
    for cell in row.cells:
        far = f"<b>{FAR}</b> " if cell.far else ""
        sign, colour = _SIGNS.get(cell.kind, ("", ""))
        how = f"{cell.how} ({cell.when})" if cell.when else cell.how
        shown = f'<span aria-hidden="true" style="color:{colour}">{sign}</span> {escape(how)}'
        lines.append(
            f'<div style="padding-left:{row.indent + 2}ch">{far}{escape(cell.what)}: {shown}</div>'
        )
    lines += [
        f'<div style="padding-left:{row.indent + 2}ch">{escape(note)}</div>' for note in row.notes
    ]
    return "".join(lines)


def _line(content: str, *, bold: bool = False) -> str:
    return f'<p style="margin:4px 0 0 0{";font-weight:bold" if bold else ""}">{escape(content)}</p>'
