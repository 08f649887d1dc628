"""Runs cells of a lesson with a change in them, as a learner does it."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterable
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from course.editions import SOLUTIONS, read

Change = dict[str, list[tuple[str, str]]]


class Tried:
    """What came of a lesson's cells after a change.

    Attributes:
        names: the notebook's variables.
        said: all that was printed.
        error: what stopped the last cell, or None.
    """

    def __init__(self, lesson: str, cells: Iterable[str], change: Change, more: str = "") -> None:
        (path,) = SOLUTIONS.glob(f"{lesson}_*.ipynb")
        sources = {cell.id: cell.source for cell in read(path).cells if cell.cell_type == "code"}
        for id, pairs in change.items():
            for old, new in pairs:
                assert old in sources[id], (
                    f"lesson {lesson}, cell {id} has no {old!r}: the question asks for a change that cannot be made"
                )
                sources[id] = sources[id].replace(old, new)
        InteractiveShell.clear_instance()
        shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
        self.error: BaseException | None = None
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                for source in [
                    *(sources[id] for id in ("setup", *cells)),
                    *([more] if more else []),
                ]:
                    ran = shell.run_cell(source)
                    self.error = ran.error_in_exec or ran.error_before_exec
                    if self.error:
                        break
        finally:
            self.names: dict[str, Any] = shell.user_ns
            InteractiveShell.clear_instance()
        self.said = re.sub(r"\x1b\[[0-9;]*m", "", printed.getvalue())


def rows(view: Any) -> dict[str, set[str]]:
    """What each statement of a ledger changed: "weight changed in place" and so on."""
    return {
        entry.source.strip(): {
            f"{change.owner} {change.state} {change.kind}".strip() for change in entry.changes
        }
        for entry in view.entries
    }


def cell(lesson: str, id: str) -> str:
    (path,) = SOLUTIONS.glob(f"{lesson}_*.ipynb")
    return next(found.source for found in read(path).cells if found.id == id)
