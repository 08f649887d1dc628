"""`View`: entries with counts, a table, a picture, a player and a dict. One iteration of a loop is one; so is a whole ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fnlib.ledger.entries import Alias, Counts, Entry, Event, count
from fnlib.ledger.errors import NoSuchIteration
from fnlib.ledger.views.html import html
from fnlib.ledger.views.plain import as_dict
from fnlib.ledger.views.table import text

if TYPE_CHECKING:
    from fnlib.ledger.findings.shown import Findings


class Shown:
    """What a ledger and a part of one have in common: counts, a table, a picture, a player, a dict."""

    entries: list[Entry]
    title: str
    watched: tuple[str, ...]
    notes: Sequence[str] = ()

    @property
    def counts(self) -> Counts:
        """Statements that act at a distance, values overwritten, names rebound."""
        return count(self.entries)

    @property
    def events(self) -> list[Event]:
        """The calls that were seen, in order."""
        return sorted(
            (event for entry in self.entries for event in entry.all_events),
            key=lambda event: event.order,
        )

    @property
    def aliases(self) -> tuple[Alias, ...]:
        """Who shared storage with whom after the last entry."""
        return self.entries[-1].aliases if self.entries else ()

    @property
    def iterations(self) -> int:
        """How many iterations of the loop around the first statement in a loop were recorded; 0 without one."""
        return len(self._iterations(None))

    def iteration(self, number: int, *, line: int | None = None) -> View:
        """Open one iteration of a loop: its entries, counts and table alone.

        Args:
            number: from 1; the iterations of an inner loop are counted through.
            line: first line of the loop's header; by default the loop around the first statement that stands in one.

        Raises:
            NoSuchIteration: it was not recorded.
        """
        found = self._iterations(line)
        if not 1 <= number <= len(found):
            raise NoSuchIteration(number, len(found))
        return View(found[number - 1], f"iteration {number} of {len(found)}", self.watched)

    def _iterations(self, line: int | None) -> list[list[Entry]]:
        """The entries of each iteration of a loop."""
        if line is None:
            line = next(
                (
                    entry.iterations[-1][0]
                    for entry in self.entries
                    if entry.iterations and entry.kind == "statement"
                ),
                None,
            )
        found: dict[tuple[tuple[int, int], ...], list[Entry]] = {}
        for entry in self.entries:
            lines = [header for header, _ in entry.iterations]
            if line in lines:
                found.setdefault(entry.iterations[: lines.index(line) + 1], []).append(entry)
        return [some for some in found.values() if any(entry.kind == "statement" for entry in some)]

    @property
    def findings(self) -> Findings:
        """Silent bugs that show in these entries, certain ones first; a list that reads as a report."""
        from fnlib.ledger.findings import find
        from fnlib.ledger.findings.shown import Findings

        return Findings(find(self))

    def to_dict(self) -> dict[str, Any]:
        """Everything as dicts, lists, numbers and strings, ready for JSON."""
        return as_dict(self.entries, self.counts, self.watched, self.aliases, self.notes)

    def plot(self, **options: Any) -> Any:
        """Draw lanes of state against statements; see `fnlib.ledger.picture.plot`.

        It returns the figure, which a notebook shows where it is a cell's last line, without a semicolon behind it.
        """
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            raise ImportError(
                "ledger.plot() draws with matplotlib, which is not installed here: pip install matplotlib. "
                "Without it, print(ledger) shows the same as a table.",
                name="matplotlib",
            ) from None
        from fnlib.ledger.views.picture import plot

        return plot(self, **options)

    def replay(self) -> Any:
        """Step through the recording with a slider; see `fnlib.ledger.replay.replay`."""
        from fnlib.ledger.views.replay import replay

        return replay(self)

    def __str__(self) -> str:
        return text(self.entries, self.counts, self.title, self.notes)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        loops = self._iterations(None)
        some = (
            [(f"iteration {number}", entries) for number, entries in enumerate(loops, 1)]
            if len(loops) > 1
            else []
        )
        return html(self.entries, self.counts, self.title, self.notes, some)


class View(Shown):
    """Some entries of a ledger.

    Args:
        entries: the entries, in order.
        title: what they are, for the head of the table.
        watched: labels of the watched objects.
    """

    def __init__(self, entries: Sequence[Entry], title: str, watched: tuple[str, ...]) -> None:
        self.entries, self.title, self.watched = list(entries), title, watched
