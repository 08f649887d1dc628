"""What a picture shows: a row a statement, a lane a kind of state, a mark where a row changes a lane.

`scene` decides, `fnlib.ledger.views.figure` draws. Nothing here knows matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fnlib.ledger.entries import Change, Counts, Finding
from fnlib.ledger.findings.story import own_changes
from fnlib.ledger.views.lanes import Key, Lane, Lanes, Line
from fnlib.ledger.views.rows import one_line, rows_of
from fnlib.ledger.views.words import counted, short


@dataclass(frozen=True, slots=True)
class Mark:
    """One kind of change of one lane in one row, with the words below it.

    ``distant``: the statement doesn't name the owner. ``twin``: the lane changed because it shares
    storage with another one. ``listed``: shown, but not counted as somebody's state.
    """

    row: int
    lane: Key
    kind: str
    labels: tuple[str, ...]
    distant: bool = False
    twin: bool = False
    listed: bool = False
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Arrow:
    """From the lane that a statement acts through to one that it changes."""

    row: int
    source: Key
    target: Key
    distant: bool
    kind: str


@dataclass(slots=True)
class Scene:
    """A picture before it is drawn.

    ``rings`` are what rows read, as (row, lane); ``still`` are values that outlive their name;
    ``alerts`` are what findings are about. ``folded`` iterations were drawn as one.
    """

    rows: list[Line]
    lanes: list[Lane]
    marks: list[Mark]
    rings: list[tuple[int, Key]]
    arrows: list[Arrow]
    still: list[tuple[int, Key]]
    counts: Counts
    findings: list[Finding]
    alerts: list[tuple[int, Key]]
    which: str = ""
    notes: int = 0
    folded: int = 0


def scene(recording: Any, *, iteration: int | None = None) -> Scene:
    """Decide what the picture of a recording shows.

    Args:
        recording: a ledger, or a part of one.
        iteration: which iteration of the outermost loop; by default every statement as it ran last.

    Raises:
        NoSuchIteration: it was not recorded.
    """
    part = recording if iteration is None else recording.iteration(iteration)
    rows = [
        Line(row.number, row.entry, one_line(row.entry.source),
             row.indent // 4 + row.entry.depth, own_changes(row.entry))
        for row in rows_of(part.entries)
    ]  # fmt: skip
    findings = [finding for finding in part.findings if finding.severity == "certain"]
    for row in rows:
        row.alerts = [finding for finding in findings if row.holds(finding)]
    lanes = Lanes(rows, tuple(recording.watched))
    marks = [mark for row in rows for mark in _marks(row, lanes)]
    reads = {row.number: lanes.reads(row) for row in rows}
    arrows = [arrow for mark in marks for arrow in _arrows(mark, reads[mark.row], rows, lanes)]
    acting = {arrow.source[0] for arrow in arrows}
    shown = {mark.lane[0] for mark in marks} | acting | {*recording.watched}
    rings = [
        (row, lane)
        for row, found in reads.items()
        for lane in found
        if lane[0] in shown  # what nobody asked for and nothing changes has no lane
    ]
    marked = {(mark.row, mark.lane) for mark in marks if not mark.twin}
    used = {mark.lane for mark in marks} | {lane for _, lane in [*rings, *lanes.still]}
    alerts = {
        (row.number, lanes.of_finding(finding.place, row.number)): None
        for row in rows
        for finding in row.alerts
    }
    return Scene(
        rows, lanes.in_order(used), marks, [ring for ring in rings if ring not in marked],
        [arrow for arrow in arrows if arrow.source in used], lanes.still, part.counts, findings,
        [alert for alert in alerts if alert[1] in used], _which(recording, iteration),
        len(recording.notes), 0 if iteration is not None else recording.iterations,
    )  # fmt: skip


def _which(recording: Any, iteration: int | None) -> str:
    """Say which runs of a loop are drawn; nothing without a loop."""
    if iteration is not None:
        return f"iteration {iteration} of {recording.iterations}"
    if recording.iterations > 1:
        return f"{recording.iterations} iterations, folded: each statement as it ran last"
    return str(recording.title) if recording.part else ""


# --- marks -----------------------------------------------------------------------------------


def _marks(row: Line, lanes: Lanes) -> list[Mark]:
    """Make the marks of one row: one for all changes of a lane that are of one kind."""
    found: dict[tuple[Key, str], list[Change]] = {}
    twins: dict[tuple[Key, str], list[Change]] = {}
    for change in row.changes:
        if change.state == "name" and (row.entry.kind != "statement" or change.kind == "removed"):
            continue  # a loop's own names, and ``del``
        if change.state == "graph" and change.kind == "created":
            continue  # it comes with the value
        kind = _kind(change)
        lane = lanes.of(change, row.number)
        found.setdefault((lane, kind), []).append(change)
        for other in change.also:
            twin = lanes.of_label(other, change, row.number)
            if twin is not None and twin != lane:
                twins.setdefault((twin, kind), []).append(change)
    marks = []
    for (lane, kind), changes in found.items():
        distant = row.entry.has_source and any(change.at_a_distance for change in changes)
        listed, labels = changes[0].state in ("graph", "random state"), _labels(changes, lane)
        kinds = [other for key, other in found if key == lane and not other.startswith("graph")]
        if len(kinds) > 1 and not listed:  # each label says which kind it counts
            labels = (f"{len(changes)} {kind.removesuffix(' in place')}",)
        marks.append(Mark(row.number, lane, kind, labels, distant, False, listed, tuple(changes)))
    for (lane, kind), changes in twins.items():
        if (lane, kind) not in found:
            labels = (counted(len(changes), "tensor"), "same storage")
            marks.append(Mark(row.number, lane, kind, labels, True, True, False, tuple(changes)))
    return marks


def _kind(change: Change) -> str:
    if change.state == "random state":
        return "moved"
    if change.state != "graph":
        return "replaced" if change.rebound else change.kind  # one sign for both
    return {"removed": "graph used up", "kept": "graph kept"}.get(change.kind, "graph grows")


def _labels(changes: Sequence[Change], lane: Key) -> tuple[str, ...]:
    """Write the words below a mark: counts, or the values where they are few and short."""
    first = changes[0]
    if first.state == "graph":
        kind = _kind(first)
        return (kind, first.note) if kind == "graph grows" else ("graph", kind[len("graph ") :])
    if first.state == "random state":
        return ()
    if first.state == "name":
        if lane[1] == "other":
            return (counted(len(changes), "name"),)
        size = str(first.after).partition(", ")[2]  # a model's tensors are those of its parameters
        return (size,) if size and first.after.type in ("Parameters", "Gradient") else ()
    tensors = [change for change in changes if hasattr(change.after or change.before, "shape")]
    counters = [
        change
        for change in tensors
        if change.state == "optimizer state" and change.place.endswith(".step")
    ]
    plain = [change for change in changes if not hasattr(change.after or change.before, "shape")]
    number, labels = len(tensors) - len(counters), []
    labels += [counted(number, "tensor")] if number else []
    labels += [counted(len(counters), "counter")] if counters else []
    return (*labels, *(_plain(plain) if plain else ()))


def _plain(changes: Sequence[Change]) -> tuple[str, ...]:
    """Write numbers and flags: the change itself if all are alike, else how many."""
    steps = {(repr(change.before), repr(change.after)) for change in changes}
    first, several = changes[0], len(changes) > 1
    if len(steps) > 1 or first.kind == "removed":
        return (counted(len(changes), "entry"),)
    if first.state == "mode flag":
        mode = "train mode" if first.after else "eval mode"
        return (mode, counted(len(changes), "part")) if several else (mode,)
    obvious = first.place.endswith((".lr", "requires_grad")) or not first.place
    name = "" if obvious else first.place.rpartition(".")[2] + " "
    before = "" if first.before is None else f"{short(first.before)} → "
    text = f"{name}{before}{short(first.after)}"
    return (text, f"{len(changes)} times") if several else (text,)


def _arrows(mark: Mark, reads: list[Key], rows: list[Line], lanes: Lanes) -> list[Arrow]:
    """Return the one arrow that ends in a mark, if the statement acts through another lane."""
    if mark.twin or mark.listed:
        return []
    others = [lane for lane in reads if lane != mark.lane]
    source = lanes.source(rows[mark.row], mark.lane, others)
    return [] if source is None else [Arrow(mark.row, source, mark.lane, mark.distant, mark.kind)]
