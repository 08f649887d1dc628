"""The picture of lesson 03: what each style of training makes of each need.

One row a need, one column a style. A full circle says that one line does it; a half circle, that you reach inside; a cross, that
even this does not help. Below each mark stands the name that does it, so that the reader can find it in the code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fnlib.teaching.pictures import Picture, show
from fnlib.teaching.style import BLUE, GREEN, VERMILLION, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = {"one line": GREEN, "reach inside": BLUE, "impossible": VERMILLION}
MONO, GREY = "DejaVu Sans Mono", "#555555"


def mark(way: str) -> str:
    """What a way of meeting a need is called: "one line", "reach inside" or "impossible".

    Args:
        way: the name that does it; "inside: ..." if nothing that is offered does it, "impossible: ..." if nothing does.

    Example:
        >>> mark(".grad"), mark("inside: _optimizer"), mark("impossible: one loss")
        ('one line', 'reach inside', 'impossible')
    """
    begins = way.split(":")[0]
    return {"inside": "reach inside", "impossible": "impossible"}.get(begins, "one line")


def needs(ways: Mapping[str, Sequence[str]], styles: Sequence[str], *, title: str = "") -> Picture:
    """Draw needs against styles, one mark a pair.

    Args:
        ways: need -> how each style meets it, in the words that ``mark`` reads.
        styles: the columns.
        title: the finding.

    Returns:
        A ``Picture``; its alternative text says every pair.

    Raises:
        ValueError: a need has more or fewer ways than there are styles.

    Example:
        >>> needs({"clip": (".grad", "inside: factory")}, ("stock", "closed box"))
        [Picture: clip: stock, one line (.grad); closed box, reach inside (factory).]
    """
    for need, texts in ways.items():
        if len(texts) != len(styles):
            raise ValueError(
                f"{need!r} has {len(texts)} ways for {len(styles)} styles: {', '.join(styles)}."
            )
    figure, axes = canvas((9.0, 1.0 + 0.72 * len(ways)))
    axes.axis("off")
    axes.set(xlim=(-0.95, len(styles) - 0.05), ylim=(len(ways) - 0.5, -0.85), title=title)
    for column, style in enumerate(styles):
        axes.text(column + 0.22, -0.62, style, fontsize=12.5, fontweight="bold", va="center")
    for row, (need, texts) in enumerate(ways.items()):
        axes.axhline(row - 0.4, color="#d8d8d8", linewidth=1)
        axes.text(-0.95, row, need, fontsize=12.5, va="center")
        for column, way in enumerate(texts):
            _draw(axes, column, row, way)
    return show(figure, " ".join(_in_words(need, styles, texts) for need, texts in ways.items()))


def _draw(axes: Axes, column: int, row: int, way: str) -> None:
    """Shape, word and colour say the same, so that none of them is needed alone."""
    kind = mark(way)
    look: dict[str, Any] = {"color": MARKS[kind], "markersize": 15, "markeredgewidth": 2.5}
    if kind == "impossible":
        axes.plot([column + 0.08], [row], marker="x", **look)
    else:
        half = "full" if kind == "one line" else "left"
        axes.plot(
            [column + 0.08], [row], marker="o", fillstyle=half, markerfacecoloralt="white", **look
        )
    axes.text(
        column + 0.22,
        row - 0.14,
        kind,
        fontsize=12,
        fontweight="bold",
        va="center",
        color="#1a1a1a",
    )
    axes.text(
        column + 0.22, row + 0.17, _name(way), fontsize=9.5, family=MONO, va="center", color=GREY
    )


def _name(way: str) -> str:
    return way.split(": ", 1)[-1]


def _in_words(need: str, styles: Sequence[str], ways: Sequence[str]) -> str:
    pairs = [
        f"{style}, {mark(way)} ({_name(way)})" for style, way in zip(styles, ways, strict=True)
    ]
    return f"{need}: {'; '.join(pairs)}."
