"""What a picture of a recording is made of: rows of statements, lanes of state, and a mark where a row changed a lane.

`scene` decides, `fnlib.ledger.picture` draws and `fnlib.ledger.replay` steps through. Nothing here knows matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fnlib.ledger.entries import Change, Counts, Finding
from fnlib.ledger.views.lanes import Key, Lane, Lanes
from fnlib.ledger.views.shown import Row, rows_of
from fnlib.ledger.views.view import View
from fnlib.ledger.views.words import counted, short


@dataclass(frozen=True, slots=True)
class Mark:
    """One kind of change of one lane in one row: created, changed in place, replaced, removed, or what became of a graph.

    ``labels`` are the words beneath it, ``distant`` says that the statement does not name the owner, ``twin`` that the
    lane changed because it shares storage with another one. ``listed``: shown, and not counted as somebody's state.
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
    """From the lane that a statement names, or reads, to one that it changes."""

    row: int
    source: Key
    target: Key
    distant: bool
    kind: str


@dataclass(slots=True)
class Scene:
    """A picture before it is drawn.

    ``rings`` are what rows read, as (row, lane); ``still`` are values that outlive their name; ``alerts`` are what
    findings are about.
    """

    rows: list[Row]
    lanes: list[Lane]
    marks: list[Mark]
    rings: list[tuple[int, Key]]
    arrows: list[Arrow]
    still: list[tuple[int, Key]]
    counts: Counts
    findings: list[Finding] = field(default_factory=list)
    alerts: list[tuple[int, Key]] = field(default_factory=list)
    which: str = ""
    notes: int = 0
    folded: int = 0


def scene(recording: Any, *, iteration: int | None = None) -> Scene:
    """Decide what the picture of a recording shows.

    Args:
        recording: a ledger, or a part of one.
        iteration: which iteration of the outermost loop; the last run of every statement if not given.

    Returns:
        A `Scene`. Loops are folded: one row a statement, as it ran last.

    Raises:
        NoSuchIteration: it was not recorded.
    """
    part = recording if iteration is None else recording.iteration(iteration)
    rows = rows_of(part.entries)
    lanes = Lanes(rows, tuple(recording.watched))
    marks = [mark for row in rows for mark in _marks(row, lanes)]
    marked = {(mark.row, mark.lane) for mark in marks if not mark.twin}
    reads = [(row.number, lanes.reads(row)) for row in rows]
    arrows = [arrow for mark in marks for arrow in _arrows(mark, reads[mark.row][1], rows, lanes)]
    used = {mark.lane for mark in marks} | {lane for _, found in reads for lane in found}
    kept = lanes.in_order(used | {lane for _, lane in lanes.still})
    findings = [
        finding for finding in getattr(part, "findings", []) if finding.severity == "certain"
    ]
    for row in rows:
        row.alerts = [finding for finding in findings if row.holds(finding)]
    shown = {lane.key for lane in kept}
    alerts = [
        (row.number, lanes.of_finding(finding.place, row.number))
        for row in rows
        for finding in row.alerts
    ]
    return Scene(
        rows,
        kept,
        marks,
        [(row, lane) for row, found in reads for lane in found if (row, lane) not in marked],
        arrows,
        lanes.still,
        part.counts,
        findings,
        [alert for alert in dict.fromkeys(alerts) if alert[1] in shown],
        _which(recording, iteration),
        len(getattr(recording, "notes", ())),
        0 if iteration is not None else getattr(recording, "iterations", 0),
    )


def _which(recording: Any, iteration: int | None) -> str:
    """Which runs of a loop are drawn, in words; nothing without a loop."""
    total = getattr(recording, "iterations", 0)
    if iteration is not None:
        return f"iteration {iteration} of {total}"
    if total > 1:
        return f"{total} iterations, folded: each statement as it ran last"
    return recording.title if type(recording) is View else ""


def _marks(row: Row, lanes: Lanes) -> list[Mark]:
    """The marks of one row: changes of one lane and kind together."""
    found: dict[tuple[Key, str], list[Change]] = {}
    twins: dict[tuple[Key, str], list[Change]] = {}
    for change in row.entry.changes:
        if change.state == "name" and (row.entry.kind != "statement" or change.kind == "removed"):
            continue  # the loop's own names, and ``del``
        if change.state == "graph" and change.kind == "created":
            continue  # it comes with the value
        kind = (
            _graph_kind(change)
            if change.state == "graph"
            else "moved"
            if change.state == "random state"
            else change.kind
        )
        lane = lanes.of(change, row.number)
        found.setdefault((lane, kind), []).append(change)
        for other in change.also:
            if (twin := lanes.of_label(other, change, row.number)) not in (None, lane):
                twins.setdefault((twin, kind), []).append(change)
    marks = []
    for (lane, kind), changes in found.items():
        first = changes[0]
        distant = any(change.at_a_distance for change in changes) and row.entry.has_source
        listed = first.state in ("graph", "random state")
        marks.append(
            Mark(
                row.number,
                lane,
                kind,
                _labels(changes, lane),
                distant,
                False,
                listed,
                tuple(changes),
            )
        )
    for (lane, kind), changes in twins.items():
        if (lane, kind) not in found:
            labels = (counted(len(changes), "tensor"), "same storage")
            marks.append(Mark(row.number, lane, kind, labels, True, True, False, tuple(changes)))
    cells: dict[Key, int] = {}
    for mark in marks:
        cells[mark.lane] = cells.get(mark.lane, 0) + (not mark.listed)
    return [
        mark if cells[mark.lane] < 2 or mark.listed or mark.twin else _named_apart(mark)
        for mark in marks
    ]  # two kinds in one cell: each label says which it counts


def _named_apart(mark: Mark) -> Mark:
    verb = {
        "created": "created",
        "changed in place": "changed",
        "replaced": "replaced",
        "removed": "removed",
    }.get(mark.kind, mark.kind)
    return Mark(
        mark.row,
        mark.lane,
        mark.kind,
        (f"{len(mark.changes)} {verb}",),
        mark.distant,
        mark.twin,
        mark.listed,
        mark.changes,
    )


def _graph_kind(change: Change) -> str:
    return {"removed": "graph used up", "kept": "graph kept"}.get(change.kind, "graph grows")


def _labels(changes: Sequence[Change], lane: Key) -> tuple[str, ...]:
    """The words beneath a mark: counts written out, or the values where they are few and short."""
    first = changes[0]
    if first.state == "graph":
        return {"removed": ("graph", "used up"), "kept": ("graph", "kept")}.get(
            first.kind, ("graph grows", first.note)
        )
    if first.state == "random state":
        return ()
    if first.state == "name":
        if lane[1] == "other":
            return (counted(len(changes), "name"),)
        _, comma, size = str(first.after).partition(", ")
        counts = first.after.type in (
            "Parameters",
            "Gradient",
        )  # a model holds the tensors of its parameters
        return (size,) if comma and counts else ()
    plain = [change for change in changes if not hasattr(change.after or change.before, "shape")]
    tensors = [change for change in changes if hasattr(change.after or change.before, "shape")]
    counters = [
        change
        for change in tensors
        if change.state == "optimizer state" and change.place.endswith(".step")
    ]
    labels = []
    if len(tensors) > len(counters):
        labels.append(counted(len(tensors) - len(counters), "tensor"))
    if counters:
        labels.append(counted(len(counters), "counter"))
    if plain:
        labels.extend(_plain(plain))
    return tuple(labels)


def _plain(changes: Sequence[Change]) -> tuple[str, ...]:
    """Numbers and flags: the change itself if all are alike, else how many."""
    steps = {(repr(change.before), repr(change.after)) for change in changes}
    first = changes[0]
    if first.state == "mode flag" and len(steps) == 1:
        return (
            "train mode" if first.after else "eval mode",
            *((counted(len(changes), "part"),) if len(changes) > 1 else ()),
        )
    if len(steps) == 1 and first.kind != "removed":
        name = (
            ""
            if first.place.endswith((".lr", "requires_grad")) or not first.place
            else first.place.rpartition(".")[2] + " "
        )
        text = (
            short(first.after)
            if first.before is None
            else f"{short(first.before)} \N{RIGHTWARDS ARROW} {short(first.after)}"
        )
        return (f"{name}{text}", *((f"{len(changes)} times",) if len(changes) > 1 else ()))
    return (counted(len(changes), "entry"),)


def _arrows(mark: Mark, reads: list[Key], rows: list[Row], lanes: Lanes) -> list[Arrow]:
    """The one arrow that ends in a mark: from what the statement acts through, to what it changes."""
    if mark.twin or mark.listed:
        return []
    others = [lane for lane in reads if lane != mark.lane]
    source = lanes.source(rows[mark.row], mark.lane, others)
    return [] if source is None else [Arrow(mark.row, source, mark.lane, mark.distant, mark.kind)]
