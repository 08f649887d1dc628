"""Lanes of state: which there are, in which order, and which of them a statement reads.

Names come first in the order in which they are bound, then modules (``.grad``, weights, buffers,
mode), then optimizers (itself, moments, rate), schedulers, the rest, and random generators. So the
same state has the same place in two pictures, and a functional loop runs down a staircase.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fnlib.ledger.entries import Bound, Change, Entry, Finding

Key = tuple[str, str]  # (owner, part): ("model", "weights"); ("loss", "") for a name

PARTS = {
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
_ORDER = ["", "old", "new", "itself", ".grad", "weights", "requires_grad", "buffers", "mode"]
_ORDER += ["moments", "rate", "settings", "state", "values"]
_OTHER = ("", "other")  # the lane that many names of plain numbers share
_NAMES_AT_MOST = 8
_TWO_LANES = ("Parameters", "Gradient")  # of these the old value is drawn too if it lives on


@dataclass(slots=True)
class Line:
    """A statement in the picture, as it ran last: its ``code`` on one line, and what it changed."""

    number: int
    entry: Entry
    code: str
    indent: int
    changes: list[Change]
    alerts: list[Finding] = field(default_factory=list)

    @property
    def line(self) -> int:
        """Its line number."""
        return self.entry.line

    def holds(self, finding: Finding) -> bool:
        """Say whether a finding is about this statement."""
        same_file = finding.file in ("", self.entry.file) or not self.entry.file
        return same_file and self.entry.line <= finding.line <= self.entry.end_line


@dataclass(frozen=True, slots=True)
class Lane:
    """One column: ``head`` is its owner, written over all its lanes, ``title`` the part.

    ``since`` is the row that made it; ``apart``: drawn apart from the others.
    """

    key: Key
    head: str
    title: str
    since: int | None = None
    apart: bool = False


class Lanes:
    """The lanes of some rows."""

    def __init__(self, rows: list[Line], watched: tuple[str, ...]) -> None:
        changes = [(row, change) for row in rows for change in row.changes]
        events = [event for row in rows for event in row.entry.events]

        def subjects(*kinds: str) -> set[str]:
            return {event.subject for event in events if event.kind in kinds}

        self._rows, self._watched = rows, watched
        self._labels = {label for row in rows for label in row.entry.named} | {*watched}
        self._labels |= {
            change.owner
            for _, change in changes
            if change.state not in ("graph", "name", "random state")
        }
        # a loss or an activation has no weights
        weighty = {self.root(label) for row in rows for label in row.entry.links.weights}
        self._bound: dict[str, Change] = {}
        self._names: dict[str, int] = {}  # name -> the row that binds it last; -1 if none does
        for row, change in changes:
            if change.state == "graph":
                self._names.setdefault(change.owner, -1)
            elif change.state == "name" and row.entry.kind == "statement":
                if change.kind != "removed":
                    self._names[change.owner] = row.number
                    self._bound[change.owner] = change
        functional = {name for name in self._bound if self._type(name) in ("Model", *_TWO_LANES)}
        called = map(self.root, subjects("forward", "state_dict", "load_state_dict"))
        self.modules = {*called} & weighty
        self.modules |= {change.owner for _, change in changes if _is_module(change)}
        self.schedulers = {
            change.owner for _, change in changes if change.state == "scheduler state"
        }
        self.schedulers |= {name for name in subjects("scheduler step") if name[0] != "("}
        self.optimizers = {name for name in subjects("step") if name[0] != "("}
        self.optimizers |= {
            change.owner
            for _, change in changes
            if change.state in ("optimizer state", "group entry")
            and change.owner not in self.modules | functional
        }
        self.modules -= {name for name in functional if self._type(name) == "Model"}
        self._owners = self.modules | self.optimizers | self.schedulers
        self._names = {name: at for name, at in self._names.items() if name not in self._owners}
        self._split = {
            name
            for name in self._names
            if self._type(name) in _TWO_LANES and self._bound[name].after.alive
        }
        self.still = [
            (self._names[name], (name, "old")) for name in self._names if name in self._split
        ]
        self._others = self._too_many()

    def _type(self, name: str) -> str:
        return getattr(self._after(name), "type", "")

    def _after(self, name: str) -> Any:
        return self._bound[name].after if name in self._bound else None

    def _too_many(self) -> set[str]:
        """Among many names, those of values without tensors share one lane."""
        plain = {
            name
            for name in self._names
            if isinstance(now := self._after(name), Bound)
            and not (now.nodes or now.type in _TWO_LANES or "tensor" in now.text)
        }
        return plain if len(self._names) > _NAMES_AT_MOST and len(plain) > 1 else set()

    # --- where something belongs ---------------------------------------------------------------

    def root(self, label: str) -> str:
        """Return the watched object that a label is a part of: ``self.model`` for its weights."""
        parts = label.replace("[", ".[").split(".")
        for length in range(len(parts), 0, -1):
            if (start := ".".join(parts[:length]).replace(".[", "[")) in self._labels:
                return start
        return parts[0]

    def of(self, change: Change, row: int) -> Key:
        """Return the lane of a change."""
        if change.state == "random state":
            return ("random", change.place)
        owner = change.owner.removesuffix(" (earlier)")
        if owner in self._names:
            if change.owner != owner and owner in self._split:
                return (owner, "old")
            return self._name(owner, row, binds=change.state == "name")
        if owner in self.schedulers:
            return (change.owner, "state")
        rate = change.state == "group entry" and change.place.endswith(".lr")
        return (change.owner, "rate" if rate else PARTS[change.state])

    def of_label(self, label: str, change: Change, row: int) -> Key | None:
        """Return the lane of another name of the same storage: ``best.0.weight``."""
        owner = self.root(label)
        if owner in self._names:
            return self._name(owner, row)
        if owner in self.optimizers:
            return None  # it holds the weight to update it; that is no second place
        return (owner, PARTS[change.state] if owner in self.modules else "values")

    def of_finding(self, place: str, row: int) -> Key:
        """Return the lane of what a finding is about: ``discriminator.2.weight and 1 more``."""
        label = place.split(" ")[0].rstrip(",")
        owner = self.root(label)
        if owner in self._names:
            return self._name(owner, row)
        if owner in self.schedulers:
            return (owner, "state")
        if owner in self.optimizers:
            part = "rate" if label.endswith(".lr") else "moments"
            return (owner, "itself" if label == owner else part)
        return (owner, ".grad" if label.endswith(".grad") else "weights")

    def _name(self, name: str, row: int, *, binds: bool = False) -> Key:
        if name in self._others:
            return _OTHER
        if name not in self._split:
            return (name, "")
        return (name, "new" if binds or row > self._names[name] else "old")

    # --- what a statement reads ----------------------------------------------------------------

    def reads(self, row: Line) -> list[Key]:
        """Return the lanes that a statement reads, by its text and by the calls in it."""
        found: list[Key] = []
        for read in row.entry.reads:
            name = read.partition(".")[0].partition("[")[0]
            if name in self._names and name not in self._others:
                found.append(self._name(name, row.number))
        for label in sorted(row.entry.named & (self.optimizers | self.schedulers)):
            found.append((label, "itself" if label in self.optimizers else "state"))
        for event in row.entry.all_events:
            if event.kind in ("forward", "state_dict"):
                found.append((self.root(event.subject), "weights"))
            elif event.kind == "step":
                found += [(self.root(label), ".grad") for label in event.data["weights"]]
        known = self._owners | self._names.keys()
        return [lane for lane in dict.fromkeys(found) if lane[0] in known]

    def source(self, row: Line, target: Key, reads: list[Key]) -> Key | None:
        """Return the lane through which a statement changes another one."""
        names = [lane for lane in reads if lane[0] in self._names]
        if target[0] in self._names or target == _OTHER:
            if names:  # the one that was bound last before this row
                bound = [self._names[lane[0]] for lane in names]
                ages = [-1 if at >= row.number else at for at in bound]
                return names[ages.index(max(ages))]
            weights = [lane for lane in reads if lane[1] == "weights"]
            return next(iter(weights or reads), None)
        itself = [lane for lane in reads if lane[1] in ("itself", "state")]
        if target[0] in row.entry.named and (target[0], "itself") not in itself:
            return None  # the statement names the owner: the change comes from its text
        called = [read.partition(".")[0] for read in row.entry.reads if "." in read]
        through = [lane for lane in reads if lane[0] in called]
        acting = itself or names
        best = [lane for lane in acting if lane in through]
        return next(iter(best or acting or through), None)

    # --- in which order ------------------------------------------------------------------------

    def in_order(self, used: Iterable[Key]) -> list[Lane]:
        """Return the lanes that are used, from left to right."""
        found = set(used)
        binds = [row.entry.binds for row in self._rows]

        def bound(name: str) -> tuple[int, int]:
            row = self._names[name]
            return row, binds[row].index(name) if row >= 0 and name in binds[row] else 0

        names = sorted(self._names, key=bound)
        owners = [*self._watched, *sorted({owner for owner, _ in found} - {*self._watched})]

        def place(key: Key) -> tuple[int, int, int]:
            owner, part = key
            if owner == "random":
                return (9, 0, 0)
            if owner in self._names:
                return (0, names.index(owner), _ORDER.index(part))
            if key == _OTHER:
                return (1, 0, 0)
            groups = (self.modules, self.optimizers, self.schedulers)
            group = next((n for n, some in enumerate(groups, 2) if owner in some), 5)
            return (group, owners.index(owner), _ORDER.index(part))

        return [self._lane(key, found) for key in sorted(found, key=place)]

    def _lane(self, key: Key, found: set[Key]) -> Lane:
        owner, part = key
        if owner == "random":
            return Lane(key, "random generator", part, apart=True)
        if key == _OTHER:
            return Lane(key, "", "other names")
        if owner in self._names:
            made = part == "new" or (owner in self._bound and self._bound[owner].kind == "created")
            since = self._names[owner] if made else None
            return Lane(key, owner if part else "", part or owner, since)
        alone = not any(other[0] == owner and other != key for other in found)
        if part in ("values", "state") and alone:
            return Lane(key, "", owner)
        return Lane(key, owner, part)


def _is_module(change: Change) -> bool:
    """Say whether a change shows that its owner is a network."""
    if change.state == "name":
        return isinstance(change.after, Bound) and change.after.is_module
    if change.state in ("buffer", "mode flag"):
        return True
    of_a_weight = change.state in ("weight", "gradient", "requires_grad flag")
    return of_a_weight and change.place.strip(".") not in ("", "grad", "requires_grad")
