"""A recording as a table of plain text, in at most 100 columns."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from fnlib.ledger.entries import Counts, Entry
from fnlib.ledger.views.rows import Cell, Row, generator_of, rows_of

WIDTH = 100
FAR = "!"
# Where a long statement may go on in the next line, best first: at a space, after an opening bracket, before a dot.
_BREAKS = tuple(map(re.compile, (r"\s", r"[(\[{](?![)\]}])", r"(?=\.[^\W\d])")))
_SUBSCRIPT = re.compile(r"(?<=[\w)\]])\[[^\[\]]{,16}\]")  # a short one stays in one piece
LEGEND = f"{FAR} the statement does not name the owner of what it changes: action at a distance"
_BETWEEN = 13  # columns of the line number, the mark and the gaps
_LINES, _DEEP = 3, 4  # lines that a statement may always take; calls shown by a mark each
# columns: at most what a statement is sure of, at least and most for what, at least for how
_STATEMENT, _WHAT, _HOW = 40, (len("what it changed"), 36), 20


def text(entries: Sequence[Entry], counts: Counts, title: str, notes: Sequence[str] = ()) -> str:
    """Write entries as a table.

    Args:
        entries: of a ledger or a view.
        counts: of the same entries.
        title: to stand above.
        notes: sentences to stand below.

    Returns:
        Lines of at most 100 columns: statement | what it changed | how.
    """
    rows = rows_of(entries)
    lines = _wrap(title) or [title]
    if rows:
        statement, what = _widths(rows)
        lines.append(
            f"{'line':>5}  {'statement':<{statement}}    {'what it changed':<{what}}  how".rstrip()
        )
        for row in rows:
            lines += _lines(row, statement, what)
        if any(cell.far for row in rows for cell in row.cells):
            lines.append(LEGEND)
    else:
        lines.append("  no statement was recorded")
    said = [*captions(entries, counts), *[f"note: {note}" for note in notes]]
    return "\n".join([*lines, *[wrapped for sentence in said for wrapped in _wrap(sentence)]])


def captions(entries: Sequence[Entry], counts: Counts) -> list[str]:
    """The counts, and what they do not say."""
    found = [f"{counts}"]
    changes = [change for entry in entries for change in entry.changes]
    said = []
    if any(change.state == "graph" and change.kind == "removed" for change in changes):
        said.append("the graph behind a loss is used up")
    *others, last = [
        "",
        *sorted({generator_of(change) for change in changes if change.state == "random state"}),
    ]
    if last:
        said.append(
            f"the random state of {', '.join(others[1:])}{' and ' if others[1:] else ''}{last} moves"
        )
    if blind := len({entry.where for entry in entries if not entry.has_source}):
        said.append(
            f"{blind} statement{'s' * (blind > 1)} without source text, of which it cannot be told what they name"
        )
    if said:
        found.append(f"not counted: {'; '.join(said)}")
    return found


def _lines(row: Row, statement: int, what: int) -> list[str]:
    """A row: on the left its statement, on as many lines as it takes up to a few; on the right what it changed."""
    right: list[str] = []
    for cell in row.cells or [Cell("nothing", "")]:
        line = f"  {FAR if cell.far else ' '} {_cut_within(cell.what, what):<{what}}  "
        first, *rest = textwrap.wrap(_how(cell), WIDTH - 7 - statement - len(line)) or [""]
        right += [line + first, *(" " * len(line) + more for more in rest)]
    left = _folded(one_line(row), statement, max(_LINES, len(right)))
    left += [""] * (len(right) - len(left))
    right += [""] * (len(left) - len(right))
    heads = [f"{row.line:>5}", *["     "] * (len(left) - 1)]
    lines = [
        f"{head}  {code:<{statement}}{change}".rstrip()
        for head, code, change in zip(heads, left, right, strict=True)
    ]
    for note in row.notes:
        lines += [" " * 7 + more for more in textwrap.wrap(note, WIDTH - 7)]
    return lines


def _folded(code: str, width: int, most: int) -> list[str]:
    """A statement in lines of a column; what does not fit into the last of ``most`` lines is cut."""
    indent = " " * min(len(code) - len(code.lstrip()) + 4, width // 2)
    lines: list[str] = []
    while len(code) > width and len(lines) + 1 < most:
        at = _break(code, width)
        lines.append(code[:at].rstrip())
        code = indent + code[at:].lstrip()
    return [*lines, _cut(code, width)]


def _break(code: str, width: int) -> int:
    """Where a statement that is too long goes on in the next line."""
    whole = [found.span() for found in _SUBSCRIPT.finditer(code)]
    begin = max(width // 4, len(code) - len(code.lstrip()) + 4)
    for kind in _BREAKS:
        ends = [found.end() for found in kind.finditer(code, begin, width + 1)]
        free = [
            end
            for end in ends
            if end - (kind is _BREAKS[0]) <= width
            and not any(first < end < last for first, last in whole)
        ]
        if free:
            return free[-1]
    return width


def one_line(row: Row) -> str:
    """The statement on one line, set in as it is in the code; deep in calls, their number stands for the marks."""
    source = " ".join(part.strip() for part in row.source.splitlines())
    marks = "> " * row.depth if row.depth <= _DEEP else f"{row.depth}> "
    return " " * row.indent + marks + source


def _widths(rows: list[Row]) -> tuple[int, int]:
    """Columns for statements and for what they changed; what is left is for how. Words are wrapped there, elsewhere cut."""
    cells = [cell for row in rows for cell in row.cells]
    longest = max(map(len, ["how", *map(_how, cells)]))
    what = max(_WHAT[0], min(_WHAT[1], max((len(cell.what) for cell in cells), default=0)))
    lengths = [max(len("statement") * 2, len(one_line(row))) for row in rows]
    room = WIDTH - _BETWEEN - what
    # a statement of so many columns is not broken; then rather wrap how
    least = max(
        [length for length in lengths if length <= min(_STATEMENT, room - _HOW)],
        default=_STATEMENT // 2,
    )
    return min(max(lengths), max(least, room - longest)), what


def _how(cell: Cell) -> str:
    return f"{cell.how} ({cell.when})" if cell.when else cell.how


def _cut(content: str, width: int) -> str:
    return content if len(content) <= width else content[: width - 3] + "..."


def _cut_within(place: str, width: int) -> str:
    """A place cut in its middle: whose it is stands at its beginning, which one at its end."""
    if len(place) > width:
        place = place.removesuffix(" of its state")
    if len(place) <= width:
        return place
    owner, colon, rest = place.partition(": ")
    end = len(colon + rest) if colon and len(rest) < width - 5 else 2 * (width - 3) // 3
    return f"{place[: width - 3 - end]}...{place[len(place) - end :]}"


def _wrap(content: str) -> list[str]:
    return textwrap.wrap(content, WIDTH, subsequent_indent="  ")
