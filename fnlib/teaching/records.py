"""Read the records that teachers write in TOML, and answer a mistake with its file, its record and what to write.

A record is one ``[[question]]``, ``[[exhibit]]`` or the like; its first field is its name.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

CONTENT = Path(__file__).resolve().parent / "content"
# Lines stay lines; in other texts a line break counts as a space.
VERBATIM = ("code", "proof", "given")

T = TypeVar("T")


class ContentError(ValueError):
    """A mistake in a file of content; its text says where it is and what to write."""


@dataclass(frozen=True)
class Record:
    """One record as it stands in its file.

    Attributes:
        place: file and record, as in 'questions/00.toml, question "00-best"'.
        fields: name -> value.
    """

    place: str
    fields: dict[str, Any]

    def wrong(self, what: str) -> ContentError:
        """Make the error that says what is wrong with this record."""
        return ContentError(f"{self.place}: {what}")

    def inside(self, kind: str) -> list[Record]:
        """List the records of one kind in this record, such as a question's options."""
        rows = self.fields.get(kind, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self.wrong(f"begin each {kind} with a line of its own that names the list.")
        return [Record(f"{self.place}, {kind} {number}", row) for number, row in enumerate(rows, 1)]

    def make(self, kind: type[T], **given: Any) -> T:
        """Make an object of the fields.

        Args:
            kind: the class; its parameters are the fields that there are, their types what they may hold.
            given: parameters that are no fields of the file.

        Raises:
            ContentError: a field is unknown, missing or of the wrong type, or the class refuses the whole.
        """
        hints, parameters = get_type_hints(kind), inspect.signature(kind).parameters
        wanted = {name: parameter for name, parameter in parameters.items() if name not in given}
        for name, value in self.fields.items():
            if name not in wanted:
                near = get_close_matches(name, wanted, n=1)
                right = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(wanted)}."
                raise self.wrong(f'there is no field "{name}"; {right}')
            if not _fits(value, hints[name]):
                raise self.wrong(f'"{name}" must be {_in_words(hints[name])}, not {value!r}.')
        missing = [
            f'"{name}"'
            for name, parameter in wanted.items()
            if parameter.default is parameter.empty and name not in self.fields
        ]
        if missing:
            raise self.wrong(
                f"write {' and '.join(missing)}; without it the record says too little."
            )
        try:
            texts = {name: _plain(name, value) for name, value in self.fields.items()}
            return kind(**texts, **given)
        except (ValueError, KeyError) as problem:
            raise self.wrong(str(problem.args[0])) from problem


def files(folder: str, root: Path | None = None) -> list[str]:
    """Name the TOML files of a folder of content, in order.

    Args:
        folder: its name, from the folder of all content.
        root: the folder of all content; the one that is installed with the package if None.
    """
    return [f"{folder}/{path.name}" for path in sorted(((root or CONTENT) / folder).glob("*.toml"))]


def read(file: str, *kinds: str, root: Path | None = None) -> dict[str, list[Record]]:
    """Read a file of content.

    Args:
        file: its name, from the folder of all content.
        kinds: of record that may stand in it, such as "question".
        root: the folder of all content; the one that is installed with the package if None.

    Returns:
        kind -> its records, in order.

    Raises:
        ContentError: the file is no TOML, or holds records of another kind.

    Example:
        >>> read("misconceptions.toml", "misconception")["misconception"][0].place
        'misconceptions.toml, misconception "assignment-copies"'
    """
    text = ((root or CONTENT) / file).read_text(encoding="utf-8")
    file = f"{root.name}/{file}" if root else file
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise ContentError(f"{file}{_near(text, str(problem))}: {problem}.") from problem
    for kind in tables:
        if kind not in kinds:
            wanted = " or ".join(f"[[{known}]]" for known in kinds)
            raise ContentError(f"{file}: a record begins with {wanted}, not with {kind!r}.")
    found = {}
    for kind in kinds:
        rows = tables.get(kind, [])
        if not isinstance(rows, list):
            raise ContentError(f"{file}: write [[{kind}]], with two brackets, above each {kind}.")
        found[kind] = [
            Record(f"{file}, {kind} {_name(row, number)}", row)
            for number, row in enumerate(rows, 1)
        ]
    return found


def by(name: str, rows: Iterable[T], place: str) -> dict[str, T]:
    """Map the names of rows to the rows, in order.

    Args:
        name: the attribute that holds a row's name, such as "key".
        rows: the rows.
        place: where they were read, for the error.

    Raises:
        ContentError: two rows have one name.
    """
    table: dict[str, T] = {}
    for row in rows:
        if (key := getattr(row, name)) in table:
            raise ContentError(f'{place}: "{key}" is there twice; give one another {name}.')
        table[key] = row
    return table


def look_up(table: dict[str, T], key: str, kind: str) -> T:
    """Find a row by its key.

    Raises:
        KeyError: there is none of that key; the message lists those of its lesson.
    """
    if key not in table:
        near = [known for known in table if known[:2] == key[:2]] or list(table)
        raise KeyError(f"No {kind} is called {key!r}. There are: {', '.join(near)}.")
    return table[key]


def _name(row: dict[str, Any], number: int) -> str:
    """What a reader finds a record by: its first field, or its number where that is no name."""
    first = next(iter(row.values()), None)
    return f'"{first}"' if isinstance(first, str) else f"number {number}"


def _near(text: str, problem: str) -> str:
    """The record in which TOML stops to make sense: the last one that begins at or above that line."""
    at = re.search(r"at line (\d+)", problem)
    above = text.splitlines()[: int(at[1]) if at else None]
    head = re.compile(r"^\[\[(\w+)\]\]\s*\n\s*\w+\s*=\s*[\"']([^\"'\n]*)", re.MULTILINE)
    begun = list(head.finditer("\n".join(above)))
    return f', in or after {begun[-1][1]} "{begun[-1][2]}"' if begun else ""


def _fits(value: Any, hint: Any) -> bool:
    inside = get_args(hint)
    if get_origin(hint) is Literal:
        return value in inside
    if get_origin(hint) is UnionType:
        return any(_fits(value, each) for each in inside)
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            return False
        kinds = inside[:1] * len(value) if inside[-1] is ... else inside
        return len(kinds) == len(value) and all(map(_fits, value, kinds))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint)


def _in_words(hint: Any) -> str:
    inside = get_args(hint)
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, inside))}"
    if get_origin(hint) is UnionType:
        return _in_words(inside[0])
    if get_origin(hint) is tuple:
        return "two numbers, such as [1, 2]" if inside[0] is float else 'a list, such as ["a", "b"]'
    return {str: "text in quotes", bool: "true or false", int: "a whole number"}.get(
        hint, "a table"
    )


def _plain(name: str, value: Any) -> Any:
    """A value as Python has it: lists as tuples, wrapped text on one line, code without its last line break."""
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, str) and "\n" in value:
        return value.removesuffix("\n") if name in VERBATIM else " ".join(value.split())
    return value
