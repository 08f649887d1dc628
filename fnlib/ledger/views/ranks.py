"""Where replicas diverge: the recordings of all ranks, compared row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from fnlib.distributed import alone, gathered, meet
from fnlib.ledger.entries import Change, Entry
from fnlib.ledger.views.view import Recording
from fnlib.show.table import Table, Tabular
from fnlib.show.tensors import counted

_UNKNOWN = "?"
_SHARE = "a share"  # of a sharded tensor, which each rank holds another part of
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


Row = list[Write | None]  # what one run of a statement wrote to a place, on each rank


@dataclass(repr=False)
class Ranks(Tabular):
    """Where the ranks diverge, made by `across_ranks`; true if they don't.

    Args:
        size: how many ranks there are.
        label: the first place that differs, ``"model.0.weight.grad"``; ``None`` if none does.
        at: the statement after which it was no longer the same; ``None`` if it differed before the
            recording.
        rows: the statements from the last agreement on, each with what it left on each rank.
        why: what the rows show, in one sentence.
        shares: the places where each rank held its own part of a sharded tensor at some time.
    """

    size: int
    label: str | None = None
    at: Statement | None = None
    rows: Sequence[tuple[Statement, Sequence[str]]] = ()
    why: str = ""
    shares: Collection[str] = ()

    def __bool__(self) -> bool:
        return self.label is None

    def _table(self) -> Table:
        notes = [self.why] if self.why else []
        if self.shares:
            notes.append(
                f"{counted(len(self.shares), 'place')} held shares of sharded tensors, which differ "
                "by design and aren't compared."
            )
        if self.label is None:
            title = f"The replicas are the same on {self.size} ranks, after each statement"
            return Table(title, notes=notes)
        where = f"at {_place(self.at)}" if self.at else "before the recording"
        columns = {"line": ">", "statement": "<"}
        columns |= {f"rank {rank}": "<" for rank in range(self.size)}
        rows = [(str(said.line), said.source.splitlines()[0], *cells) for said, cells in self.rows]
        title = f"The replicas diverge {where}: {self.label}"
        return Table(title, columns, {"": rows}, notes, code=("statement",))


def across_ranks(ledger: Recording) -> Ranks:
    """Compare the recordings of all ranks and find the statement that made replicas differ.

    Every rank calls it, after its ``with Ledger(...)`` block. Weights, moments and buffers are
    compared after each statement that wrote to them. Where a weight differs because its gradient
    did, the statement that made the gradients differ is named. Ranks that a broadcast brings
    together count from there on. Where each rank holds its share of a sharded weight (FSDP),
    nothing can be compared; the table says at how many places. While such a weight is whole, in a
    forward pass, it is.

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
    if alone():
        return Ranks(1)
    writes = [write for entry in ledger.entries for write in _writes(entry)]
    ran = {_statement(entry) for top in ledger.entries for entry in _with_inner(top)}
    meet("across_ranks")
    everybody = gathered((writes, ran))
    return _parted(
        [[_write(*write) for write in theirs] for theirs, _ in everybody],
        [{Statement(*statement) for statement in theirs} for _, theirs in everybody],
    )


def _write(statement: Iterable[object], *rest: str) -> Write:
    return Write(Statement(*statement), *rest)  # type: ignore[arg-type]


def _statement(entry: Entry) -> Statement:
    return Statement(entry.iterations, entry.line, entry.source.strip())


def _with_inner(entry: Entry) -> Iterable[Entry]:
    yield entry
    for inner in entry.inside:
        yield from _with_inner(inner)


def _writes(entry: Entry) -> Iterable[Write]:
    for one in _with_inner(entry):
        for change in one.changes:
            if change.state in (*_COMPARED, "gradient"):
                was, now = _print(change.before), _print(change.after)
                yield Write(_statement(one), _label(change), change.state, was, now)


def _label(change: Change) -> str:
    # DistributedDataParallel puts a level above the module, and a rank may have none.
    return change.label.replace(".module.", ".")


def _print(value: object) -> str:
    """Write what a place holds so that ranks can compare it."""
    if value is None:
        return "none"
    if getattr(value, "share", False):
        return _SHARE
    found = getattr(value, "fingerprint", _UNKNOWN) if hasattr(value, "shape") else repr(value)
    return _UNKNOWN if found is None else found


def _parted(everybody: Sequence[Sequence[Write]], ran: Sequence[Collection[Statement]]) -> Ranks:
    """Find the first place that differs, in the order in which statements ran."""
    shares = {w.label for theirs in everybody for w in theirs if _SHARE in (w.before, w.after)}
    for state in _COMPARED:
        places = dict.fromkeys(w.label for theirs in everybody for w in theirs if w.state == state)
        found = []
        for order, label in enumerate(places):
            rows = _merged([_of(theirs, label) for theirs in everybody])
            index = _first_difference(rows)
            if index is not None:
                found.append((index, order, label))
        if found:
            index, _, label = min(found)
            return replace(_explained(everybody, ran, state, label, index), shares=shares)
    return Ranks(len(everybody), shares=shares)


def _of(writes: Sequence[Write], label: str) -> list[Write]:
    return [write for write in writes if write.label == label]


def _merged(timelines: Sequence[Sequence[Write]]) -> list[Row]:
    """Put the writes of all ranks in one order: a row for each run of a statement."""
    keys: list[dict[tuple[Statement, int], int]] = []  # the n-th run of a statement, and its place
    for timeline in timelines:
        runs = Counter[Statement]()
        keys.append({})
        for place, write in enumerate(timeline):
            keys[-1][write.statement, runs[write.statement]] = place
            runs[write.statement] += 1
    order = [list(theirs) for theirs in keys]
    at = [0] * len(timelines)
    rows: list[Row] = []
    while True:
        heads = [
            theirs[place] for theirs, place in zip(order, at, strict=True) if place < len(theirs)
        ]
        if not heads:
            return rows
        # A row comes once every rank that has it has come to it.
        key = next(
            (
                head
                for head in heads
                if all(
                    theirs.get(head, -1) <= place for theirs, place in zip(keys, at, strict=True)
                )
            ),
            heads[0],
        )
        row: list[Write | None] = [None] * len(timelines)
        for rank, timeline in enumerate(timelines):
            if at[rank] < len(timeline) and order[rank][at[rank]] == key:
                row[rank] = timeline[at[rank]]
                at[rank] += 1
        rows.append(row)


def _starts(rows: Sequence[Row]) -> list[str]:
    """Return what each rank holds before the first row; a rank that never writes, as the others."""
    firsts = [
        next((write.before for write in column if write), None)
        for column in zip(*rows, strict=True)
    ]
    known = next(start for start in firsts if start is not None)
    return [known if start is None else start for start in firsts]


def _held(rows: Sequence[Row], start: Sequence[str]) -> Iterable[list[str]]:
    """Yield what each rank holds after each row."""
    now = list(start)
    for row in rows:
        now = [write.after if write else held for write, held in zip(row, now, strict=True)]
        yield now


def _first_difference(rows: Sequence[Row]) -> int | None:
    """Return the row where the ranks diverge; -1: before the first; None: nowhere.

    Ranks that start apart and are brought together (a broadcast writes on some of them alone) count
    from there on.
    """
    start = _starts(rows)
    apart = len(set(start)) > 1
    for index, now in enumerate(_held(rows, start)):
        differ = len(set(now)) > 1
        if differ and not apart:
            return index
        apart = differ
    return -1 if apart else None


def _explained(
    everybody: Sequence[Sequence[Write]],
    ran: Sequence[Collection[Statement]],
    state: str,
    label: str,
    index: int,
) -> Ranks:
    size = len(everybody)
    rows = _merged([_of(theirs, label) for theirs in everybody])
    if index < 0:
        first = rows[0]
        said = _said(first)
        wrote = [any(row[rank] for row in rows) for rank in range(size)]
        cells = [s if w else "not run" for s, w in zip(_starts(rows), wrote, strict=True)]
        why = f"{label} differed before this statement first wrote to it: broadcast it once at the start."
        return Ranks(size, label, None, [(said, cells)], why)
    row, said = rows[index], _said(rows[index])
    now = list(_held(rows, _starts(rows)))[index]
    if not all(row):
        cells = [
            held if said in theirs else "not run" for held, theirs in zip(now, ran, strict=True)
        ]
        if "not run" in cells:
            why = f"Not every rank ran this statement, which writes to {label}."
        else:
            alone = ", ".join(f"rank {rank}" for rank, write in enumerate(row) if write)
            why = f"Every rank ran this statement, and it wrote to {label} on {alone} alone."
        return Ranks(size, label, said, [(said, cells)], why)
    written = (said, now)
    if state == "buffer":
        why = (
            "The weights are the same. DistributedDataParallel sends the buffers of rank 0 before "
            "each forward, so evaluate and save on rank 0, or broadcast them."
        )
        return Ranks(size, label, said, [written], why)
    grads = []
    for rank, theirs in enumerate(everybody):
        before = next((r[rank] for r in reversed(rows[:index]) if r[rank]), None)
        grads.append(_since(theirs, label + ".grad", before, row[rank]))
    last = {grad[-1].after if grad else "none" for grad in grads}
    if state != "weight" or len(last) == 1:
        why = f"The gradients were the same, so this statement alone makes {label} differ."
        return Ranks(size, label, said, [written], why)
    merged = _merged(grads)
    held = list(_held(merged, ["none"] * size))
    steps = [(_said(row), now) for row, now in zip(merged, held, strict=True)]
    agreed = [i for i, (_, now) in enumerate(steps) if len(set(now)) == 1 and now[0] != "none"]
    at = agreed[-1] + 1 if agreed else 0
    while at < len(steps) - 1 and len(set(steps[at][1])) == 1:
        at += 1
    if agreed:
        why = f"After line {steps[at - 1][0].line} the gradients were still the same."
    else:
        why = (
            "The gradients of this step were never the same: nothing reduced them before the step."
        )
    shown = [*steps[max(0, at - 1) :], written]
    return Ranks(size, f"{label}.grad", steps[at][0], shown, why)


def _place(statement: Statement) -> str:
    if not statement.iterations:
        return f"line {statement.line}"
    numbers = " / ".join(str(number) for _, number in statement.iterations)
    return f"line {statement.line}, iteration {numbers}"


def _said(row: Row) -> Statement:
    return next(write.statement for write in row if write)


def _since(
    writes: Sequence[Write], label: str, after: Write | None, until: Write | None
) -> list[Write]:
    """List the writes to a place between two writes to another one."""
    begin = _index(writes, after) + 1 if after is not None else 0
    end = _index(writes, until) if until is not None else len(writes)
    return [write for write in writes[begin:end] if write.label == label]


def _index(writes: Sequence[Write], sought: Write) -> int:
    return next(i for i, write in enumerate(writes) if write is sought)
