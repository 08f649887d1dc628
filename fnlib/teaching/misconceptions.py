"""What people believe about state, what is so instead, and which lesson shows it.

One file, ``content/misconceptions.toml``. Checks, predictions, the question bank and the lessons all name its records,
so that a belief is always answered with the same words.
"""

from __future__ import annotations

from typing import NamedTuple

from fnlib.teaching import records


class Misconception(NamedTuple):
    """One belief and its refutation.

    Attributes:
        slug: its short name, used in tables and guides.
        think: completes "You may think that ...".
        fact: completes "It is not so: ...".
        lesson: where it is predicted and refuted.
    """

    slug: str
    think: str
    fact: str
    lesson: str

    def __str__(self) -> str:
        return f"You may think that {self.think}. It is not so: {self.fact}."


TABLE: dict[str, Misconception] = {
    row.slug: row
    for row in (
        record.make(Misconception)
        for record in records.read("misconceptions.toml", "misconception")["misconception"]
    )
}


def misconception(slug: str) -> Misconception:
    """Look a misconception up; shown in a notebook it reads as one paragraph.

    Args:
        slug: its short name.

    Returns:
        The row; ``str()`` of it is "You may think that ... It is not so: ...".

    Raises:
        KeyError: there is none of that name; the message lists all names.

    Example:
        >>> print(misconception("zero-grad-zeroes-weights"))
        You may think that zero_grad() sets the weights to zero. It is not so: it removes the gradients; no weight changes.
    """
    if slug not in TABLE:
        raise KeyError(f"No misconception is called {slug!r}. There are: {', '.join(TABLE)}.")
    return TABLE[slug]
