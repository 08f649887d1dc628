"""The names that objects have where they are passed."""

from __future__ import annotations

from types import FrameType
from typing import Any


def names_for(objects: tuple[Any, ...], frame: FrameType) -> dict[str, Any]:
    """Return the names that objects have where they were passed, else their class.

    >>> import sys
    >>> numbers = [1]
    >>> names_for((numbers, {2}), sys._getframe())
    {'numbers': [1], 'set': {2}}
    """
    names: dict[str, Any] = {}
    for value in objects:
        variables = [*frame.f_locals.items(), *frame.f_globals.items()]
        known = (name for name, held in variables if held is value and name[0] != "_")
        kind = type(value).__name__.lower()
        name, number = next((name for name in known if name not in names), kind), 1
        while name in names:
            number += 1
            name = f"{kind}_{number}"
        names[name] = value
    return names
