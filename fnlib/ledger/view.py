"""`View`: some of a ledger's entries, with counts and a table of their own."""

from __future__ import annotations

from collections.abc import Sequence

from fnlib.ledger.entries import Counts, Entry, Event, count


class View:
    """Part of a recording: one iteration of a loop, or any entries that were picked.

    Args:
        entries: the entries, in order.
        title: what they are, for the head of the table.
        watched: labels of the watched objects.
    """

    def __init__(self, entries: Sequence[Entry], title: str, watched: tuple[str, ...]) -> None:
        self.entries, self.title, self.watched = list(entries), title, watched

    @property
    def counts(self) -> Counts:
        """Statements that act at a distance, values overwritten, names rebound."""
        return count(self.entries)

    @property
    def events(self) -> list[Event]:
        """The calls that were seen in these entries, in order."""
        return [event for entry in self.entries for event in entry.all_events]
