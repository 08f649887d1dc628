"""The signs of the picture: a shape and a colour for each kind of change, arrows, and the legend that explains them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Polygon
from matplotlib.path import Path

from fnlib.ledger.views.scene import Scene

Measure = Callable[[str], float]

# Okabe and Ito's colours, and a shape of its own for each: (marker, size in points, colour)
CHANGE = {
    "created": ("o", 12.5, "#009E73"),
    "changed in place": ("s", 11.5, "#D55E00"),
    "replaced": ("D", 10.0, "#0072B2"),
    "removed": ("X", 13.0, "#666666"),
    "graph used up": ("o", 9.5, "#A04C7E"),
    "graph kept": ("o", 9.5, "#A04C7E"),
    "graph grows": ("o", 9.5, "#A04C7E"),
    "moved": ("h", 11.0, "#A04C7E"),
}
# The colour of words: the same, darkened until it reads on white in small print
INK = {
    "created": "#00684C",
    "changed in place": "#A84A00",
    "replaced": "#005A8E",
    "removed": "#4A4A4A",
    "graph used up": "#7F3A63",
    "graph kept": "#7F3A63",
    "graph grows": "#7F3A63",
    "moved": "#7F3A63",
}
WARNING = "#B00000"


def glyph(axes: Axes, x: float, y: float, kind: str, *, hollow: bool = False) -> None:
    """One mark; hollow for a lane that changed along with another, and for what is listed and not counted."""
    marker, size, color = CHANGE[kind]
    hollow = hollow or kind.startswith("graph") or kind == "moved"
    how: dict[str, Any] = {"marker": marker, "markersize": size, "linestyle": "none", "zorder": 5}
    if hollow:
        axes.plot(
            [x], [y], markerfacecolor="white", markeredgecolor=color, markeredgewidth=1.8, **how
        )
    else:
        axes.plot(
            [x], [y], markerfacecolor=color, markeredgecolor="white", markeredgewidth=1.0, **how
        )
    inside = {"graph used up": "x", "graph kept": "o", "graph grows": "+"}.get(kind)
    if inside:
        fill = color if inside == "o" else "none"
        size = 3.0 if inside == "o" else 5.0
        axes.plot(
            [x],
            [y],
            marker=inside,
            markersize=size,
            markerfacecolor=fill,
            markeredgecolor=color,
            markeredgewidth=1.4,
            zorder=5.5,
        )


def ring(axes: Axes, x: float, y: float) -> None:
    """Something is read."""
    axes.plot(
        [x],
        [y],
        marker="o",
        markersize=6,
        markerfacecolor="white",
        markeredgecolor="#777777",
        markeredgewidth=1.1,
        zorder=4.5,
    )


def warning(axes: Axes, x: float, y: float) -> None:
    """A triangle with an exclamation mark: something was found here."""
    axes.add_patch(
        Polygon(
            [(x, y - 6.5), (x - 6.5, y + 5), (x + 6.5, y + 5)],
            closed=True,
            facecolor=WARNING,
            edgecolor="none",
            zorder=6,
        )
    )
    axes.plot(
        [x, x], [y - 2.8, y + 0.9], color="white", linewidth=1.5, solid_capstyle="round", zorder=7
    )
    axes.plot(
        [x], [y + 3.2], marker="o", markersize=1.7, color="white", markeredgewidth=0, zorder=7
    )


def arrow(
    axes: Axes, start: float, end: float, y: float, kind: str, distant: bool, rank: int = 0
) -> None:
    """From one lane to another, in a bow that stays within its row; a higher ``rank`` passes over a lower one."""
    side = 1.0 if end > start else -1.0
    x0, y0, x1, y1 = start + 3.5 * side, y - 3.0, end - 6.5 * side, y - 5.5
    height = min(8.0 + 4.5 * rank, 15.0) + (2.0 if abs(end - start) > 90 else 0.0)
    middle = ((x0 + x1) / 2, y - 2 * height + 2)
    color = CHANGE[kind][2]
    dx, dy = x1 - middle[0], y1 - middle[1]
    long = math.hypot(dx, dy) or 1.0
    if abs(dx) > 40:  # a flat bow: its head points as its last part does
        dx, dy = side * 0.86, 0.5
        long = 1.0
    ux, uy = dx / long, dy / long
    back = (x1 - 7 * ux, y1 - 7 * uy)
    line = Path(
        [
            (x0, y0),
            (x0 + (x1 - x0) * 0.22, y - height - 2),
            (x1 - (x1 - x0) * 0.22, y - height - 2),
            back,
        ],
        [1, 4, 4, 4],
    )
    style: Any = (0, (3.2, 2.0)) if distant else "-"
    axes.add_patch(
        PathPatch(
            line,
            facecolor="none",
            edgecolor=color,
            linewidth=1.7,
            linestyle=style,
            capstyle="butt",
            zorder=3,
        )
    )
    head = [
        (x1, y1),
        (back[0] - 3.2 * uy, back[1] + 3.2 * ux),
        (back[0] + 3.2 * uy, back[1] - 3.2 * ux),
    ]
    axes.add_patch(Polygon(head, closed=True, facecolor=color, edgecolor="none", zorder=3.2))


# --- the legend --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sign:
    """One entry of the legend."""

    kind: str
    words: str

    def width(self, measure: Measure) -> float:
        """How much of a line it takes."""
        return 20.0 + (12.0 if "named" in self.kind else 0.0) + measure(self.words) + 16.0

    def paint(self, axes: Axes, x: float, y: float, write: Callable[..., None]) -> None:
        """Draw it with its left end there."""
        wide = 12.0 if "named" in self.kind else 0.0
        if wide:
            style: Any = (0, (3.2, 2.0)) if self.kind == "not named" else "-"
            axes.plot(
                [x + 1, x + 25],
                [y, y],
                color="#333333",
                linewidth=1.7,
                linestyle=style,
                solid_capstyle="butt",
                dash_capstyle="butt",
            )
        elif self.kind == "read":
            ring(axes, x + 8, y)
        elif self.kind == "found":
            warning(axes, x + 8, y)
        else:
            glyph(
                axes, x + 8, y, self.kind.removesuffix(" twin"), hollow=self.kind.endswith(" twin")
            )
        write(x + 19 + wide, y, self.words, size=8.0, color="#222222")


def legends(scenes: Sequence[Scene], width: float, measure: Measure) -> list[list[Sign]]:
    """The signs that the pictures use, in lines that fit."""
    kinds = {mark.kind for one in scenes for mark in one.marks}
    words = {"created": "created", "changed in place": "changed in place: the old value is lost"}
    words |= {"replaced": "replaced: holds another value", "removed": "removed"}
    rest = {
        "graph used up": "graph used up",
        "graph kept": "graph kept",
        "graph grows": "graph grows",
        "moved": "random generator moved",
    }
    signs = [Sign(kind, said) for kind, said in words.items() if kind in kinds]
    signs += [
        Sign("read", "read"),
        Sign("named", "the statement names the owner"),
        Sign("not named", "it does not: action at a distance"),
    ]
    signs += [Sign(kind, said) for kind, said in rest.items() if kind in kinds]
    if twin := next((mark.kind for one in scenes for mark in one.marks if mark.twin), None):
        signs.append(Sign(f"{twin} twin", "changed along: same storage"))
    if any(row.alerts or row.entry.raised for one in scenes for row in one.rows):
        signs.append(Sign("found", "a bug was found here"))
    lines: list[list[Sign]] = [[]]
    for sign in signs:
        if lines[-1] and legend_width([*lines[-1], sign], measure) > width:
            lines.append([])
        lines[-1].append(sign)
    return lines


def legend_width(line: Sequence[Sign], measure: Measure) -> float:
    """How wide a line of the legend is."""
    return sum(sign.width(measure) for sign in line)
