"""From what differs between two looks to what the table says: created, changed in place, replaced, removed."""

from __future__ import annotations

from typing import Any

from fnlib.ledger.entries import GIVEN_AWAY, Change, Entry, Kind
from fnlib.ledger.looks.content import distance, summarise
from fnlib.ledger.looks.sighting import Delta, Seen

ENOUGH = 1 << 20  # bytes of copies that may wait


class Untold:
    """Statements whose differences are not yet told as changes; until they are, their copies are held.

    Norms and checksums of many small tensors in a row take a third of the time that they take between two statements, when
    PyTorch has just emptied the processor's caches.
    """

    def __init__(self, keep: bool) -> None:
        self._keep, self._bytes = keep, 0
        self._waiting: list[tuple[Entry, list[Delta], list[Change]]] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, entry: Entry, deltas: list[Delta], others: list[Change]) -> None:
        """Take in what a statement changed: differences in what is watched, and names, graphs and random state, told already."""
        if not deltas:
            entry.changes = tuple(others)
            return
        self._waiting.append((entry, deltas, others))
        for delta in deltas:
            for copy in delta.seen.copies:
                self._bytes += copy.nbytes
        if self._bytes > ENOUGH:
            self.tell()

    def tell(self) -> None:
        """Enter all that waits."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        for entry, deltas, others in waiting:
            entry.changes = (
                *[_change(delta, entry.named, self._keep) for delta in deltas],
                *others,
            )


def _change(delta: Delta, named: frozenset[str], keep: bool) -> Change:
    before, after = delta.before, delta.after
    one = delta.seen
    kind, note = _kind(before, after)
    moved = None
    if before is not None and after is not None and len(before.copies) == len(after.copies) == 1:
        moved = distance(before.copies[0], after.copies[0])
    return Change(
        one.watch.label,
        one.place,
        one.state,
        kind,
        _shown(before, keep),
        _shown(after, keep),
        moved,
        one.watch.label in named,
        delta.also,
        note,
    )


def _kind(before: Seen | None, after: Seen | None) -> tuple[Kind, str]:
    """Which of the kinds of change it was, and what to add to it."""
    if before is None:
        return "created", ""
    if after is None:
        return "removed", GIVEN_AWAY if before.watch.given_away else ""
    if before.token != after.token and None not in (before.token, after.token):
        return "replaced", ""
    if (
        before.copies
        and after.copies
        and before.spots != after.spots
        and not (before.cow or after.cow)
    ):
        return "replaced", "the same tensor object, with other storage (.data, set_ or resize_)"
    return "changed in place", ""


def _shown(seen: Seen | None, keep: bool) -> Any:
    """What is kept of one side of a change: a summary of a tensor, or the plain value."""
    if seen is None:
        return None
    if not seen.copies and seen.token is None:
        return str(seen.value) if type(seen.value).__name__ == "Held" else seen.value
    if seen.summary is None:
        seen.summary = summarise(seen.copies, seen.value, seen.token, keep, seen.octets)
    return seen.summary
