"""The lessons' pictures: curves, curves that grow, trajectories over contours; digits and states from ``grids``.

Every function returns a ``Picture`` whose alternative text is made from the numbers drawn; pass ``alt=`` to say it
better. For a picture of your own: ``figure, axes = plots.canvas()``, draw, ``teaching.show(figure, alt="...")``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fnlib.teaching.grids import digits, states
from fnlib.teaching.pictures import Picture, show
from fnlib.teaching.style import (
    BLUE,
    GREEN,
    GREY,
    LOOPS,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    canvas,
    grid,
    inks,
    short,
    use_style,
    widths,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["BLUE", "GREEN", "GREY", "LOOPS", "ORANGE", "PURPLE", "SKY", "VERMILLION"]
__all__ += ["Live", "canvas", "curves", "digits", "grid", "inks", "states", "use_style", "valley"]


def curves(
    series: Mapping[str, Sequence[float] | Tensor],
    *,
    xlabel: str = "step",
    ylabel: str = "loss",
    title: str = "",
    x: Sequence[float] | None = None,
    alt: str | None = None,
) -> Picture:
    """Lines over steps or epochs; equal lines stay visible, the later one dashed upon the earlier one.

    Args:
        series: name -> one number a step. "stock", "encapsulated", "fit" and "functional" have their own look.
        xlabel: what is counted.
        ylabel: what is measured, with its unit.
        title: the finding, in a few words.
        x: where the numbers stand; 1, 2, 3, ... if not given.
        alt: the content in words; made from first, last, lowest and highest number if not given.

    Returns:
        A ``Picture``.

    Example:
        >>> curves({"stock": [2.3, 1.1, 0.4], "functional": [2.3, 1.1, 0.4]})
        [Picture: loss over step. stock: from 2.3 to 0.4. functional: the same numbers as stock.]
    """
    numbers = {name: _numbers(values) for name, values in series.items()}
    figure, axes = canvas()
    _draw_curves(axes, numbers, x)
    if x is None:
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _label(axes, xlabel, ylabel, title)
    return show(figure, alt or _curves_in_words(numbers, xlabel, ylabel))


class Live:
    """Curves that grow while a network trains.

    ``live = Live("accuracy")``, then ``live.add({"stock": 0.71})`` in the loop, and ``live.close()`` as the last
    line of the cell: it shows the finished picture, which is all that a printed page needs.

    Args:
        ylabel: what is measured.
        xlabel: what is counted.
        title: the finding.
        every: seconds between two drawings; a drawing takes about a twentieth of a second.

    Example:
        >>> live = Live("loss", every=60)
        >>> for loss in (2.0, 1.0):
        ...     live.add({"stock": loss})
        >>> live.picture()
        [Picture: loss over epoch. stock: from 2 to 1.]
    """

    def __init__(
        self, ylabel: str, *, xlabel: str = "epoch", title: str = "", every: float = 0.3
    ) -> None:
        self.series: dict[str, list[float]] = {}
        self._xlabel, self._ylabel, self._title = xlabel, ylabel, title
        self._every = every
        self._drawn_at = time.monotonic()
        self._handle: Any = None

    def add(self, numbers: Mapping[str, float | Tensor]) -> None:
        """Append one number to each named series, and draw if the last drawing is long enough ago."""
        for name, number in numbers.items():
            self.series.setdefault(name, []).append(float(number))
        if time.monotonic() - self._drawn_at >= self._every:
            self._draw()
            self._drawn_at = time.monotonic()

    def picture(self) -> Picture:
        """The curves so far."""
        return curves(self.series, xlabel=self._xlabel, ylabel=self._ylabel, title=self._title)

    def close(self) -> None:
        """Draw the last state."""
        if self.series:
            self._draw()

    def _draw(self) -> None:
        from IPython.core.getipython import get_ipython
        from IPython.display import display

        if get_ipython() is None:  # a plain script: nothing to draw on
            return
        if self._handle is None:
            self._handle = display(self.picture(), display_id=True)
        else:
            self._handle.update(self.picture())


def valley(
    function: Callable[[Tensor, Tensor], Tensor],
    paths: Mapping[str, Sequence[Sequence[float]] | Tensor],
    *,
    x: tuple[float, float] = (-2.0, 2.0),
    y: tuple[float, float] = (-2.0, 2.0),
    xlabel: str = "first weight",
    ylabel: str = "second weight",
    title: str = "",
    alt: str | None = None,
) -> Picture:
    """Trajectories over the contours of a function of two weights.

    Args:
        function: (first, second) -> height, elementwise on tensors of one shape.
        paths: name -> points (steps, 2), in order. A hollow ring marks the start, a star the end.
        x: left and right edge.
        y: lower and upper edge.
        xlabel: name of the first weight.
        ylabel: name of the second weight.
        title: the finding.
        alt: the content in words; made from the two ends of each path if not given.

    Returns:
        A ``Picture``.

    Example:
        >>> valley(lambda a, b: a**2 + b**2, {"stock": [(1.0, 1.0), (0.5, 0.5)]})
        [Picture: Contours of a function of two weights. stock: 1 steps from (1, 1) to (0.5, 0.5), height 2 to 0.5.]
    """
    points = {
        name: torch.as_tensor(path, dtype=torch.float32).detach() for name, path in paths.items()
    }
    figure, axes = canvas((6.4, 4.6))
    first, second = torch.meshgrid(torch.linspace(*x, 160), torch.linspace(*y, 160), indexing="xy")
    height = function(first, second).detach()
    levels = torch.quantile(height.flatten(), torch.linspace(0.0, 1.0, 16)).unique().tolist()
    axes.contourf(first, second, height, levels, cmap="Greys", alpha=0.45)
    axes.contour(first, second, height, levels, colors="#999999", linewidths=0.6)
    for (name, path), ink, width in zip(
        points.items(), inks(list(points)), widths(len(points)), strict=True
    ):
        axes.plot(
            *path.T,
            color=ink.color,
            linestyle=ink.line,
            marker=ink.marker,
            markersize=4,
            linewidth=width,
            label=name,
        )
        axes.plot(
            *path[0],
            marker="o",
            markersize=12,
            markerfacecolor="none",
            color=ink.color,
            markeredgewidth=2,
        )
        axes.plot(*path[-1], marker="*", markersize=15, color=ink.color, markeredgecolor="white")
    axes.set(xlim=x, ylim=y)
    axes.grid(False)
    _label(axes, xlabel, ylabel, title)
    words = ["Contours of a function of two weights."]
    for name, path in points.items():
        start, end = path[0], path[-1]
        heights = f"height {short(function(*start))} to {short(function(*end))}"
        words.append(
            f"{name}: {len(path) - 1} steps from {_point(start)} to {_point(end)}, {heights}."
        )
    return show(figure, alt or " ".join(words))


def _draw_curves(axes: Axes, series: Mapping[str, list[float]], x: Sequence[float] | None) -> None:
    from matplotlib.ticker import MaxNLocator

    for (name, values), ink, width in zip(
        series.items(), inks(list(series)), widths(len(series)), strict=True
    ):
        place = list(x) if x is not None else list(range(1, len(values) + 1))
        every = max(1, len(values) // 12)
        axes.plot(
            place,
            values,
            color=ink.color,
            linestyle=ink.line,
            marker=ink.marker,
            markevery=every,
            linewidth=width,
            label=name,
        )
        if all(float(where).is_integer() for where in place):
            axes.xaxis.set_major_locator(
                MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True)
            )  # no half steps


def _label(axes: Axes, xlabel: str, ylabel: str, title: str) -> None:
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if axes.get_legend_handles_labels()[1]:
        axes.legend()


def _numbers(values: Sequence[float] | Tensor) -> list[float]:
    return [float(value) for value in values]


def _point(point: Tensor) -> str:
    return f"({', '.join(short(part) for part in point)})"


def _curves_in_words(series: Mapping[str, list[float]], xlabel: str, ylabel: str) -> str:
    words = [f"{ylabel} over {xlabel}."]
    seen: dict[tuple[float, ...], str] = {}
    for name, values in series.items():
        twin = seen.setdefault(tuple(values), name)
        if twin != name:
            words.append(f"{name}: the same numbers as {twin}.")
            continue
        text = (
            f"{name}: from {short(values[0])} to {short(values[-1])}"
            if values
            else f"{name}: nothing yet"
        )
        inside = values[1:-1]
        if inside and max(inside) > max(values[0], values[-1]):
            text += f", highest {short(max(inside))}"
        if inside and min(inside) < min(values[0], values[-1]):
            text += f", lowest {short(min(inside))}"
        words.append(text + ".")
    return " ".join(words)
