"""Where replicas part: the recordings of all ranks, compared row by row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fnlib.distributed import alone, gathered, meet
from fnlib.ledger.entries import Change, Entry
from fnlib.ledger.views.view import Recording
from fnlib.show.table import Table, Tabular

_UNKNOWN = "?"
_COMPARED = ("weight", "optimizer state", "buffer")  # what replicas should have in common


class Statement(NamedTuple):
    """One run of a statement, as every rank can name it."""

    iterations: tuple[tuple[int, int], ...]
    line: int
    source: str


class Write(NamedTuple):
    """What a statement left in a place."""

    statement: Statement
    label: str
    state: str
    before: str
    after: str


@dataclass(repr=False)
class Ranks(Tabular):
    """Where the ranks part, made by `across_ranks`; true if they don't.

    Args:
        size: how many ranks there are.
        label: the first place that differs, ``"model.0.weight"``; ``None`` if none does.
        at: the statement after which it, or its gradient, was no longer the same; ``None`` if it
            differed before the recording.
        rows: the statements from the last agreement on, each with what it left on each rank.
        why: what the rows show, in one sentence.
    """

    size: int
    label: str | None = None
    at: Statement | None = None
    rows: Sequence[tuple[Statement, Sequence[str]]] = ()
    why: str = ""

    def __bool__(self) -> bool:
        return self.label is None

    def _table(self) -> Table:
        if self.label is None:
            return Table(f"The replicas are the same on {self.size} ranks, after each statement")
        where = f"at line {self.at.line}" if self.at else "before the recording"
        columns = {"line": ">", "statement": "<"}
        columns |= {f"rank {rank}": "<" for rank in range(self.size)}
        rows = [(str(said.line), said.source.splitlines()[0], *cells) for said, cells in self.rows]
        title = f"The replicas part {where}: {self.label}"
        return Table(title, columns, {"": rows}, [self.why], code=("statement",))


def across_ranks(ledger: Recording) -> Ranks:
    """Compare the recordings of all ranks and find the statement that made replicas differ.

    Every rank calls it, after its ``with Ledger(...)`` block. Weights, moments and buffers are
    compared after each statement that wrote to them. Where a weight parts because its gradient did,
    the statement that parted the gradients is named.

    Args:
        ledger: this rank's recording of the same loop.

    Returns:
        The same table on every rank; it is true if nothing differs.

    Raises:
        RanksDisagree, RankLost: see ``fnlib.distributed.all_reduce``.

    >>> import fnlib, torch
    >>> from fnlib.ledger import across_ranks
    >>> model = torch.nn.Linear(2, 1)
    >>> with fnlib.Ledger(model=model) as ledger:
    ...     model(torch.ones(1, 2)).sum().backward()
    >>> across_ranks(ledger)                      # without a process group there is one rank
    The replicas are the same on 1 ranks, after each statement
    """
    writes = [write for entry in ledger.entries for write in _writes(entry)]
    if alone():
        return Ranks(1)
    meet("across_ranks")
    return _parted([[_write(*write) for write in theirs] for theirs in gathered(writes)])


def _write(statement: Iterable[object], *rest: str) -> Write:
    return Write(Statement(*statement), *rest)  # type: ignore[arg-type]


def _writes(entry: Entry) -> Iterable[Write]:
    said = Statement(entry.iterations, entry.line, entry.source.strip())
    for change in entry.changes:
        if change.state in (*_COMPARED, "gradient"):
            yield Write(
                said, _label(change), change.state, _print(change.before), _print(change.after)
            )
    for inner in entry.inside:
        yield from _writes(inner)


def _label(change: Change) -> str:
    # DistributedDataParallel puts a level above the module, and a rank may have none.
    return change.label.replace(".module.", ".")


def _print(value: object) -> str:
    """Write what a place holds so that ranks can compare it."""
    if value is None:
        return "none"
    found = getattr(value, "fingerprint", _UNKNOWN) if hasattr(value, "shape") else repr(value)
    return _UNKNOWN if found is None else found


def _parted(everybody: Sequence[Sequence[Write]]) -> Ranks:
    """Find the first place that differs, in the order in which statements ran."""
    size = len(everybody)
    for state in _COMPARED:
        places = dict.fromkeys(w.label for theirs in everybody for w in theirs if w.state == state)
        found = [
            (count, order, label)
            for order, label in enumerate(places)
            if (count := _first_difference([_of(theirs, label) for theirs in everybody]))
            is not None
        ]
        if found:
            count, _, label = min(found)
            return _explained(everybody, state, label, count, size)
    return Ranks(size)


def _of(writes: Sequence[Write], label: str) -> list[Write]:
    return [write for write in writes if write.label == label]


def _first_difference(timelines: Sequence[Sequence[Write]]) -> int | None:
    """Count the writes to one place after which all ranks still agreed; None: they always do."""
    for count in range(max(map(len, timelines))):
        writes = [timeline[count] if count < len(timeline) else None for timeline in timelines]
        if len({(w.before, w.after) if w else None for w in writes}) > 1:
            return count
    return None


def _explained(
    everybody: Sequence[Sequence[Write]], state: str, label: str, count: int, size: int
) -> Ranks:
    timelines = [_of(theirs, label) for theirs in everybody]
    writes = [timeline[count] if count < len(timeline) else None for timeline in timelines]
    if len({write.before for write in writes if write}) > 1:
        cells = [write.before if write else "not run" for write in writes]
        said = next(write.statement for write in writes if write)
        why = f"{label} differed before this statement first wrote to it: broadcast it once at the start."
        return Ranks(size, label, None, [(said, cells)], why)
    for write in writes:  # a statement that not every rank ran
        if write and not all(_ran(timeline, write.statement) for timeline in timelines):
            cells = [_left(timeline, write.statement) for timeline in timelines]
            why = f"Not every rank ran this statement, which writes to {label}."
            return Ranks(size, label, write.statement, [(write.statement, cells)], why)
    written = _rows([[w] if w else [] for w in writes])
    if state == "buffer":
        why = (
            "The weights are the same. DistributedDataParallel sends the buffers of rank 0 before "
            "each forward, so evaluate and save on rank 0, or broadcast them."
        )
        return Ranks(size, label, written[0][0], written, why)
    grads = [
        _since(theirs, label + ".grad", timeline[count - 1] if count else None, write)
        for theirs, timeline, write in zip(everybody, timelines, writes, strict=True)
    ]
    last = {grad[-1].after if grad else "none" for grad in grads}
    if state != "weight" or len(last) == 1:
        why = f"The gradients were the same, so this statement parts {label} by itself."
        return Ranks(size, label, written[0][0], written, why)
    rows = _rows(grads)
    agreed = [i for i, (_, now) in enumerate(rows) if len(set(now)) == 1 and now[0] != "none"]
    start = agreed[-1] + 1 if agreed else 0
    while start < len(rows) - 1 and len(set(rows[start][1])) == 1:
        start += 1
    at = rows[start][0]
    if agreed:
        why = f"After line {rows[start - 1][0].line} the gradients were still the same."
    else:
        why = "The gradients were never the same: nothing reduced them before the step."
    return Ranks(size, label, at, [*rows[max(0, start - 1) :], *written], why)


def _ran(timeline: Sequence[Write], statement: Statement) -> bool:
    return any(write.statement == statement for write in timeline)


def _left(timeline: Sequence[Write], statement: Statement) -> str:
    return next((w.after for w in timeline if w.statement == statement), "not run")


def _since(
    writes: Sequence[Write], label: str, after: Write | None, until: Write | None
) -> list[Write]:
    """List the writes to a place between two writes to another one."""
    begin = _index(writes, after) + 1 if after is not None else 0
    end = _index(writes, until) if until is not None else len(writes)
    return [write for write in writes[begin:end] if write.label == label]


def _index(writes: Sequence[Write], sought: Write) -> int:
    return next(i for i, write in enumerate(writes) if write is sought)


def _rows(timelines: Sequence[Sequence[Write]]) -> list[tuple[Statement, list[str]]]:
    """Put the writes of all ranks in one order, each with what every rank holds after it."""
    order: list[Statement] = []
    for timeline in timelines:
        place = 0
        for write in timeline:
            if write.statement in order:
                place = order.index(write.statement) + 1
            else:
                order.insert(place, write.statement)
                place += 1
    now, rows = ["none"] * len(timelines), []
    for statement in order:
        for rank, timeline in enumerate(timelines):
            for write in timeline:
                if write.statement == statement:
                    now[rank] = write.after
        rows.append((statement, list(now)))
    return rows
