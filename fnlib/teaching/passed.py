"""Remember which exercises were passed: a small file beside the lessons."""

from __future__ import annotations

import json
import os
from datetime import date
from pathlib import Path

from fnlib.teaching.notebook import LESSONS

VARIABLE = "FNLIB_PROGRESS"  # the file to use instead, or "off"
NAME = "my_progress.json"

_session: dict[str, str] = {}  # what this kernel has passed, where no file can be written


def file() -> Path | None:
    """Name the file in which passed exercises are kept.

    Returns:
        A path, or ``None`` if nothing is kept: with ``FNLIB_PROGRESS=off``, and for the complete lessons, whose answers
        are not the learner's.

    Example:
        >>> file() is None or file().suffix == ".json"
        True
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return None if chosen == "off" else Path(chosen)
    if Path.cwd().name == "solutions":
        return None
    return (LESSONS if LESSONS.is_dir() else Path.cwd()) / NAME


def note(key: str) -> None:
    """Note that an exercise was passed today, unless it was passed before.

    Args:
        key: the exercise.

    Example:
        >>> note("00-keep-best")
    """
    path = file()
    if path is None or key in (known := passed()):
        return
    today = date.today().isoformat()
    _session[key] = today
    made = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        made.write_text(json.dumps(known | {key: today}, indent=1), encoding="utf-8")
        made.replace(path)  # two notebooks at once: the file is whole at every moment
    except OSError:  # a folder that cannot be written to: the session remembers
        made.unlink(missing_ok=True)


def passed() -> dict[str, str]:
    """List passed exercises with the day on which each was first passed.

    Returns:
        exercise -> day, as in "2026-11-28".

    Example:
        >>> isinstance(passed(), dict)
        True
    """
    path = file()
    if path is None:
        return {}
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there yet, or somebody edited it
        kept = {}
    known = (
        {key: day for key, day in kept.items() if isinstance(day, str)}
        if isinstance(kept, dict)
        else {}
    )
    return _session | known


def is_kept() -> bool:
    """Say whether everything that this session has passed is in the file."""
    path = file()
    return path is not None and (path.is_file() or not _session)
