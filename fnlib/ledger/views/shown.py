"""The rows of a picture: one for each statement, its loops folded and its text cut to what fits."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass, field

from fnlib.ledger.entries import Entry, Finding


@dataclass(slots=True)
class Row:
    """A statement in the picture: ``code`` is its text on one line, without comments; ``times`` how often it ran."""

    number: int
    entry: Entry
    code: str
    indent: int
    times: int = 1
    alerts: list[Finding] = field(default_factory=list)

    @property
    def line(self) -> int:
        """Its line number."""
        return self.entry.line

    def holds(self, finding: Finding) -> bool:
        """Whether a finding is about this statement."""
        same_file = not finding.file or not self.entry.file or finding.file == self.entry.file
        return same_file and self.entry.line <= finding.line <= self.entry.end_line


def rows_of(entries: Sequence[Entry]) -> list[Row]:
    """Fold entries into rows: the last run of each statement stands for all, at the place of the first."""
    runs: dict[tuple[str, str, int], list[Entry]] = {}
    for entry in _opened(entries):
        runs.setdefault(entry.where, []).append(entry)
    last = [found[-1] for found in runs.values()]
    left = {
        depth: min(entry.indent for entry in last if entry.depth == depth)
        for depth in {entry.depth for entry in last}
    }
    return [
        Row(
            number,
            found[-1],
            one_line(found[-1].source),
            (found[-1].indent - left[found[-1].depth]) // 4 + found[-1].depth,
            len(found),
        )
        for number, found in enumerate(runs.values())
    ]


def _opened(entries: Sequence[Entry]) -> list[Entry]:
    """Statements in the order in which they started; one that was followed inside is shown by what happened there."""
    found: list[Entry] = []
    for entry in entries:
        if entry.inside:
            found.append(_call(entry))
            found.extend(_opened(entry.inside))
        else:
            found.append(entry)
    return found


def _call(entry: Entry) -> Entry:
    """A statement that called recorded functions, with the changes that these account for left to them."""
    seen = {
        (change.label, change.state) for inner in _opened(entry.inside) for change in inner.changes
    }
    own = tuple(change for change in entry.changes if (change.label, change.state) not in seen)
    names = ("index", "line", "end_line", "source", "kind", "iterations", "reads", "binds", "named")
    copy = Entry(**{name: getattr(entry, name) for name in names})
    copy.changes, copy.events, copy.file, copy.function = (
        own,
        entry.events,
        entry.file,
        entry.function,
    )
    copy.indent, copy.depth, copy.raised, copy.has_source = (
        entry.indent,
        entry.depth,
        entry.raised,
        entry.has_source,
    )
    return copy


def one_line(source: str) -> str:
    """A statement on one line, without its comments; strings stay as they are."""
    lines = source.splitlines()
    try:
        for token in tokenize.generate_tokens(io.StringIO(source + "\n").readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                lines[row - 1] = lines[row - 1][:column]
    except (tokenize.TokenError, IndentationError):
        pass  # a header alone is no whole statement: its text is shown as it stands
    parts = [part for line in lines if (part := line.strip())]
    text = ""
    for part in parts:
        glue = "" if not text or text.endswith(("(", "[", "{")) or part[0] in ")]}" else " "
        text += glue + part
    return text


def elided(text: str, width: int) -> str:
    """A text of at most ``width`` characters, an ellipsis where it was cut."""
    return text if len(text) <= width else text[: width - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
