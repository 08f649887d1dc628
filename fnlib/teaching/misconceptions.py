"""What people believe about state, what is so instead, and which lesson shows it.

One file, ``content/misconceptions.toml``. Checks, predictions, the question bank and the lessons all name its records,
so that a belief is always answered with the same words. Learners read the fact alone: nobody is told what they think.
"""

from __future__ import annotations

from typing import NamedTuple

from fnlib.teaching import records


class Misconception(NamedTuple):
    """One belief and its refutation.

    Attributes:
        slug: its short name, used in tables and guides.
        think: the belief, as a clause; for teachers.
        fact: what is so, in sentences that stand alone.
        lesson: where it is predicted and refuted.
    """

    slug: str
    think: str
    fact: str
    lesson: str

    def __str__(self) -> str:
        return self.fact


_FILE = "misconceptions.toml"
_ROWS = [
    record.make(Misconception) for record in records.read(_FILE, "misconception")["misconception"]
]
TABLE: dict[str, Misconception] = records.by("slug", _ROWS, _FILE)


def misconception(slug: str) -> Misconception:
    """Look up a misconception by its short name.

    Args:
        slug: its short name.

    Returns:
        The row; ``str()`` of it is its fact.

    Raises:
        KeyError: there is none of that name; the message lists all names.

    Example:
        >>> print(misconception("zero-grad-zeroes-weights"))
        `zero_grad` removes gradients and leaves the weights alone.
    """
    if slug not in TABLE:
        raise KeyError(f"No misconception is called {slug!r}. There are: {', '.join(TABLE)}.")
    return TABLE[slug]
