"""A recording told in order: what was called and what changed, one moment after the other, for the rules to listen to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from fnlib.ledger.entries import Change, Entry, Event, Finding, Links
from fnlib.ledger.findings.texts import TEXTS

Severity = Literal["certain", "question"]


def moments(entries: list[Entry] | tuple[Entry, ...]) -> Iterator[tuple[Entry, Event | None]]:
    """Yield each call with its statement, and ``None`` for the end of each statement, when its changes are known."""
    for entry in entries:
        parts: list[tuple[int, Entry | Event]] = [(event.order, event) for event in entry.events]
        latest = -1
        for inner in entry.inside:
            orders = [event.order for event in inner.all_events]
            latest = max(latest, min(orders, default=latest))
            parts.append((latest, inner))
        for _, part in sorted(parts, key=lambda pair: pair[0]):
            if isinstance(part, Event):
                yield entry, part
            else:
                yield from moments([part])
        yield entry, None


class Story:
    """What all rules share: the entries by index, the links before a statement, and the list of reports."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self.by_index: dict[int, Entry] = {}
        self.before = Links()
        self._reports: dict[
            tuple[str, str, int, str], tuple[Severity, Entry, list[str], dict[str, Any]]
        ] = {}

    def report(
        self,
        code: str,
        severity: Severity,
        entry: Entry,
        place: str,
        *,
        per: str = "",
        **fields: Any,
    ) -> None:
        """Note a finding; the same one at the same line again only adds its place. ``per`` keeps apart what should be."""
        key = (code, entry.file, entry.line, per)
        if key not in self._reports:
            self._reports[key] = (severity, entry, [], fields)
        places = self._reports[key][2]
        if place not in places:
            places.append(place)

    def findings(self) -> list[Finding]:
        """The findings, the certain ones first, each in the order in which it happened."""
        found = []
        for (code, *_), (severity, entry, places, fields) in self._reports.items():
            place = places[0] if len(places) == 1 else f"{places[0]} and {len(places) - 1} more"
            text = TEXTS[code]
            fill = {"place": place, **fields}
            what, why, fix = (part.format(**fill) for part in (text.what, text.why, text.fix))
            found.append(
                Finding(code, severity, entry.line, place, what, why, fix, text.link, entry.file)
            )
        return sorted(found, key=lambda finding: finding.severity != "certain")

    @staticmethod
    def own(entry: Entry) -> list[Change]:
        """The changes of a statement, without those that statements inside of it have told already."""
        if not entry.inside:
            return list(entry.changes)
        told = {
            (change.owner, change.place, change.state)
            for inner in entry.inside
            for change in inner.changes
        }
        return [
            change
            for change in entry.changes
            if (change.owner, change.place, change.state) not in told or change.state == "name"
        ]

    def line(self, index: int) -> int:
        """First line of the statement with an index."""
        entry = self.by_index.get(index)
        return entry.line if entry is not None else 0

    def weights_of(self, subject: str, links: Links) -> set[str]:
        """Labels of the weights that an optimizer holds, or that a module and its parts have."""
        if subject in links.held:
            held = set(links.held[subject])
            return {label for label, token in links.weights.items() if token in held}
        tokens = {
            token for label, token in links.weights.items() if label.startswith(subject + ".")
        }
        return {label for label, token in links.weights.items() if token in tokens}

    def tell(self, rules: list[Rule]) -> None:
        """Play the recording to the rules."""
        for entry, event in moments(self.entries):
            self.by_index[entry.index] = entry
            for rule in rules:
                if event is not None:
                    rule.event(entry, event)
                else:
                    rule.after(entry)
            if event is None:
                self.before = entry.links
        for rule in rules:
            rule.end()


class Rule:
    """One listener. ``event`` is told of each call, ``after`` of each statement's end, ``end`` of the recording's."""

    def __init__(self, story: Story) -> None:
        self.story = story

    def event(self, entry: Entry, event: Event) -> None:
        """A call was seen in a statement."""

    def after(self, entry: Entry) -> None:
        """A statement has ended; its changes are known."""

    def end(self) -> None:
        """The recording has ended."""


def norm_after(change: Change) -> float | None:
    """Norm of what stands in a place after a change; ``None`` if that is no tensor or nothing."""
    return getattr(change.after, "norm", None)
