"""A recording as a table of plain text, in at most 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from fnlib.ledger.entries import Counts, Entry
from fnlib.ledger.rows import Cell, Row, generator_of, rows_of

WIDTH = 100
FAR = "!"
LEGEND = f"{FAR} the statement does not name the owner of what it changes: action at a distance"
_BETWEEN = 13  # columns of the line number, the mark and the gaps
_STATEMENT, _WHAT, _HOW = (30, 40), (14, 36), 20  # least and most columns


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
        statement, what = _widths(rows)
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
    *others, last = ["", *sorted({generator_of(change) for change in changes if change.state == "random state"})]
    if last:
        said.append(f"the random state of {', '.join(others[1:])}{' and ' if others[1:] else ''}{last} moves")
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
        how = _how(cell)
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


def _widths(rows: list[Row]) -> tuple[int, int]:
    """Columns for statements and for what they changed; what is left is for how. Words are wrapped there, elsewhere cut."""
    cells = [cell for row in rows for cell in row.cells]
    longest = max((len(_how(cell)) for cell in cells), default=0)
    what = max(_WHAT[0], min(_WHAT[1], max((len(cell.what) for cell in cells), default=0)))
    written = max(len("statement") * 2, *(len(one_line(row)) for row in rows))
    room = WIDTH - _BETWEEN - what
    statement = min(written, _STATEMENT[1], room - _HOW)
    if statement > room - longest >= _STATEMENT[0]:
        statement = room - longest  # a little less of a long statement, and nothing needs wrapping
    return statement, what


def _how(cell: Cell) -> str:
    return f"{cell.how} ({cell.when})" if cell.when else cell.how


def _cut(content: str, width: int) -> str:
    return content if len(content) <= width else content[: width - 3] + "..."


def _wrap(content: str) -> list[str]:
    return textwrap.wrap(content, WIDTH, subsequent_indent="  ")
