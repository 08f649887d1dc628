"""Assertions on a recording, for tests: what the pytest fixture `ledger` gives."""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Any

from fnlib.ledger.entries import Entry
from fnlib.ledger.errors import NothingRecorded
from fnlib.ledger.findings.story import own_changes
from fnlib.ledger.ledger import Ledger
from fnlib.ledger.looks.callers import names_for
from fnlib.ledger.views.report import Findings
from fnlib.ledger.views.words import counted
from fnlib.show.location import short, where

DEPTH = 50  # calls: a test records the loop that it calls, not its own line
SHOWN = 3  # places of a statement


class Recorder:
    """Start recordings, and ask the last one; what it doesn't have itself, the recording has.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1)
        >>> ledger = Recorder()
        >>> with ledger(model):
        ...     output = model(torch.ones(1, 2))
        >>> ledger.changed()
        set()
        >>> ledger.assert_no_action_at_a_distance()
    """

    def __init__(self) -> None:
        self.recordings: list[Ledger] = []

    def __call__(self, *objects: Any, depth: int = DEPTH, **named: Any) -> Ledger:
        """Begin a recording, as `fnlib.Ledger` does, of called functions too.

        Args:
            objects: what to watch, called as the variables that hold them.
            depth: how many calls deep statements are recorded.
            named: more objects by name, or options of `fnlib.Ledger`.
        """
        names = names_for(objects, sys._getframe(1))
        recording = Ledger(depth=depth, **{**names, **named})
        self.recordings.append(recording)
        return recording

    @property
    def last(self) -> Ledger:
        """The recording that was begun last."""
        if not self.recordings:
            raise NothingRecorded
        return self.recordings[-1]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by copy and pickle, before there is anything
            raise AttributeError(name)
        return getattr(self.last, name)

    def assert_no_findings(self, *, strict: bool = False) -> None:
        """Fail if the recording shows a silent bug.

        Args:
            strict: fail on questions too, not only on certain findings.
        """
        __tracebackhide__ = True  # pytest shows the line of the test
        found = [one for one in self.last.findings if strict or one.severity == "certain"]
        if found:
            raise AssertionError(f"{counted(len(found), 'finding')}\n{Findings(found)!r}")

    def assert_no_action_at_a_distance(self, *, besides: Collection[str] = ()) -> None:
        """Fail if a statement changes state whose owner it doesn't name.

        Args:
            besides: kinds of calls that may: "backward", "step", "zero_grad" are what a stock
                training loop does on purpose.
        """
        __tracebackhide__ = True
        far = [
            one
            for one in self.last.walk()
            if one.has_source and _distant(one) and not _kinds(one) & {*besides}
        ]
        statements: dict[tuple[str, str, int], Entry] = {}
        for one in far:
            statements.setdefault(one.where, one)
        if statements:
            many = len(statements) > 1
            verb = "change" if many else "changes"
            owner = "they don't" if many else "it doesn't"
            head = f"{counted(len(statements), 'statement')} {verb} state whose owner {owner} name"
            raise AssertionError("\n".join([f"{head}:", *map(_line, statements.values())]))


def _distant(entry: Entry) -> list[str]:
    """Return the labels of what a statement itself changes at a distance."""
    return [one.label for one in own_changes(entry) if one.at_a_distance]


def _kinds(entry: Entry) -> set[str]:
    return {event.kind for event in entry.events}


def _line(entry: Entry) -> str:
    labels = _distant(entry)
    rest = f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
    code = " ".join(entry.source.split())
    place = where(short(entry.file), entry.line)
    return f"    {place}  {code}  changes {', '.join(labels[:SHOWN])}{rest}"
