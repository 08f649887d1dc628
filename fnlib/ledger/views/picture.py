"""The picture of a recording: statements down the left, lanes of state, and what each statement did to each lane.

``ledger.plot()`` draws one recording, ``plot_pair(a, b)`` two side by side. ``describe`` says the same in words.

    python -m fnlib.ledger.picture --out lessons/figures/ledger-loops.svg

draws the stock loop and the functional loop of the read-me.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fnlib.ledger.views.captions import describe, in_words
from fnlib.ledger.views.scene import Scene, scene

if TYPE_CHECKING:
    from fnlib.ledger.views.figure import LedgerFigure

__all__ = ["describe", "plot", "plot_pair"]


def plot(ledger: Any, *, iteration: int | None = None, title: str = "") -> LedgerFigure:
    """Draw lanes of state against statements.

    A circle is a value created, a square one changed in place, a diamond a name or place that holds another value, a
    cross one removed. A small grey ring is read. Arrows mean change; they are dashed where the statement does not name
    the owner of what it changes. Loops are folded: each statement as it ran last.

    Args:
        ledger: a recording, or a part of one (``ledger.iteration(2)``).
        iteration: draw one iteration of the outermost loop alone.
        title: written above the picture.

    Returns:
        A matplotlib figure that a notebook shows with alternative text; ``figure.alt`` is that text.

    Raises:
        NoSuchIteration: the iteration was not recorded.

    >>> import torch
    >>> from fnlib.ledger import Ledger
    >>> weight = torch.ones(2)
    >>> with Ledger(weight=weight) as ledger:
    ...     _ = weight.mul_(3)
    >>> plot(ledger)
    [Picture: What each statement changes. Line 2, _ = weight.mul_(3): changes in place weight's values (1 tensor)...]
    """
    return _figure([scene(ledger, iteration=iteration)], [title])


def plot_pair(
    a: Any, b: Any, *, titles: tuple[str, str] = ("", ""), iteration: int | None = None
) -> LedgerFigure:
    """Draw two recordings beside each other, the same kinds of state in the same order.

    Args:
        a: the recording on the left.
        b: the recording on the right.
        titles: written above each of them.
        iteration: draw one iteration of the outermost loops alone.

    Returns:
        A matplotlib figure, as `plot` does. Two that do not fit beside each other stand one below the other.

    Raises:
        NoSuchIteration: the iteration was not recorded.

    >>> import torch
    >>> from fnlib.ledger import Ledger
    >>> weight = torch.ones(2)
    >>> with Ledger(weight=weight) as places:
    ...     _ = weight.mul_(3)
    >>> with Ledger(weight=weight) as values:
    ...     new = weight * 3
    >>> print(plot_pair(places, values, titles=("places", "values")).alt)
    places. What each statement changes. ... values. What each statement changes. Line 2, new = weight * 3: creates new...
    """
    return _figure([scene(a, iteration=iteration), scene(b, iteration=iteration)], list(titles))


def _figure(scenes: list[Scene], titles: list[str]) -> LedgerFigure:
    from fnlib.ledger.views.figure import (
        draw,
    )  # matplotlib is imported when a picture is asked for, not before

    alt = " ".join(
        f"{title}. {in_words(one)}" if title else in_words(one)
        for one, title in zip(scenes, titles, strict=True)
    )
    return draw(scenes, titles, alt)


def main(arguments: list[str] | None = None) -> None:
    """Draw the stock loop and the functional loop, both in their second iteration, into a file."""
    from fnlib.ledger.views.example import functional, stock

    parser = argparse.ArgumentParser(description="Draw what the two loops of the read-me change.")
    parser.add_argument("--out", type=Path, required=True, help="where to, .svg or .png")
    out = parser.parse_args(arguments).out
    figure = plot_pair(
        stock(),
        functional(),
        titles=("stock: places that are changed", "functional: values that are passed on"),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


if __name__ == "__main__":
    main()
