"""What a ledger and a part of one show: counts, findings, a table, a picture, a player, a dict."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast

from fnlib.ledger.entries import (
    UNOWNED,
    Alias,
    Change,
    Counts,
    Entry,
    Event,
    State,
    count,
)
from fnlib.ledger.errors import NoSuchIteration
from fnlib.ledger.findings import find
from fnlib.ledger.views.page import page
from fnlib.ledger.views.replay import replay
from fnlib.ledger.views.report import Findings
from fnlib.ledger.views.table import html, text

T = TypeVar("T")
_LEFT_OUT = ("links", "sites", "value", "tensor", "octets")  # of a dict: what is no plain value


class Recording:
    """Entries with counts, findings and views; a ledger is one, and so is one iteration of it."""

    entries: list[Entry]
    title: str
    watched: tuple[str, ...]
    notes: Sequence[str] = ()
    part = True  # a part of a ledger
    ended = True  # no entry will be added

    def _once(self, what: str, make: Callable[[], T]) -> T:
        """Compute something once, when the recording has ended."""
        if not self.ended:
            return make()
        known = self.__dict__.setdefault("_known", {})
        if what not in known:
            known[what] = make()
        return cast("T", known[what])

    @property
    def counts(self) -> Counts:
        """Statements that act at a distance, values overwritten, names rebound."""
        return self._once("counts", lambda: count(self.entries))

    @property
    def events(self) -> list[Event]:
        """The calls that were seen, in order."""
        seen = (event for entry in self.entries for event in entry.all_events)
        return self._once("events", lambda: sorted(seen, key=lambda event: event.order))

    @property
    def findings(self) -> Findings:
        """Silent bugs that show in these entries, certain ones first; a list that reads as a report."""
        return self._once("findings", lambda: Findings(find(self.entries)))

    def changed(self, *states: State, of: str = "") -> set[str]:
        """Return the labels of the places that changed.

        Args:
            states: kinds of state, such as "weight" or "gradient"; all by default. Names, graphs
                and random generators belong to nobody and count only if asked for.
            of: only places of this object or part of one, such as "model.head".

        Example:
            >>> import torch, fnlib
            >>> model = torch.nn.Linear(2, 1)
            >>> with fnlib.Ledger(model=model) as ledger:
            ...     loss = model(torch.ones(1, 2)).sum()
            ...     loss.backward()
            >>> sorted(ledger.changed())
            ['model.bias.grad', 'model.weight.grad']
            >>> ledger.changed("weight")
            set()
        """
        return {
            change.label
            for entry in self.entries
            for change in entry.changes
            if (change.state in states if states else self._is_state(change))
            and f"{change.label}.".startswith(f"{of}." if of else "")
        }

    def _is_state(self, change: Change) -> bool:
        """Say whether a change is of somebody's state, and not of a tensor that a name is bound to."""
        watched = change.state != "value" or change.owner in self.watched
        return watched and change.state not in UNOWNED

    @property
    def aliases(self) -> tuple[Alias, ...]:
        """Who shared storage with whom after the last entry."""
        return self.entries[-1].aliases if self.entries else ()

    @property
    def iterations(self) -> int:
        """How many iterations of the first loop were recorded; 0 without a loop."""
        return len(self._iterations(None))

    def iteration(self, number: int, *, line: int | None = None) -> View:
        """Open one iteration of a loop: its entries, counts and table alone.

        Args:
            number: from 1; the iterations of an inner loop are counted through.
            line: first line of the loop's header; by default the loop around the first statement
                that is inside one.

        Raises:
            NoSuchIteration: it was not recorded.
        """
        found = self._iterations(line)
        if not 1 <= number <= len(found):
            raise NoSuchIteration(number, len(found))
        return View(found[number - 1], f"iteration {number} of {len(found)}", self.watched)

    def _iterations(self, line: int | None) -> list[list[Entry]]:
        """Return the entries of each iteration of a loop."""
        if line is None:
            inside = (one for one in self.entries if one.iterations and one.kind == "statement")
            line = next((entry.iterations[-1][0] for entry in inside), None)
        found: dict[tuple[tuple[int, int], ...], list[Entry]] = {}
        for entry in self.entries:
            lines = [header for header, _ in entry.iterations]
            if line in lines:
                found.setdefault(entry.iterations[: lines.index(line) + 1], []).append(entry)
        return [some for some in found.values() if any(one.kind == "statement" for one in some)]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as dicts, lists, numbers and strings, ready for JSON."""
        names = ("watched", "counts", "entries", "aliases", "notes")
        return {name: _plain(getattr(self, name)) for name in names}

    def plot(self, **options: Any) -> Any:
        """Draw lanes of state against statements; see `fnlib.ledger.views.figure.plot`.

        Returns the figure, which a notebook shows if it is the cell's last line without a semicolon.
        """
        try:
            from fnlib.ledger.views.figure import plot  # matplotlib is imported when it is used
        except ImportError as error:
            if error.name != "matplotlib":
                raise
            raise ImportError(
                "ledger.plot() draws with matplotlib, which is not installed here: "
                "pip install matplotlib. Without it, print(ledger) shows the same as a table.",
                name="matplotlib",
            ) from None
        return plot(self, **options)

    def replay(self) -> Any:
        """Step through the recording with a slider; see `fnlib.ledger.views.replay.replay`."""
        return replay(self)

    def save(self, path: str | os.PathLike[str], *, start: int = 0) -> None:
        """Write the recording as one page of HTML that needs no kernel and no network.

        It has the player, the table, the findings, a search, and a heat map of each tensor before
        and after each change, and of the difference. Maps need the tensors' numbers: of small
        ones they are there, of all with ``fnlib.Ledger(..., keep=True)``.

        Args:
            path: of the file, such as "run.html".
            start: the statement to begin with; 0 is the state before the first. Readers of the
                file can add ``#12`` to its address.

        Example:
            >>> import tempfile, torch, fnlib
            >>> weight = torch.ones(2)
            >>> with fnlib.Ledger(weight=weight) as ledger:
            ...     _ = weight.mul_(3)
            >>> ledger.save(f"{tempfile.mkdtemp()}/run.html")
        """
        text = page(self, start=start)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def __str__(self) -> str:
        return text(self.entries, self.counts, self.title, self.notes)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        loops = self._iterations(None)
        return html(
            self.entries, self.counts, self.title, self.notes, loops if len(loops) > 1 else []
        )


class View(Recording):
    """Some entries of a ledger.

    Args:
        entries: the entries, in order.
        title: what they are, for the head of the table.
        watched: labels of the watched objects.
    """

    def __init__(self, entries: Sequence[Entry], title: str, watched: tuple[str, ...]) -> None:
        self.entries, self.title, self.watched = list(entries), title, watched


def _plain(value: Any) -> Any:
    """Write a value as JSON has it; infinities and NaN become strings."""
    if isinstance(value, Event):
        return {"kind": value.kind, "subject": value.subject, **_plain(value.data)}
    if isinstance(value, Entry):
        return {"iteration": value.iteration, **_fields(value)}
    if is_dataclass(value):
        return _fields(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, bool | int | str | None):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(_plain, value), key=str)
    return [*map(_plain, value)] if isinstance(value, list | tuple) else str(value)


def _fields(value: Any) -> dict[str, Any]:
    names = (one.name for one in fields(value) if one.name not in _LEFT_OUT)
    return {name: _plain(getattr(value, name)) for name in names}
