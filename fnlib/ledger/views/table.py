"""A recording as a table: which statement changed what, and how."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from fnlib.ledger.entries import Counts, Entry
from fnlib.ledger.views.rows import Cell, Row, generator_of, rows_of
from fnlib.show.table import Table

FAR = "!"
LEGEND = f"{FAR} the statement does not name the owner of what it changes: action at a distance"
OPENED = 12  # iterations that the page can open one by one
# A sign and a colour for each kind of change (the palette of Okabe and Ito).
_KINDS = {
    ("●", "#009E73"): ("created", "bound", "graph built"),
    ("■", "#D55E00"): ("changed in place", "graph grown"),
    ("◆", "#0072B2"): ("replaced", "rebound"),
    ("✖", "#777777"): ("removed", "unbound", "graph freed", "given away"),
    ("○", "#E69F00"): ("kept", "graph kept"),
}
_SIGNS = {words: sign for sign, kinds in _KINDS.items() for words in kinds}
_COLUMNS = {"line": ">", "statement": "<", "  what it changed": "<", "how": "<"}


def text(entries: Sequence[Entry], counts: Counts, title: str, notes: Sequence[str] = ()) -> str:
    """Write entries as a table of at most 100 columns.

    Args:
        entries: of a ledger or a view.
        counts: of the same entries.
        title: the first line.
        notes: sentences to write below.
    """
    return table(entries, counts, title, notes).text()


def html(
    entries: Sequence[Entry],
    counts: Counts,
    title: str,
    notes: Sequence[str],
    iterations: Sequence[Sequence[Entry]],
) -> str:
    """Write entries as an HTML table, with iterations to open below.

    Args:
        entries: of a ledger or a view.
        counts: of the same entries.
        title: the first line.
        notes: sentences to write below.
        iterations: the entries of each iteration.
    """
    pieces = [table(entries, counts, title, notes).html()]
    for number, some in enumerate(iterations[:OPENED], 1):
        name = f"iteration {number}"
        inner = _filled(name, rows_of(some)).html()
        pieces.append(f'<details><summary style="cursor:pointer">{name}</summary>{inner}</details>')
    if rest := len(iterations) - OPENED:
        if rest > 0:
            said = f"{rest} more iterations: ledger.iteration({OPENED + 1}) and on"
            pieces.append(f"<div>{escape(said)}</div>")
    return f"<div>{''.join(pieces)}</div>"


def table(entries: Sequence[Entry], counts: Counts, title: str, notes: Sequence[str]) -> Table:
    """Fold entries into a table: a row a statement, with the counts below."""
    rows = rows_of(entries)
    below = [LEGEND] if any(cell.far for row in rows for cell in row.cells) else []
    below += [*captions(entries, counts), *(f"note: {note}" for note in notes)]
    if not rows:
        return Table(title, notes=["  no statement was recorded", *below])
    return _filled(title, rows, below)


def _filled(title: str, rows: Sequence[Row], notes: Sequence[str] = ()) -> Table:
    lines = _lines(rows)
    parts, code = {"": lines}, ("statement",)
    return Table(title, _COLUMNS, parts, notes, limit=len(lines), code=code, signs=_SIGNS)


def _lines(rows: Sequence[Row]) -> list[tuple[str, str, str, str]]:
    """Write a row as a line for each thing that it changed, and one for each note."""
    lines = []
    for row in rows:
        cells = [(marked(cell), cell.done) for cell in row.cells or [Cell("nothing", "")]]
        cells += [(f"  {note}", "") for note in row.notes]
        heads = [(str(row.line), row.code)] + [("", "")] * (len(cells) - 1)
        lines += [(*head, *cell) for head, cell in zip(heads, cells, strict=True)]
    return lines


def marked(cell: Cell) -> str:
    """Write what changed, with a mark for action at a distance."""
    return f"{FAR if cell.far else ' '} {cell.what}"


def captions(entries: Sequence[Entry], counts: Counts) -> list[str]:
    """Write the counts, and what they leave out."""
    changes = [change for entry in entries for change in entry.changes]
    said = []
    if any(change.state == "graph" and change.kind == "removed" for change in changes):
        said.append("the graph behind a loss is used up")
    moved = sorted({generator_of(one) for one in changes if one.state == "random state"})
    if moved:
        names = ", ".join(moved[:-1]) + (" and " if moved[1:] else "") + moved[-1]
        said.append(f"the random state of {names} moves")
    if blind := len({entry.where for entry in entries if not entry.has_source}):
        statements = f"{blind} statement{'s' * (blind > 1)}"
        said.append(f"{statements} without source text, so what they name is unknown")
    return [str(counts), *([f"not counted: {'; '.join(said)}"] if said else [])]
