"""A recording as dicts, lists, numbers and strings: for tests and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fnlib.ledger.entries import Alias, Bound, Change, Counts, Entry, Summary


def as_dict(
    entries: Sequence[Entry],
    counts: Counts,
    watched: Sequence[str],
    aliases: Sequence[Alias],
    notes: Sequence[str],
) -> dict[str, Any]:
    """Everything that a table shows and more, seconds included; ``json.dumps`` takes it as it is."""
    return {
        "watched": list(watched),
        "counts": asdict(counts),
        "entries": [_entry(entry) for entry in entries],
        "aliases": [{"names": list(alias.names), "kind": alias.kind} for alias in aliases],
        "notes": list(notes),
    }


def _entry(entry: Entry) -> dict[str, Any]:
    names = (
        "index",
        "line",
        "end_line",
        "source",
        "kind",
        "iteration",
        "seconds",
        "raised",
        "shares_line",
        "has_source",
        "depth",
        "function",
    )
    found: dict[str, Any] = {name: getattr(entry, name) for name in names}
    found["iterations"] = [list(one) for one in entry.iterations]
    found.update(reads=list(entry.reads), binds=list(entry.binds), named=sorted(entry.named))
    found["changes"] = [_change(change) for change in entry.changes]
    found["events"] = [
        {"kind": event.kind, "subject": event.subject, **_json(event.data)}
        for event in entry.events
    ]
    found["inside"] = [_entry(inner) for inner in entry.inside]
    return found


def _change(change: Change) -> dict[str, Any]:
    names = ("owner", "place", "state", "kind", "named", "note")
    found: dict[str, Any] = {name: getattr(change, name) for name in names}
    found.update(
        before=_json(change.before),
        after=_json(change.after),
        moved=_json(change.moved),
        also=list(change.also),
    )
    return found


def _json(value: Any) -> Any:
    """A value as JSON has it; what is no number stays out of numbers."""
    if isinstance(value, (Summary, Bound)):
        names = [name for name in value.__slots__ if name not in ("value", "tensor")]
        return {name: _json(getattr(value, name)) for name in names}
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, (bool, int, str, type(None))):
        return value
    if isinstance(value, Mapping):
        return {str(key): _json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_json(entry) for entry in value]
    return str(value)
