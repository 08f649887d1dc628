"""The museum of silent bugs: one file of records that drives its tests, its rooms, lesson 09 and the README.

A new exhibit is one record of ``content/museum.toml`` and one loop in ``content/exhibits/``: the loop as people write it
(``bug``), its ``setup`` and ``cure``, and ``harm``, the quantity that breaks.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_lowercase
from typing import Any, Literal

from fnlib.teaching import records

Today = Literal["silent", "warns", "raises"]
Verdict = Literal["does no harm", "does other harm", "refused", "can still be written"]
FILE, LOOPS = "museum.toml", records.CONTENT / "exhibits"
IN_FNLIB = LOOPS / "in_fnlib.py"


@dataclass(frozen=True, slots=True)
class Room:
    """A room of the museum; loops of the functional wing are meant to change nothing in place."""

    name: str
    functional: bool = False


@dataclass(frozen=True, slots=True)
class Way:
    """What happens to a bug in ``fnlib``, and why; the function ``name`` shows it."""

    name: str
    verdict: Verdict
    because: str


@dataclass(frozen=True, slots=True)
class Source:
    """A page about a bug, and what it says in our own words."""

    name: str
    address: str
    says: str


@dataclass(frozen=True, slots=True)
class Rows:
    """What the ledger's rows show of a functional loop, and two words that hold the sentence to the rows.

    Attributes:
        says: the sentence; ``{nodes}`` becomes the sizes of the graphs.
        present: a word that is in the rows.
        absent: a word that is not.
    """

    says: str
    present: str
    absent: str


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One bug: its room, what PyTorch says today, who finds it, and what happens to it in ``fnlib``.

    Attributes:
        code: the name of its file, without ``.py``.
        room: the name of its room.
        title: the bug, as its label names it.
        task: what its loop is meant to do, without a hint at the bug.
        today: what PyTorch says of it.
        way: the name of a `Way`.
        core: its number in lesson 09, which then shows it instead of its room; 0 if its room does.
        harm: the measured quantity with the bug and with its cure.
        finding: the code that the ledger reports on a recording of ``bug``, "" without one.
        standing: the code that `fnlib.doctor` reports on the variables of ``bug`` at its end and not on those of ``cure``,
            "" without one.
        sources: names of the pages on which it was met.
        related: names of pages about something close to it.
        note: how to read its rows in the ledger or its cure, where that takes a sentence.
        curve: whether its loss, over many passes, ends higher with the bug than with the cure; its room then draws both.
        rows: what to see in the ledger, for a loop of the functional wing.
    """

    code: str
    room: str
    title: str
    task: str
    today: Today
    way: str
    core: int = 0
    harm: tuple[float, float] | None = None
    finding: str = ""
    standing: str = ""
    sources: tuple[str, ...] = ()
    related: tuple[str, ...] = ()
    note: str = ""
    curve: bool = False
    rows: Rows | None = None

    @property
    def fnlib(self) -> Verdict:
        """What becomes of the bug in ``fnlib``."""
        return WAYS[self.way].verdict

    @property
    def because(self) -> str:
        """Why, in a sentence."""
        return WAYS[self.way].because

    @property
    def functional(self) -> bool:
        """Whether it hangs in the functional wing."""
        return self.room in FUNCTIONAL

    @property
    def place(self) -> str:
        """Where it hangs: room and letter, as in "5b", or "exhibit 3" in lesson 09.

        >>> exhibit("seed_set_in_the_loop").place, exhibit("eval_forgotten").place
        ('exhibit 6', '5a')
        """
        if self.core:
            return f"exhibit {self.core}"
        return f"{ROOMS.index(self.room) + 1}{ascii_lowercase[shown(self.room).index(self)]}"

    @property
    def file(self) -> Path:
        """The file of its loop."""
        return LOOPS / ("functional_bugs" if self.functional else "bugs") / f"{self.code}.py"

    @property
    def links(self) -> tuple[tuple[str, str], ...]:
        """Where it was met, or something close to it: (address, what the page says)."""
        names = self.sources + self.related
        return tuple((SOURCES[name].address, SOURCES[name].says) for name in names)


def _exhibit(record: records.Record) -> Exhibit:
    fields = dict(record.fields)
    rows = fields.pop("rows", None)
    one = records.Record(record.place, fields).make(Exhibit, rows=None)
    for kind, name, known in (
        ("room", one.room, ROOMS),
        ("way", one.way, WAYS),
        *(("source", name, SOURCES) for name in one.sources + one.related),
    ):
        if name not in known:
            raise record.wrong(f'there is no {kind} "{name}" in this file.')
    if one.functional and rows is None:
        raise record.wrong("write what its rows show, under [exhibit.rows].")
    if rows is None:
        return one
    return replace(one, rows=records.Record(f"{record.place}, rows", rows).make(Rows))


_read = records.read(FILE, "room", "exhibit", "way", "source")
_rooms = [record.make(Room) for record in _read["room"]]
ROOMS = tuple(room.name for room in _rooms)
FUNCTIONAL = tuple(room.name for room in _rooms if room.functional)
WAYS = records.by("name", [record.make(Way) for record in _read["way"]], FILE)
SOURCES = records.by("name", [record.make(Source) for record in _read["source"]], FILE)
EXHIBITS = tuple(records.by("code", map(_exhibit, _read["exhibit"]), FILE).values())


def shown(room: str) -> tuple[Exhibit, ...]:
    """Return the exhibits of a room; those of the lesson's core hang in the lesson."""
    return tuple(one for one in EXHIBITS if one.room == room and not one.core)


def exhibit(code: str) -> Exhibit:
    """Find one exhibit by its code or its place.

    Args:
        code: the name of its file, without ``.py``; or where it hangs, as in "5b".

    Returns:
        The exhibit.

    Raises:
        KeyError: there is none of that code; the message lists those there are.

    Example:
        >>> exhibit("best_state_dict").today
        'silent'
        >>> exhibit("5a").code
        'eval_forgotten'
    """
    for one in EXHIBITS:
        if code in (one.code, one.place):
            return one
    raise KeyError(f"no exhibit {code!r}; there are {', '.join(one.code for one in EXHIBITS)}")


def source(code: str, part: str = "bug") -> str:
    """The text of an exhibit's function, as it stands in its file.

    Args:
        code: the exhibit.
        part: ``"bug"``, ``"cure"``, ``"setup"``, ``"harm"``, ``"in_fnlib"``, or another function or class of the file.

    Returns:
        The source of that function.

    Raises:
        KeyError: no such exhibit, or its file has no such part.

    Example:
        >>> print(source("best_state_dict").splitlines()[-3])
            optimizer.step()
    """
    return _function(exhibit(code).file, part)


def source_in_fnlib(code: str) -> str:
    """The text of the function that does an exhibit's task in ``fnlib``.

    Args:
        code: the exhibit.

    Returns:
        The source of that function; its docstring says what to see.

    Raises:
        KeyError: no such exhibit.

    Example:
        >>> source_in_fnlib("best_state_dict").splitlines()[0]
        'def name_is_a_snapshot():'
    """
    one = exhibit(code)
    return source(code, "in_fnlib") if one.functional else part_in_fnlib(one.way)


def part_in_fnlib(name: str) -> str:
    """The text of one function or class of ``exhibits/in_fnlib.py``."""
    return _function(IN_FNLIB, name)


def parts_in_fnlib() -> list[str]:
    """Names of all functions and classes of ``exhibits/in_fnlib.py``."""
    return [
        name
        for node in ast.parse(IN_FNLIB.read_text(encoding="utf-8")).body
        if (name := getattr(node, "name", ""))
    ]


def harm_of(code: str) -> tuple[Callable[[Callable[..., Any]], float], str]:
    """How an exhibit's harm is measured.

    Args:
        code: the exhibit, one whose ``harm`` is not ``None``.

    Returns:
        The function of its file that measures a run, and what it measures in words.

    Raises:
        KeyError: no such exhibit.

    Example:
        >>> harm_of("rate_set_on_a_copy")[1]
        'Rate of the third step (0.025 was asked for).'
    """
    harm = function_of(code, "harm")
    return harm, inspect.getdoc(harm) or ""


def function_of(code: str, part: str) -> Callable[..., Any]:
    """A function of an exhibit's file, ready to be called.

    Args:
        code: the exhibit.
        part: ``"setup"``, ``"bug"``, ``"cure"``, or another function of the file.

    Returns:
        The function, from a module that is loaded anew.

    Raises:
        KeyError: no such exhibit.
        AttributeError: its file has no such function.

    Example:
        >>> sorted(function_of("rate_set_on_a_copy", "setup")())
        ['data', 'model', 'optimizer']
    """
    spec = importlib.util.spec_from_file_location(code, exhibit(code).file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[..., Any] = getattr(module, part)
    return found


def _function(file: Path, name: str) -> str:
    text = file.read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        if getattr(node, "name", None) == name:
            return ast.get_source_segment(text, node) or ""
    raise KeyError(f"{file.name} has no {name!r}")
