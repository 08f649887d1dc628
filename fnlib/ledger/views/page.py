"""A recording as one page that loads nothing: code, timeline, boxes of state, and what is inside.

`page` fills page.html with page.css, page.js and the recording as JSON. The browser does the rest,
so that a saved file and the player in a notebook are the same page and need no kernel.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterable, Iterator
from html import escape
from importlib.resources import files
from typing import Any

from fnlib.ledger.entries import Bound, Change, Entry, Finding, Summary
from fnlib.ledger.findings.story import own_changes
from fnlib.ledger.views.heat import SIDE, Heat, cells_of, difference, heat_of
from fnlib.ledger.views.lanes import PARTS
from fnlib.ledger.views.table import table
from fnlib.show.location import short, where

BUDGET = 1_200_000  # bytes of heat maps in a page
KINDS = ("created", "changed in place", "replaced", "rebound", "removed", "kept", "moved")
_NAMES, _GENERATORS = ("", "names"), ("random generators", "")


def page(recording: Any, *, start: int = 0, embedded: bool = False) -> str:
    """Write a recording as a page of HTML.

    Args:
        recording: a ledger, or a part of one.
        start: the statement to begin with; 0 is the state before the first.
        embedded: whether it is shown inside of a notebook.

    Example:
        >>> import torch, fnlib
        >>> weight = torch.ones(2)
        >>> with fnlib.Ledger(weight=weight) as ledger:
        ...     _ = weight.mul_(3)
        >>> text = page(ledger)
        >>> "weight.mul_(3)" in text, "src=" in text
        (True, False)
    """
    data = content(recording)
    data["start"], data["embedded"] = max(0, min(start, len(data["steps"]))), embedded
    folder = files(__package__)
    title = escape(str(recording.title).partition(";")[0])  # the page opens its iterations itself
    parts = {
        "TITLE": title,
        "HEADING": title,
        "COUNTS": escape(str(recording.counts)),
        "STYLE": (folder / "page.css").read_text(encoding="utf-8"),
        "SCRIPT": (folder / "page.js").read_text(encoding="utf-8"),
        "TABLE": table(
            recording.entries, recording.counts, recording.title, recording.notes
        ).html(),
        # "<" ends a script wherever it is, also in a string
        "DATA": json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c"),
    }
    text = (folder / "page.html").read_text(encoding="utf-8")
    return re.sub("@([A-Z]+)@", lambda found: parts[found[1]], text)


def content(recording: Any) -> dict[str, Any]:
    """Return what the page's script reads.

    ``steps`` has a list for each run of a statement: index of its code, label of its iterations,
    what it raised, and its changes: place, kind, whether at a distance, before, after, moved,
    difference. ``values`` are texts, or tensors: shape, type, norm, number, heat map.
    """
    runs = [(entry, _shown(entry)) for entry in _in_order(recording.entries)]
    side = _side(runs)
    tables = _Tables(side)
    code = _Code([entry for entry, _ in runs])
    tables.open_boxes(changes for _, changes in runs)
    steps = [
        [code.index[_key(entry)], _iterations(entry), entry.raised or "",
         [tables.change(one) for one in changes]]
        for entry, changes in runs
    ]  # fmt: skip
    return {
        "code": code.rows,
        "steps": steps,
        "kinds": KINDS,
        "boxes": tables.boxes,
        "places": tables.places,
        "values": tables.values,
        "heats": base64.b64encode(bytes(tables.octets)).decode(),
        "findings": [_finding(one, code, runs) for one in recording.findings],
        "notes": [*recording.notes, *_inside(tables, side)],
    }


def _in_order(entries: list[Entry] | tuple[Entry, ...]) -> Iterator[Entry]:
    """Yield entries as they end: what a call does comes before the call."""
    for entry in entries:
        yield from _in_order(entry.inside)
        yield entry


def _shown(entry: Entry) -> list[Change]:
    """Return a statement's own changes; that a graph was built comes with the name."""
    return [
        one for one in own_changes(entry) if not (one.state == "graph" and one.kind == "created")
    ]


def _side(runs: list[tuple[Entry, list[Change]]]) -> int:
    """Return how large heat maps may be so that the page stays within its budget."""
    tensors = {
        id(side): side.shape
        for _, changes in runs
        for change in changes
        for side in (change.before, change.after)
        if isinstance(side, Summary)
    }
    for side in (SIDE, SIDE // 2, SIDE // 4):
        cells = sum(map(math.prod, (cells_of(shape, side) for shape in tensors.values())))
        if 2 * cells < BUDGET:  # the differences take as much again
            return side
    return 0


def _inside(tables: _Tables, side: int) -> list[str]:
    """Say why some boxes show no heat map."""
    if tables.closed and not side:
        return ["the recording is too long for heat maps; save one iteration of it"]
    if tables.closed:
        return [
            f"{tables.closed} tensors show shape and norm only: "
            "fnlib.Ledger(..., keep=True) keeps their numbers too"
        ]
    return []


def _iterations(entry: Entry) -> str:
    return " / ".join(str(number) for _, number in entry.iterations)


def _key(entry: Entry) -> tuple[str, str, int, str]:
    return (entry.file, entry.function, entry.line, entry.source)


class _Code:
    """The statements of a recording, each once, function by function, in the order of their lines."""

    def __init__(self, entries: list[Entry]) -> None:
        first = sorted({_key(one): one for one in reversed(entries)}.values(), key=_index)
        order: dict[tuple[str, str], list[Entry]] = {}
        for one in first:
            order.setdefault((one.file, one.function), []).append(one)
        self.rows: list[list[Any]] = []
        self.index: dict[tuple[str, str, int, str], int] = {}
        for (file, function), some in order.items():
            head = ""
            if len(order) > 1:
                place = where(short(file), some[0].line).rpartition(":")[0] or short(file)
                head = f"{function}() in {place}" if function != "<module>" else place
            least = min(one.indent for one in some)
            for one in sorted(some, key=lambda entry: entry.line):
                self.index[_key(one)] = len(self.rows)
                self.rows.append([one.line, one.source, (one.indent - least) // 4, head])
                head = ""

    def holding(self, finding: Finding, entries: list[Entry]) -> int:
        """Return the number of the first run of a finding's line, from 1; 0 if it isn't recorded."""
        for number, one in enumerate(entries, 1):
            same = finding.file in ("", one.file)
            if same and one.line <= finding.line <= one.end_line:
                return number
        return 0


def _index(entry: Entry) -> int:
    return entry.index


class _Tables:
    """Places, boxes and values, each once; changes refer to them by number."""

    def __init__(self, side: int) -> None:
        self.side, self.closed = side, 0
        self.boxes: list[list[str]] = []
        self.places: list[list[Any]] = []
        self.values: list[Any] = [""]
        self.octets = bytearray()
        self._numbers: dict[Any, int] = {}
        self._held: list[Any] = []  # so that no identity is used twice

    def open_boxes(self, runs: Iterable[list[Change]]) -> None:
        """Number the boxes: what belongs to somebody first, then names and random generators."""
        found = dict.fromkeys(_box(one) for changes in runs for one in changes)
        last = {_NAMES: 1, _GENERATORS: 2}
        for box in sorted(found, key=lambda one: last.get(one, 0)):
            self._number(box)

    def change(self, change: Change) -> list[Any]:
        """Write one change."""
        kind = "moved" if change.state == "random state" else change.kind
        far = int(change.at_a_distance)
        sides = [self._value(side, change.state) for side in (change.before, change.after)]
        row = [self._place(change), KINDS.index(kind), far, *sides]
        moved = "" if change.moved is None else f"{change.moved:.3g}"
        heat = self._difference(change.before, change.after)
        return [*row, moved, heat] if moved or heat or change.note else row

    def _place(self, change: Change) -> int:
        box, name = _box(change), change.place or change.owner
        if change.state == "graph":
            name = f"graph of {change.owner}"
        key = ("place", change.owner, name, change.state)
        if key not in self._numbers:
            self._numbers[key] = len(self.places)
            self.places.append([change.label, name, self._number(box)])
        return self._numbers[key]

    def _number(self, box: tuple[str, str]) -> int:
        if ("box", box) not in self._numbers:
            self._numbers["box", box] = len(self.boxes)
            self.boxes.append([*box])
        return self._numbers["box", box]

    def _value(self, value: Any, state: str) -> int:
        if value is None:
            return 0
        if state == "random state":
            value = f"checksum {value}"
        is_tensor = isinstance(value, Summary)
        key = ("tensor", id(value)) if is_tensor else ("text", _text(value))
        if key not in self._numbers:
            self._numbers[key] = len(self.values)
            self._held.append(value)
            self.values.append(self._tensor(value) if is_tensor else key[1])
        return self._numbers[key]

    def _tensor(self, summary: Summary) -> list[Any]:
        shape = " x ".join(map(str, summary.shape)) or "scalar"
        norm = "" if summary.norm is None else f"{summary.norm:.4g}"
        tensor, number = summary.numbers(), ""
        if tensor is not None and tensor.numel() == 1:
            item = tensor.item()
            number = f"{item:.6g}" if isinstance(item, float) else str(item)
        drawn = None if tensor is None else heat_of(tensor, self.side)
        self.closed += drawn is None and math.prod(summary.shape) > 1
        return [shape, summary.dtype, norm, number, self._heat(drawn)]

    def _difference(self, before: Any, after: Any) -> Any:
        if not (isinstance(before, Summary) and isinstance(after, Summary)):
            return 0
        first, second = before.numbers(), after.numbers()
        if first is None or second is None:
            return 0
        return self._heat(difference(first, second, self.side))

    def _heat(self, drawn: Heat | None) -> Any:
        """Write a heat map: where its bytes begin, rows, columns, scale; 0 for none."""
        if drawn is None:
            return 0
        self.octets += drawn.octets
        at = len(self.octets) - len(drawn.octets)
        return [at, drawn.rows, drawn.columns, float(f"{drawn.scale:.4g}")]


def _box(change: Change) -> tuple[str, str]:
    """Return the box that a place belongs to: its owner, and a word for its kind of state."""
    if change.state in ("name", "graph"):
        return _NAMES
    if change.state == "random state":
        return _GENERATORS
    if change.state == "value":
        return (change.owner, "")
    rate = change.state == "group entry" and change.place.endswith(".lr")
    return (change.owner, "rate" if rate else PARTS[change.state])


def _text(value: Any) -> str:
    if isinstance(value, Bound):
        graph = f", graph of {value.nodes} nodes" if value.nodes else ""
        value = f"{value.text}{graph}"
    text = f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= 60 else text[:59] + "…"


def _finding(one: Finding, code: _Code, runs: list[tuple[Entry, list[Change]]]) -> dict[str, Any]:
    return {
        "code": one.code,
        "severity": one.severity,
        "line": one.line,
        "step": code.holding(one, [entry for entry, _ in runs]),
        "place": one.place,
        "what": one.what,
        "why": one.why,
        "fix": one.fix,
        "link": one.link,
    }
