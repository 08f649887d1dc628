"""A recording as a table of plain text, in at most 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from fnlib.ledger.entries import Counts, Entry
from fnlib.ledger.rows import Cell, Row, rows_of

WIDTH = 100
FAR = "!"
LEGEND = f"{FAR} the statement does not name the owner of what it changes: action at a distance"
_STATEMENT, _WHAT = (18, 40), (14, 34)  # least and most columns


def text(entries: Sequence[Entry], counts: Counts, title: str, notes: Sequence[str] = ()) -> str:
    """Write entries as a table.

    Args:
        entries: of a ledger or a view.
        counts: of the same entries.
        title: one line, to stand above.
        notes: sentences to stand below.

    Returns:
        Lines of at most 100 columns: statement | what it changed | how.
    """
    rows = rows_of(entries)
    lines = [title]
    if rows:
        statement = _fit([one_line(row) for row in rows], *_STATEMENT)
        what = _fit([cell.what for row in rows for cell in row.cells], *_WHAT)
        lines.append(f"{'line':>5}  {'statement':<{statement}}    {'what it changed':<{what}}  how".rstrip())
        for row in rows:
            lines += _lines(row, statement, what)
        if any(cell.far for row in rows for cell in row.cells):
            lines.append(LEGEND)
    else:
        lines.append("  no statement was recorded")
    return "\n".join([*lines, *captions(entries, counts), *[wrapped for note in notes for wrapped in _wrap(f"note: {note}")]])


def captions(entries: Sequence[Entry], counts: Counts) -> list[str]:
    """The counts, and what they do not say."""
    found = [f"{counts}"]
    changes = [change for entry in entries for change in entry.changes]
    said = []
    if any(change.state == "graph" and change.kind == "removed" for change in changes):
        said.append("the graph behind a loss is used up")
    moved = sorted({change.place for change in changes if change.state == "random state"})
    if moved:
        said.append(f"the random state of {' and '.join(moved)} moves")
    if blind := len({entry.where for entry in entries if not entry.has_source}):
        said.append(f"{blind} statement{'s' * (blind > 1)} without source text, of which it cannot be told what they name")
    if said:
        found.append(f"not counted: {'; '.join(said)}")
    return found


def _lines(row: Row, statement: int, what: int) -> list[str]:
    cells: list[Cell] = row.cells or [Cell("nothing", "")]
    lines = []
    for number, cell in enumerate(cells):
        head = f"{row.line:>5}  {_cut(one_line(row), statement):<{statement}}" if number == 0 else " " * (7 + statement)
        how = f"{cell.how} ({cell.when})" if cell.when else cell.how
        mark = FAR if cell.far else " "
        line = f"{head}  {mark} {_cut(cell.what, what):<{what}}  "
        first, *rest = textwrap.wrap(how, WIDTH - len(line)) or [""]
        lines.append((line + first).rstrip())
        lines += [" " * len(line) + more for more in rest]
    for note in row.notes:
        lines += [" " * 7 + more for more in textwrap.wrap(note, WIDTH - 7)]
    return lines


def one_line(row: Row) -> str:
    """The statement on one line, set in as it is in the code."""
    source = " ".join(part.strip() for part in row.source.splitlines())
    return " " * row.indent + "> " * row.depth + source


def _fit(texts: list[str], least: int, most: int) -> int:
    return max(least, min(most, max(map(len, texts), default=0)))


def _cut(content: str, width: int) -> str:
    return content if len(content) <= width else content[: width - 3] + "..."


def _wrap(content: str) -> list[str]:
    return textwrap.wrap(content, WIDTH, subsequent_indent="  ")
