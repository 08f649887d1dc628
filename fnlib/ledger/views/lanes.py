"""Lanes of state: which there are, in which order they stand, and which of them a statement reads.

Names come first in the order in which they are bound, then modules (``.grad``, weights, buffers, mode), then optimizers
(itself, moments, rate), then the rest, and the random generators apart. So the same state stands at the same place in
two pictures, and a functional loop, which binds one value after the other, runs down a staircase.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fnlib.ledger.entries import Bound, Change
from fnlib.ledger.views.shown import Row

Key = tuple[str, str]  # (owner, part): ("model", "weights"); ("loss", "") for a name

_PARTS = {
    "weight": "weights",
    "gradient": ".grad",
    "requires_grad flag": "requires_grad",
    "buffer": "buffers",
    "mode flag": "mode",
    "optimizer state": "moments",
    "group entry": "settings",
    "scheduler state": "state",
    "value": "values",
    "name": "itself",
    "graph": "itself",
}
_ORDER = (
    "", "old", "new", "itself", ".grad", "weights", "requires_grad", "buffers", "mode", "moments", "rate", "settings", "state", "values",
)  # fmt: skip
_KEPT_BESIDE = (
    "Parameters",
    "Gradient",
)  # values whose earlier one is drawn beside the new one if it lives on
_NAMES_AT_MOST = 8


@dataclass(frozen=True, slots=True)
class Lane:
    """One column: ``head`` is its owner, written over all its lanes, ``title`` the part. ``since``: the row that made it."""

    key: Key
    head: str
    title: str
    since: int | None = None
    apart: bool = False


class Lanes:
    """The lanes of some rows."""

    def __init__(self, rows: list[Row], watched: tuple[str, ...]) -> None:
        changes = [(row, change) for row in rows for change in row.entry.changes]
        events = [event for row in rows for event in row.entry.events]
        self.optimizers = {
            event.subject
            for event in events
            if event.kind == "step" and not event.subject.startswith("(")
        }
        self.schedulers = {
            change.owner for _, change in changes if change.state == "scheduler state"
        }
        self.schedulers |= {
            event.subject
            for event in events
            if event.kind == "scheduler step" and not event.subject.startswith("(")
        }
        self._labels = {
            *watched,
            *(
                change.owner
                for _, change in changes
                if change.state not in ("graph", "name", "random state")
            ),
        }
        self._labels |= {label for row in rows for label in row.entry.named}
        weighty = {
            self.root(label) for row in rows for label in row.entry.links.weights
        }  # a loss or an activation has none
        forwards = {
            self.root(event.subject)
            for event in events
            if event.kind in ("forward", "state_dict", "load_state_dict")
        } & weighty
        modules = {
            change.owner
            for _, change in changes
            if change.state in ("buffer", "mode flag") or _is_module(change)
        }
        self._rows = rows
        self._names: dict[str, int] = {}  # name -> the row that binds it last; -1 if none does
        self._bound: dict[str, Change] = {}
        for row, change in changes:
            self.optimizers |= self._optimizer(change, modules | forwards)
            if (
                change.state == "name"
                and row.entry.kind == "statement"
                and change.kind != "removed"
            ):
                self._names[change.owner] = row.number
                self._bound[change.owner] = change
            elif change.state == "graph":
                self._names.setdefault(change.owner, -1)
        values = {
            name
            for name, change in self._bound.items()
            if isinstance(change.after, Bound) and change.after.type == "Model"
        }
        self.modules = (modules | forwards) - values
        self._names = {
            name: row
            for name, row in self._names.items()
            if name not in self.modules | self.optimizers | self.schedulers
        }
        self._split = {
            name
            for name, change in self._bound.items()
            if name in self._names
            and isinstance(now := change.after, Bound)
            and now.alive
            and now.type in _KEPT_BESIDE
        }
        self.still: list[tuple[int, Key]] = [
            (self._names[name], (name, "old")) for name in self._names if name in self._split
        ]
        self._others = self._too_many(rows)
        self._watched = watched

    def _optimizer(self, change: Change, modules: set[str]) -> set[str]:
        of_optimizers = (
            change.state in ("optimizer state", "group entry") and change.owner not in modules
        )
        kind = self._bound.get(change.owner)
        is_value = (
            kind is not None
            and isinstance(kind.after, Bound)
            and kind.after.type in ("Parameters", "Model", "Gradient")
        )
        return {change.owner} if of_optimizers and not is_value else set()

    def _too_many(self, rows: list[Row]) -> set[str]:
        """Where there are many names, those of plain numbers and of values that no other statement reads share a lane."""
        if len(self._names) <= _NAMES_AT_MOST:
            return set()
        plain = [
            name
            for name, change in self._bound.items()
            if name in self._names and not _has_graph(change) and name not in self._split
        ]
        plain = [
            name
            for name in plain
            if isinstance(now := self._bound[name].after, Bound) and "tensor" not in now.text
        ]
        return set(plain if len(plain) > 1 else ())

    # --- where something belongs ---------------------------------------------------------------

    def root(self, label: str) -> str:
        """The watched object that a label is a part of: ``self.model`` for ``self.model.0.weight``."""
        parts = label.replace("[", ".[").split(".")
        for length in range(len(parts), 0, -1):
            if (start := ".".join(parts[:length]).replace(".[", "[")) in self._labels:
                return start
        return parts[0]

    def of(self, change: Change, row: int) -> Key:
        """The lane of a change."""
        if change.state == "random state":
            return ("random", change.place)
        owner = change.owner.removesuffix(" (earlier)")
        if owner in self._names:
            if change.owner != owner and owner in self._split:
                return (owner, "old")
            return self._name(owner, row, binds=change.state == "name")
        part = _PARTS[change.state]
        if owner in self.schedulers:
            part = "state"
        elif change.state == "group entry" and change.place.endswith(".lr"):
            part = "rate"
        return (change.owner, part)

    def of_label(self, label: str, change: Change, row: int) -> Key | None:
        """The lane of another name of the same storage: ``best.0.weight``."""
        owner = self.root(label)
        if owner in self._names:
            return self._name(owner, row)
        if owner in self.optimizers:
            return None  # it holds the weight to update it; that is no second place
        return (owner, _PARTS[change.state] if owner in self.modules else "values")

    def _name(self, name: str, row: int, *, binds: bool = False) -> Key:
        if name in self._others:
            return ("", "other")
        if name not in self._split:
            return (name, "")
        return (name, "new" if binds or row > self._names[name] else "old")

    # --- what a statement reads ----------------------------------------------------------------

    def reads(self, row: Row) -> list[Key]:
        """The lanes that a statement reads, as its text names them and as its calls were seen to."""
        found: list[Key] = []
        for read in row.entry.reads:
            name = read.partition(".")[0].partition("[")[0]
            if name in self._names and name not in self._others:
                found.append(self._name(name, row.number))
        for label in sorted(row.entry.named):
            if label in self.optimizers:
                found.append((label, "itself"))
            elif label in self.schedulers:
                found.append((label, "state"))
        for event in row.entry.all_events:
            if event.kind in ("forward", "state_dict"):
                found.append((self.root(event.subject), "weights"))
            elif event.kind == "step":
                found.extend((self.root(label), ".grad") for label in event.data["weights"])
        owners = self.modules | self.optimizers | self.schedulers
        return [
            lane for lane in dict.fromkeys(found) if lane[0] in self._names or lane[0] in owners
        ]

    def source(self, row: Row, target: Key, reads: list[Key]) -> Key | None:
        """Of the lanes that a statement reads, the one through which it changes another lane."""
        if target[0] in self._names or target == ("", "other"):
            fresh = [lane for lane in reads if lane[0] in self._names]
            if fresh:
                return max(
                    fresh,
                    key=lambda lane: (
                        -1 if self._names[lane[0]] >= row.number else self._names[lane[0]]
                    ),
                )
            order = [lane for lane in reads if lane[1] == "weights"]
            return order[0] if order else reads[0] if reads else None
        called = [read.partition(".")[0] for read in row.entry.reads if "." in read]
        through = [lane for lane in reads if lane[0] in called]
        acting = [lane for lane in reads if lane[1] in ("itself", "state")] or [
            lane for lane in reads if lane[0] in self._names
        ]
        if target[0] in row.entry.named and not any(
            lane[0] == target[0] and lane[1] == "itself" for lane in reads
        ):
            return None  # the statement names the owner itself: the change comes from the text
        return next(iter([lane for lane in acting if lane in through] or acting or through), None)

    def of_finding(self, place: str, row: int) -> Key:
        """The lane of what a finding is about: ``discriminator.2.weight and 1 more``."""
        label = place.split(" ")[0].rstrip(",")
        owner = self.root(label)
        if owner in self._names:
            return self._name(owner, row)
        if owner in self.schedulers:
            return (owner, "state")
        if owner in self.optimizers:
            return (
                owner,
                "itself" if label == owner else "rate" if label.endswith(".lr") else "moments",
            )
        return (owner, ".grad" if label.endswith(".grad") else "weights")

    # --- in which order ------------------------------------------------------------------------

    def in_order(self, used: Iterable[Key]) -> list[Lane]:
        """The lanes that are used, from left to right."""
        found = set(used)
        binds = [row.entry.binds for row in self._rows]
        written = {
            name: binds[row].index(name) if row >= 0 and name in binds[row] else 0
            for name, row in self._names.items()
        }
        names = {
            name: at
            for at, name in enumerate(
                sorted(self._names, key=lambda name: (self._names[name], written[name]))
            )
        }
        owners = [*self._watched, *sorted({owner for owner, _ in found} - set(self._watched))]

        def place(key: Key) -> tuple[int, int, int]:
            owner, part = key
            if owner == "random":
                return (9, 0, 0)
            if owner in names:
                return (0, names[owner], _ORDER.index(part))
            if key == ("", "other"):
                return (1, 0, 0)
            group = (
                4
                if owner in self.schedulers
                else 3
                if owner in self.optimizers
                else 2
                if owner in self.modules
                else 5
            )
            return (group, owners.index(owner), _ORDER.index(part))

        return [self._lane(key, found) for key in sorted(found, key=place)]

    def _lane(self, key: Key, found: set[Key]) -> Lane:
        owner, part = key
        if owner == "random":
            return Lane(key, "random generator", part, apart=True)
        if key == ("", "other"):
            return Lane(key, "", "other names")
        if owner in self._names:
            born = self._bound.get(owner)
            since = (
                self._names[owner]
                if part == "new" or (born is not None and born.kind == "created")
                else None
            )
            return Lane(key, owner if part else "", part or owner, since)
        if part in ("values", "state") and not any(
            other != key and other[0] == owner for other in found
        ):
            return Lane(key, "", owner)
        return Lane(key, owner, part)


def _is_module(change: Change) -> bool:
    """Whether a change shows that its owner is a network: its weight's name has a place, or a name was bound to one."""
    if change.state == "name":
        return isinstance(change.after, Bound) and change.after.is_module
    of_a_weight = change.state in ("weight", "gradient", "requires_grad flag")
    return (
        of_a_weight
        and bool(change.place.strip("."))
        and change.place not in ("grad", "requires_grad")
    )


def _has_graph(change: Change) -> bool:
    return isinstance(change.after, Bound) and (
        change.after.nodes > 0 or change.after.type in _KEPT_BESIDE
    )
