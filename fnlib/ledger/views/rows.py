"""The rows of a table: for each statement what it changed, iterations folded into one row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fnlib.ledger.entries import GIVEN_AWAY, Change, Entry, Summary

_MANY = {  # how several places of a kind of state are called
    "weight": "weight",
    "gradient": "gradient",
    "buffer": "buffer",
    "group entry": "group entry",
    "mode flag": "mode flag",
    "requires_grad flag": "requires_grad flag",
    "value": "tensor",
}
_FLAGS = ("mode flag", "requires_grad flag")
_ONE_AT_A_TIME = 5  # places: so many rows of a statement in a loop become one; fewer are named
_NAME = {"created": "name bound", "replaced": "name bound again", "removed": "name unbound"}
_GRAPH = {
    "created": "graph built",
    "removed": "graph freed",
    "kept": "graph kept",
    "changed in place": "graph grown",
}


@dataclass(slots=True)
class Cell:
    """One thing that a statement changed: ``what``, ``how``, whether ``far`` from what its text names, and when."""

    what: str
    how: str
    far: bool = False
    kind: str = ""
    values: tuple[str, str] | None = None  # of a single number or flag: before and after
    over: str = ""  # what such a number or flag was in between, if it ended as it had begun
    of: tuple[str, str] | None = None  # of a single place: its owner and its kind of state
    iterations: list[int] = field(default_factory=list)
    when: str = ""


@dataclass(slots=True)
class Row:
    """One statement, all its iterations together."""

    line: int
    source: str
    indent: int
    depth: int
    kind: str
    cells: list[Cell]
    runs: int
    notes: list[str] = field(default_factory=list)


def rows_of(entries: Sequence[Entry]) -> list[Row]:
    """Fold entries into rows: one for each statement, in the order in which they first ran.

    Args:
        entries: of a ledger or a view.

    Returns:
        Rows; each cell says in which iterations it happened, unless it was all of them.
    """
    groups: dict[tuple[object, ...], list[Entry]] = {}
    order: list[tuple[object, ...]] = []

    def gather(some: Iterable[Entry]) -> None:
        for entry in some:
            key = (entry.depth, *entry.where)
            if key not in groups:
                groups[key] = []
                order.append(key)
            groups[key].append(entry)
            gather(entry.inside)

    gather(entries)
    least = min((group[0].indent for group in groups.values() if group[0].depth == 0), default=0)
    return [_row(groups[key], least) for key in _as_written(order)]


def _as_written(order: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Statements of one function stand in the order of their lines, those of a called function after its caller."""
    found: list[tuple[object, ...]] = []
    for key in order:
        same = [at for at, other in enumerate(found) if other[:3] == key[:3]]
        later = [at for at in same if found[at][3] > key[3]]  # type: ignore[operator]
        found.insert(later[0] if later else len(found), key)
    return found


def _row(runs: list[Entry], least: int) -> Row:
    first = runs[0]
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
    notes = []
    if first.shares_line > 1:
        notes.append(f"{first.shares_line} statements share this line and are one entry")
    for entry in runs:
        if entry.raised:
            notes.append(
                f"raised {entry.raised}"
                + (f" (iteration {entry.iteration})" if entry.iteration and len(runs) > 1 else "")
            )
    return Row(
        first.line,
        first.source,
        max(0, first.indent - least),
        first.depth,
        first.kind,
        _gathered(cells.values()),
        len(runs),
        notes,
    )


def _join_names(cells: dict[tuple[str, str, bool], Cell]) -> None:
    """A name that is bound in the first iteration and again in each later one is told of once."""
    for key, first in list(cells.items()):
        again = cells.get((key[0], key[1].replace("name bound", "name bound again"), key[2]))
        if key[1].startswith("name bound") and again is not None and again is not first:
            first.iterations += again.iterations
            del cells[(again.what, again.how, again.far)]


def _join_places(cells: dict[tuple[str, str, bool], Cell], runs: int) -> None:
    """Of a loop over the weights: what happens to one place at a time is told of once, and how many places there are."""
    alike: dict[tuple[object, ...], list[tuple[str, str, bool]]] = {}
    for key, cell in cells.items():
        if cell.of is not None and (
            cell.values is None or cell.of[1] in _FLAGS
        ):  # a rate is told with its numbers
            alike.setdefault((cell.of, cell.how, cell.far, cell.values), []).append(key)
    for keys in alike.values():
        times = sum(len(cells[key].iterations) for key in keys)
        first = cells[keys[0]]
        if len(keys) < _ONE_AT_A_TIME or times > runs or first.of is None:
            continue
        for key in keys[1:]:
            del cells[key]
        first.what = (
            _many(*first.of, len(keys)) if first.values is None else _flags(*first.of, len(keys))
        )
        first.when = "one at a time" + (f", {times} of {runs} times" if times < runs else "")


def _gathered(cells: Iterable[Cell]) -> list[Cell]:
    """Put names to which the same happened into one cell: ``feature, label``."""
    found: list[Cell] = []
    for cell in cells:
        if cell.values is not None:
            what, _, many = cell.what.partition(" (")
            before, after = cell.values
            way = f"{before}, {cell.over}, {after}" if before == after else f"{before} to {after}"
            cell.what = f"{what} {way}" + (f" ({many}" if many else "")
        last = found[-1] if found else None
        if (
            last is not None
            and cell.how.startswith("name")
            and (cell.how, cell.when) == (last.how, last.when)
        ):
            last.what += f", {cell.what}"
        else:
            found.append(cell)
    return found


def cells_of(entry: Entry) -> list[Cell]:
    """What one run of a statement changed, alike things together and counted."""
    grouped: dict[tuple[object, ...], list[Change]] = {}
    for change in entry.changes:
        key: tuple[object, ...] = (
            change.owner,
            change.state,
            change.kind,
            change.at_a_distance and entry.has_source,
        )
        if change.state in ("random state", "name", "graph"):
            key = (*key, change.place)
        elif change.note == GIVEN_AWAY:
            key = (change.owner, GIVEN_AWAY, key[-1])
        grouped.setdefault(key, []).append(change)
    found: list[Cell] = []
    for changes in grouped.values():
        one = changes[0]
        far = one.at_a_distance and entry.has_source
        if one.state == "name":
            found.append(Cell(_name(one), _NAME[one.kind], kind=one.kind))
        elif one.state == "graph":
            same = next(
                (
                    cell
                    for cell in found
                    if cell.what.split(" ")[0] == one.owner and cell.how.startswith("name")
                ),
                None,
            )
            if same is not None:
                same.how += f", {_GRAPH[one.kind]}"
            else:
                found.append(Cell(one.owner, _GRAPH[one.kind], kind=one.kind))
        elif one.state == "random state":
            found.append(
                Cell(f"random state ({generator_of(one)})", "moved", kind="changed in place")
            )
        elif one.note == GIVEN_AWAY:
            tensors = sum(isinstance(change.before, Summary) for change in changes)
            found.append(
                Cell(
                    f"{one.owner}: {tensors} tensor{'s' * (tensors != 1)}",
                    GIVEN_AWAY,
                    far,
                    one.kind,
                )
            )
        else:
            what, values = _what(changes)
            of = (one.owner, one.state) if len(changes) == 1 else None
            found.append(Cell(what, one.kind + _also(changes), far, one.kind, values, of=of))
    return found


def _name(change: Change) -> str:
    """A name, and how many tensors the value holds that it is bound to."""
    held = str(change.after or "").rpartition(", ")[2]
    return f"{change.owner} ({held})" if held.endswith((" tensors", " tensor")) else change.owner


def generator_of(change: Change) -> str:
    """Which random generator moved: "torch", "numpy", "python", or the name of one of the program's own."""
    return change.place if change.owner == "random" else change.owner


def _what(changes: list[Change]) -> tuple[str, tuple[str, str] | None]:
    """``model: 4 weights``, and the values before and after of a single number or flag, or of flags that all went one way."""
    one = changes[0]
    plain = isinstance(one.after, (bool, int, float, str)) or isinstance(
        one.before, (bool, int, float, str)
    )
    values = {_pair(change.before, change.after) for change in changes}
    if plain and len(values) == 1 and (len(changes) == 1 or one.state in _FLAGS):
        place = one.place.removeprefix("param_groups[0].")
        return f"{one.owner}: {place}" if len(changes) == 1 else _flags(
            one.owner, one.state, len(changes)
        ), next(iter(values))
    if len(changes) == 1 and not plain:
        return one.label, None
    return _many(one.owner, one.state, len(changes)), None


def _many(owner: str, state: str, number: int) -> str:
    """``model: 4 weights``."""
    if state in ("optimizer state", "scheduler state"):
        return f"{owner}: {number} {'entry' if number == 1 else 'entries'} of its state"
    noun = _MANY[state]
    if number > 1:
        noun = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{owner}: {number} {noun}"


def _flags(owner: str, state: str, number: int) -> str:
    """``model: training (5)``, of flags that all went one way."""
    return f"{owner}: {'training' if state == 'mode flag' else 'requires_grad'} ({number})"


def _also(changes: list[Change]) -> str:
    """The other owners of the same storage: a change to it is a change to them."""
    others = dict.fromkeys(label.partition(".")[0] for change in changes for label in change.also)
    others.pop(changes[0].owner, None)
    if not others:
        return ""
    shown = list(others)[:2]
    return f", and with it {' and '.join(shown)}" + (
        f" and {len(others) - 2} more" if len(others) > 2 else ""
    )


def _pair(before: object, after: object) -> tuple[str, str]:
    """Both sides of a change, with all digits where fewer would not tell them apart."""
    pair = _number(before), _number(after)
    return pair if pair[0] != pair[1] else (str(before), str(after))


def _number(value: object) -> str:
    return (
        f"{value:.6g}" if isinstance(value, float) else "nothing" if value is None else str(value)
    )


def _spans(numbers: list[int]) -> str:
    """``iterations 2-4, 7``."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    text = ", ".join(
        str(first) if first == last else f"{first}-{last}" for first, last in parts[:3]
    ) + (", ..." if len(parts) > 3 else "")
    return f"iteration{'' if len(set(numbers)) == 1 else 's'} {text}"
