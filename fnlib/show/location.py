"""Saying where a line stands."""

from __future__ import annotations

import os
import re

_OF_A_NOTEBOOK = re.compile(r"(^|[\\/])ipykernel_\d+[\\/]|^<ipython-input")


def of_a_notebook(file: str) -> bool:
    """Whether a file's name is one that a notebook makes for a cell."""
    return _OF_A_NOTEBOOK.search(file) is not None


def where(file: str, line: int) -> str:
    """A line as its reader finds it: the file that a notebook makes of a cell is nobody's.

    >>> where("train.py", 7)
    'train.py:7'
    >>> where("/tmp/ipykernel_4711/2060108537.py", 7)
    'line 7 of a notebook cell'
    """
    if of_a_notebook(file):
        return f"line {line} of a notebook cell"
    return f"{file}:{line}"


def short(file: str) -> str:
    """A path as seen from the working folder, where that is shorter. It takes 10 us, too long for what every step asks."""
    try:
        return min(os.path.relpath(file) if os.path.isabs(file) else file, file, key=len)
    except (OSError, ValueError):  # the working folder is gone, or on another drive
        return file
