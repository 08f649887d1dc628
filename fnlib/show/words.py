"""Writing names and values into a message."""

from __future__ import annotations

from collections.abc import Iterable


def names(of: Iterable[str], most: int = 4) -> str:
    """List the first few names.

    >>> names("abcdef")
    "'a', 'b', 'c', 'd' and 2 more"
    """
    every = list(of)
    shown = ", ".join(f"'{name}'" for name in every[:most])
    return shown if len(every) <= most else f"{shown} and {len(every) - most} more"


def code(value: object) -> str:
    """Write a value as code if it is short.

    >>> code(0.1), code(object())
    ('0.1', '...')
    """
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text and not text.startswith("<") else "..."
