"""Show which exercises of the course were passed."""

from __future__ import annotations

import html
from dataclasses import dataclass

from fnlib.teaching import passed
from fnlib.teaching.exercises import exercises


@dataclass(frozen=True)
class Progress:
    """The exercises of the course and the days on which they were passed; a notebook shows it as a table.

    Attributes:
        days: exercise -> day of the first pass, or "".
        where: what becomes of this list, in one sentence.
    """

    days: dict[str, str]
    where: str

    @property
    def lessons(self) -> dict[str, dict[str, str]]:
        """lesson -> its exercises and their days."""
        found: dict[str, dict[str, str]] = {}
        for key, day in self.days.items():
            lesson, name = key.split("-", 1)
            found.setdefault(lesson, {})[name] = day
        return found

    @property
    def total(self) -> str:
        """How many were passed, in words."""
        done = sum(map(bool, self.days.values()))
        return f"You've passed {done} of {len(self.days)} exercises."

    def __repr__(self) -> str:
        lines = [self.total]
        for lesson, days in self.lessons.items():
            for name, day in days.items():
                lines.append(f"  {'✓' if day else '○'} {lesson}-{name:<20} {day}".rstrip())
        return "\n".join([*lines, self.where])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{lesson}</td><td style='text-align:left'>"
            + " &nbsp; ".join(
                f"<span title='{day or 'not passed yet'}'>{'✓' if day else '○'} {html.escape(name)}</span>"
                for name, day in days.items()
            )
            + "</td></tr>"
            for lesson, days in self.lessons.items()
        )
        head = "<tr><th>lesson</th><th style='text-align:left'>exercises</th></tr>"
        return (
            f"<p><b>{html.escape(self.total)}</b></p><table>{head}{rows}</table>"
            f"<p>{html.escape(self.where)}</p>"
        )


def progress() -> Progress:
    """List the exercises of the course and which of them you've passed.

    ``teaching.check`` notes each pass in a small file beside the lessons and sends it nowhere. The complete lessons
    note none.

    Returns:
        A ``Progress``; the notebook shows it as a table.

    Example:
        >>> progress().total
        "You've passed ... exercises."
    """
    known = passed.passed()
    path = passed.file()
    if path is None:
        where = "Nothing is noted here: these are the complete lessons, or FNLIB_PROGRESS is off."
    elif passed.is_kept():
        where = f"Kept in {path.name}, beside the lessons. Delete that file to start again."
    else:
        where = f"{path.name} can't be written here, so this list ends with your session."
    return Progress({key: known.get(key, "") for key in exercises()}, where)
