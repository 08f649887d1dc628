"""The one fold of entries into rows: a row a statement, all its runs together."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fnlib.ledger.entries import GIVEN_AWAY, Change, Entry, Summary

_NOUNS = {  # of several places of one kind of state; the others keep their name
    "value": ("tensor", "tensors"),
    "group entry": ("group entry", "group entries"),
    "optimizer state": ("entry of its state", "entries of its state"),
    "scheduler state": ("entry of its state", "entries of its state"),
}
_FLAGS = {"mode flag": "training", "requires_grad flag": "requires_grad"}
_ONE_AT_A_TIME = 5  # from so many places on, "5 weights (one at a time)" replaces a cell for each
_DEEP = 4  # calls shown by a mark each
_NAME = {"created": "bound", "rebound": "rebound", "removed": "unbound"}
_GRAPH = {
    "created": "graph built",
    "removed": "graph freed",
    "kept": "graph kept",
    "changed in place": "graph grown",
}


@dataclass(slots=True)
class Cell:
    """One thing that a statement changed: ``what``, ``how``, and ``when`` if not in every run.

    ``far`` marks action at a distance. ``values`` are a number or flag before and after, ``over``
    what it was in between. ``of`` is the owner and the kind of state of a single place.
    """

    what: str
    how: str
    far: bool = False
    kind: str = ""
    values: tuple[str, str] | None = None
    over: str = ""
    of: tuple[str, str] | None = None
    iterations: list[int] = field(default_factory=list)
    when: str = ""

    @property
    def done(self) -> str:
        """How it changed, and when."""
        return f"{self.how} ({self.when})" if self.when else self.how


@dataclass(slots=True)
class Row:
    """One statement: its ``runs``, what they changed, and its indent in columns."""

    number: int
    runs: list[Entry]
    indent: int
    cells: list[Cell]
    notes: list[str]

    @property
    def entry(self) -> Entry:
        """Its last run."""
        return self.runs[-1]

    @property
    def line(self) -> int:
        """First line of the statement."""
        return self.entry.line

    @property
    def code(self) -> str:
        """The statement on one line, indented, with a mark for each call that it is inside of."""
        depth = self.entry.depth
        marks = "> " * depth if depth <= _DEEP else f"{depth}> "
        return f"{' ' * self.indent}{marks}{one_line(self.entry.source)}"

    def to_dict(self) -> dict[str, Any]:
        """The row without its entries, ready for JSON."""
        cells, entry = [asdict(cell) for cell in self.cells], self.entry
        shown = {"line": entry.line, "source": entry.source, "kind": entry.kind}
        nested = {"indent": self.indent, "depth": entry.depth, "runs": len(self.runs)}
        return {**shown, **nested, "cells": cells, "notes": self.notes}


def rows_of(entries: Sequence[Entry]) -> list[Row]:
    """Fold entries into rows, one for each statement.

    Args:
        entries: of a ledger or a view.

    Returns:
        The rows: statements of one function in the order of their lines, those of a called
        function after its caller. Each cell says in which iterations it happened, if not in all.
    """
    groups: dict[tuple[Any, ...], list[Entry]] = {}

    def gather(some: Iterable[Entry]) -> None:
        for entry in some:
            groups.setdefault((entry.depth, *entry.where), []).append(entry)
            gather(entry.inside)

    gather(entries)
    order: list[tuple[Any, ...]] = []
    for key in groups:
        later = [n for n, other in enumerate(order) if other[:3] == key[:3] and other[3] > key[3]]
        order.insert(later[0] if later else len(order), key)
    left: dict[int, int] = {}
    for key, (first, *_) in groups.items():
        left[key[0]] = min(left.get(key[0], first.indent), first.indent)
    return [
        Row(n, runs, runs[0].indent - left[runs[0].depth], _cells(runs), _notes(runs))
        for n, runs in enumerate(groups[key] for key in order)
    ]


def one_line(source: str) -> str:
    """Write a statement on one line, without its comments; strings stay as they are."""
    lines = source.splitlines()
    try:
        for token in tokenize.generate_tokens(io.StringIO(source + "\n").readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                lines[row - 1] = lines[row - 1][:column]
    except (tokenize.TokenError, IndentationError):
        pass  # a header alone is no whole statement
    text = ""
    for part in filter(None, map(str.strip, lines)):
        glue = "" if not text or text.endswith(("(", "[", "{")) or part[0] in ")]}" else " "
        text += glue + part
    return text


def generator_of(change: Change) -> str:
    """Name the random generator that moved: "torch", "numpy", "python", or the program's own."""
    return change.place if change.owner == "random" else change.owner


# --- cells of one run ------------------------------------------------------------------------


def cells_of(entry: Entry) -> list[Cell]:
    """Return what one run of a statement changed, places of one kind counted together."""
    grouped: dict[tuple[Any, ...], list[Change]] = {}
    for change in entry.changes:
        if change.state == "optimizer state" and change.before is None and change.after is None:
            continue  # a place that is made and still empty, as LBFGS makes a hundred
        far = change.at_a_distance and entry.has_source
        key: tuple[Any, ...] = (far, change.owner, change.state, change.kind)
        if change.state in ("random state", "name", "graph"):
            key = (*key, change.place)
        elif change.note == GIVEN_AWAY:
            key = (far, change.owner, GIVEN_AWAY)
        grouped.setdefault(key, []).append(change)
    found: list[Cell] = []
    for (far, *_), changes in grouped.items():
        one = changes[0]
        if one.state == "graph":
            graph = _GRAPH[one.kind]
            named = [
                cell for cell in found if cell.what.split(" ")[0] == one.owner and _is_name(cell)
            ]
            if named:
                named[0].how += f", {graph}"
            else:
                found.append(Cell(one.owner, graph, kind=one.kind))
        elif one.state == "name":
            held = str(one.after or "").rpartition(", ")[2]
            size = f" ({held})" if held.endswith((" tensors", " tensor")) else ""
            found.append(Cell(one.owner + size, _NAME[one.kind], kind=one.kind))
        elif one.state == "random state":
            what = f"random state ({generator_of(one)})"
            found.append(Cell(what, "moved", kind="changed in place"))
        elif one.note == GIVEN_AWAY:
            tensors = sum(isinstance(change.before, Summary) for change in changes)
            what = f"{one.owner}: {tensors} tensor{'s' * (tensors != 1)}"
            found.append(Cell(what, GIVEN_AWAY, far, one.kind))
        else:
            found.append(_state_cell(changes, far))
    return found


def _is_name(cell: Cell) -> bool:
    return cell.how.partition(",")[0] in _NAME.values()


def _state_cell(changes: list[Change], far: bool) -> Cell:
    """Make the cell of owned state: a single place by its label, several by their number."""
    one, number = changes[0], len(changes)
    values = {_pair(change) for change in changes}
    plain = any(isinstance(side, bool | int | float | str) for side in (one.before, one.after))
    pair = values.pop() if plain and len(values) == 1 else None
    pair = pair if number == 1 or one.state in _FLAGS else None
    if number > 1:
        what = _counted(one.owner, one.state, number, flags=pair is not None)
    elif pair is not None:
        what = f"{one.owner}: {one.place.removeprefix('param_groups[0].')}"
    else:
        what = one.label
    of = (one.owner, one.state) if number == 1 else None
    return Cell(what, one.kind + _also(changes), far, one.kind, pair, of=of)


def _counted(owner: str, state: str, number: int, *, flags: bool) -> str:
    """Count places: ``model: 4 weights``, or ``model: training (5)`` for flags set alike."""
    if flags:
        return f"{owner}: {_FLAGS[state]} ({number})"
    single, several = _NOUNS.get(state, (state, f"{state}s"))
    return f"{owner}: {number} {single if number == 1 else several}"


def _also(changes: list[Change]) -> str:
    """Name the other owners of the same memory: `; best shares its memory`."""
    labels = [label for change in changes for label in change.also]
    owners: dict[tuple[str, bool], list[str]] = {}
    for label in dict.fromkeys(labels):
        owner = label.partition(".")[0]
        if owner != changes[0].owner:
            owners.setdefault((owner, label.endswith(".grad")), []).append(label)
    names = [
        (of[0] if len(of) == 1 else f"gradients of {owner}") if gradient else owner
        for (owner, gradient), of in owners.items()
    ]
    if not names:
        return ""
    if len(names) > 2:
        names[2:] = [f"{len(names) - 2} more"]
    sharing = sum(bool(change.also) for change in changes)
    memory = "its memory" if len(changes) == 1 else "their memory"
    contents = {getattr(change.after, "fingerprint", None) for change in changes}
    if sharing < len(changes):
        memory = f"memory with {sharing} of them"
    elif len(contents) > 1 and not any("." in label for label in labels):
        memory += ", one at a time"  # a single tensor, which a called function's loop rebinds
    verb = "shares" if len(names) == 1 and " of " not in names[0] else "share"
    return f"; {', '.join(names[:-1])}{' and ' * (len(names) > 1)}{names[-1]} {verb} {memory}"


def _pair(change: Change) -> tuple[str, str]:
    """Write both sides of a change, with all digits where six would not tell them apart."""
    sides = ["nothing" if side is None else side for side in (change.before, change.after)]
    before, after = (f"{side:.6g}" if isinstance(side, float) else str(side) for side in sides)
    return (before, after) if before != after else (str(sides[0]), str(sides[1]))


# --- cells of all runs -----------------------------------------------------------------------


def _cells(runs: list[Entry]) -> list[Cell]:
    """Fold the runs of a statement: what happened, and in which iterations."""
    cells: dict[tuple[str, str, bool], Cell] = {}
    numbers = [entry.iteration or 0 for entry in runs]
    for entry, number in zip(runs, numbers, strict=True):
        for cell in cells_of(entry):
            known = cells.setdefault((cell.what, cell.how, cell.far), cell)
            known.iterations.append(number)
            if known.values is not None and cell.values is not None:
                known.over = known.over or known.values[1]
                known.values = (known.values[0], cell.values[1])
    if len(runs) > 1:
        _join_names(cells)
        _join_places(cells, len(runs))
        for cell in cells.values():
            if len(cell.iterations) < len(runs) and not cell.when:
                cell.when = (
                    _spans(cell.iterations)
                    if len(set(numbers)) == len(numbers)
                    else f"{len(cell.iterations)} of {len(runs)} times"
                )
    return _gathered(cells.values())


def _join_names(cells: dict[tuple[str, str, bool], Cell]) -> None:
    """Join a name's first binding with its rebindings in later iterations."""
    for (what, how, far), first in list(cells.items()):
        again = cells.get((what, f"re{how}", far))
        if how.startswith("bound") and again is not None:
            first.iterations += again.iterations
            del cells[what, again.how, far]


def _join_places(cells: dict[tuple[str, str, bool], Cell], runs: int) -> None:
    """Join what a loop does to one place at a time: ``6 weights (one at a time)``."""
    alike: dict[tuple[Any, ...], list[tuple[str, str, bool]]] = {}
    for key, cell in cells.items():
        # a rate is shown with its numbers
        if cell.of is not None and (cell.values is None or cell.of[1] in _FLAGS):
            alike.setdefault((cell.of, cell.how, cell.far, cell.values), []).append(key)
    for (of, *_), keys in alike.items():
        times = sum(len(cells[key].iterations) for key in keys)
        if len(keys) < _ONE_AT_A_TIME or times > runs:
            continue
        first = cells[keys[0]]
        for key in keys[1:]:
            del cells[key]
        owner, state = of
        first.what = _counted(owner, state, len(keys), flags=first.values is not None)
        first.when = "one at a time" + (f", {times} of {runs} times" if times < runs else "")


def _gathered(cells: Iterable[Cell]) -> list[Cell]:
    """Put names to which the same happened into one cell: ``feature, label``."""
    found: list[Cell] = []
    for cell in cells:
        if cell.values is not None:
            what, _, many = cell.what.partition(" (")
            before, after = cell.values
            between = (
                cell.over
                if len(cell.iterations) < 3 or cell.over in ("True", "False")
                else f"{cell.over}, ..."
            )
            way = f"{before}, {between}, {after}" if before == after else f"{before} to {after}"
            way = after if before == "nothing" else way  # the cell says that it was created
            cell.what = f"{what} {way}" + (f" ({many}" if many else "")
        last = found[-1] if found else None
        if last is not None and _is_name(cell) and cell.done == last.done:
            last.what += f", {cell.what}"
        else:
            found.append(cell)
    return found


def _notes(runs: list[Entry]) -> list[str]:
    """Say which statements share a line, and what a run raised."""
    shared = runs[0].shares_line
    found = [f"{shared} statements share this line and are one entry"] if shared > 1 else []
    for entry in runs:
        if entry.raised:
            at = f" (iteration {entry.iteration})" if entry.iteration and len(runs) > 1 else ""
            found.append(f"raised {entry.raised}{at}")
    return found


def _spans(numbers: list[int]) -> str:
    """Write iterations as spans: ``iterations 2-4, 7``."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    spans = [str(first) if first == last else f"{first}-{last}" for first, last in parts[:3]]
    text = ", ".join(spans) + (", ..." if len(parts) > 3 else "")
    return f"iteration{'s' * (len(set(numbers)) > 1)} {text}"
