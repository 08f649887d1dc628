"""One file a lesson: its exercises and its questions. Add a row, and it is checked, asked, printed and tested."""

from __future__ import annotations

import importlib
import pkgutil
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from fnlib.teaching.exercises import Exercise
    from fnlib.teaching.questions import Question


class _Keyed(Protocol):
    @property
    def key(self) -> str: ...


Row = TypeVar("Row", bound=_Keyed)


@lru_cache(maxsize=1)
def exercises() -> dict[str, Exercise]:
    """All exercises by key, in the order of the lessons."""
    return _by_key([row for table in _tables() for row in getattr(table, "EXERCISES", ())])


@lru_cache(maxsize=1)
def questions() -> dict[str, Question]:
    """All questions by key, in the order of the lessons; those of the bank with their options spread."""
    rows: list[Question] = [row for table in _tables() for row in getattr(table, "QUESTIONS", ())]
    rows = [row.spread() if row.kind in ("bank", "prerequisite") else row for row in rows]
    return _by_key(sorted(rows, key=lambda row: (row.lesson != "pre", row.lesson)))


def exercise(key: str) -> Exercise:
    """Look an exercise up.

    Raises:
        KeyError: there is none of that key; the message lists those of its lesson.
    """
    return _look_up(exercises(), key, "exercise")


def question(key: str) -> Question:
    """Look a question up.

    Raises:
        KeyError: there is none of that key; the message lists those of its lesson.
    """
    return _look_up(questions(), key, "question")


def _tables() -> list[ModuleType]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [importlib.import_module(f"{__name__}.{name}") for name in names]


def _by_key(rows: list[Row]) -> dict[str, Row]:
    table = {row.key: row for row in rows}
    if len(table) < len(rows):
        keys = [row.key for row in rows]
        raise ValueError(f"Two rows have one key: {sorted({key for key in keys if keys.count(key) > 1})}.")
    return table


def _look_up(table: dict[str, Row], key: str, kind: str) -> Row:
    if key not in table:
        near = [known for known in table if known[:2] == key[:2]] or list(table)
        raise KeyError(f"No {kind} is called {key!r}. There are: {', '.join(near)}.")
    return table[key]
