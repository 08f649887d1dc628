"""Saying where a line stands."""

from __future__ import annotations

import os
import re

_OF_A_NOTEBOOK = re.compile(r"(^|[\\/])ipykernel_\d+[\\/]|^<ipython-input")


def where(file: str, line: int) -> str:
    """A line as its reader finds it: the file that a notebook makes of a cell is nobody's.

    >>> where("train.py", 7)
    'train.py:7'
    >>> where("/tmp/ipykernel_4711/2060108537.py", 7)
    'line 7 of a notebook cell'
    """
    if _OF_A_NOTEBOOK.search(file):
        return f"line {line} of a notebook cell"
    relative = os.path.relpath(file) if os.path.isabs(file) and os.path.splitdrive(file)[0] == os.path.splitdrive(os.getcwd())[0] else file
    return f"{min(relative, file, key=len)}:{line}"
