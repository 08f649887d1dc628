"""One look for all pictures of the course.

Colours are those of Okabe and Ito, which colour-blind readers tell apart, and each comes with a line style and a
marker of its own, so that no meaning hangs on colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Ink(NamedTuple):
    """How one series is drawn wherever it appears."""

    color: str
    line: Any
    marker: str


GREEN, VERMILLION, BLUE, ORANGE = "#009E73", "#D55E00", "#0072B2", "#E69F00"
SKY, PURPLE, GREY = "#56B4E9", "#CC79A7", "#666666"

# The four loops of the course always look the same; any other name takes the next of OTHERS.
LOOPS = {
    "stock": Ink(VERMILLION, "-", "s"),
    "encapsulated": Ink(ORANGE, (0, (6, 2)), "D"),
    "fit": Ink(PURPLE, (0, (1, 1.5)), "v"),
    "functional": Ink(GREEN, (0, (3, 3)), "o"),
}
OTHERS = (
    Ink(BLUE, "-", "o"),
    Ink(VERMILLION, (0, (5, 2)), "s"),
    Ink(GREEN, (0, (3, 2, 1, 2)), "^"),
    Ink(PURPLE, (0, (1, 1.5)), "D"),
    Ink(ORANGE, (0, (6, 2, 1, 2, 1, 2)), "v"),
    Ink(SKY, "-", "P"),
)


def use_style() -> None:
    """Give every figure of this session the lessons' look."""
    import matplotlib
    from cycler import cycler

    matplotlib.rcParams.update(
        {
            "figure.figsize": (7.2, 3.6),
            "figure.facecolor": "white",
            "font.size": 12,
            "axes.titlesize": 13,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#e4e4e4",
            "axes.axisbelow": True,
            "lines.linewidth": 2.2,
            "lines.markersize": 7,
            "axes.prop_cycle": cycler(color=[ink.color for ink in OTHERS]),
            "image.cmap": "cividis",
            "legend.frameon": False,
        }
    )


def inks(names: Sequence[str]) -> list[Ink]:
    """One way to draw each name; the loops of the course keep theirs, whatever stands beside them."""
    others = iter(OTHERS * (1 + len(names) // len(OTHERS)))
    return [LOOPS[name] if name in LOOPS else next(others) for name in names]


def canvas(size: tuple[float, float] | None = None) -> tuple[Figure, Axes]:
    """A figure with one pair of axes, in the lessons' style; the size is in inches."""
    figure, axes = grid(size, 1, 1)
    return figure, axes[0]


def grid(
    size: tuple[float, float] | None, rows: int, columns: int, title: str = ""
) -> tuple[Figure, list[Axes]]:
    """A figure with rows x columns pairs of axes, row by row, in the lessons' style."""
    use_style()
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    return figure, list(axes.flat)


def widths(count: int) -> list[float]:
    """Wide first, narrow last: a line that runs exactly upon an earlier one leaves its edges visible."""
    return [2.2 + 1.9 * (count - 1 - index) for index in range(count)]


def short(number: float | Tensor) -> str:
    """A number in three digits, as it is said in an alternative text."""
    return f"{float(number):.3g}"
