"""Numbers and values in a few words, the same in every view."""

from __future__ import annotations

from typing import Any


def counted(number: int, noun: str) -> str:
    """Write a number with its noun.

    >>> counted(4, "tensor"), counted(1, "tensor"), counted(2, "entry")
    ('4 tensors', '1 tensor', '2 entries')
    """
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun[:-1] + 'ies' if noun.endswith('y') else noun + 's'}"


def listed(words: list[str]) -> str:
    """Join words with commas and an "and".

    >>> listed(["1"]), listed(["1", "2"]), listed(["1", "2", "3"])
    ('1', '1 and 2', '1, 2 and 3')
    """
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def short(value: Any) -> str:
    """Write a number or flag so that it fits under a mark.

    >>> short(0.012345678), short(True), short("a long sentence about nothing")
    ('0.0123', 'True', 'a long sent…')
    """
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 12 else text[:11] + "…"
