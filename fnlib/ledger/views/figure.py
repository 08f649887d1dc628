"""Drawing scenes with matplotlib. Lengths are in points; texts are measured before they are placed.

The background is white, so that a picture reads the same in a light and in a dark notebook and on
paper. Shapes differ as well as colours (Okabe and Ito's), so that it reads in grey.
"""

from __future__ import annotations

import base64
import html
import io
import math
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path
from matplotlib.textpath import text_to_path

from fnlib.ledger.views.captions import caption, in_words
from fnlib.ledger.views.lanes import Key, Lane
from fnlib.ledger.views.scene import Arrow, Mark, Scene, scene

DOTS_PER_INCH = 100  # 1280 dots wide on a projector are 12.8 inches
WIDTH = 1000.0  # points: what two panels may take beside each other
SANS, MONO = "DejaVu Sans", "DejaVu Sans Mono"  # both come with matplotlib
CODE, LABEL, TITLE, WORDS = 8.6, 8.0, 8.5, 9.0  # sizes of text
MARGIN, GUTTER, GAP, BETWEEN, LINE = 11.0, 20.0, 5.0, 22.0, 17.0
LONGEST = 52  # characters of code
WARNING = "#B00000"
_GRAPH = ("#A04C7E", "#7F3A63")
# kind -> marker, its size, its colour, the colour of words (darker), what is drawn inside, legend
SIGNS: dict[str, tuple[str, float, str, str, str, str]] = {
    "created": ("o", 12.5, "#009E73", "#00684C", "", "created"),
    "changed in place": (
        "s", 11.5, "#D55E00", "#A84A00", "", "changed in place: the old value is lost",
    ),
    "replaced": ("D", 10.0, "#0072B2", "#005A8E", "", "replaced, or name rebound"),
    "removed": ("X", 13.0, "#666666", "#4A4A4A", "", "removed"),
    "graph used up": ("o", 9.5, *_GRAPH, "x", "graph used up"),
    "graph kept": ("o", 9.5, *_GRAPH, "o", "graph kept"),
    "graph grows": ("o", 9.5, *_GRAPH, "+", "graph grows"),
    "moved": ("h", 11.0, *_GRAPH, "", "random generator moved"),
}  # fmt: skip
_DASHES: Any = (0, (3.2, 2.0))
_LEGEND = {
    "read": "read",
    "named": "the statement names the owner",
    "not named": "it does not: action at a distance",
    "twin": "changed along: same storage",
    "found": "a bug was found here",
}


class LedgerFigure(Figure):
    """A figure that knows its description: ``alt`` is its alternative text."""

    alt: str = ""

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display({"text/html": self.html, "text/plain": repr(self)}, raw=True)

    @property
    def html(self) -> str:
        """The picture as one HTML element that needs no file beside it."""
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=2 * DOTS_PER_INCH)
        width = round(self.get_size_inches()[0] * DOTS_PER_INCH)
        style = f"width:{width}px;max-width:100%;height:auto"
        source = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
        return f'<img style="{style}" alt="{html.escape(self.alt)}" src="{source}">'

    def savefig(self, fname: Any, **options: Any) -> None:
        """Save with a white background, the description inside, and the same bytes each time."""
        name = str(options.get("format") or getattr(fname, "suffix", "") or fname)
        kind = name.rpartition(".")[2].lower()
        options.setdefault("facecolor", "white")
        if "metadata" not in options and kind in ("svg", "png"):
            no_date = {"Date": None} if kind == "svg" else {"Software": None}
            described = {"Title": "What each statement changes", "Description": self.alt}
            options["metadata"] = {**described, **no_date}
        with matplotlib.rc_context({"svg.hashsalt": "fnlib", "svg.fonttype": "path"}):
            super().savefig(fname, **options)

    def __repr__(self) -> str:
        return f"[Picture: {self.alt}]"


def plot(ledger: Any, *, iteration: int | None = None, title: str = "") -> LedgerFigure:
    """Draw lanes of state against statements.

    A circle is a value created, a square one changed in place, a diamond a place or name that
    holds another value, a cross one removed. A small grey ring is read. Arrows mean change; they
    are dashed where the statement does not name the owner of what it changes. Loops are folded:
    each statement as it ran last.

    Args:
        ledger: a recording, or a part of one (``ledger.iteration(2)``).
        iteration: draw one iteration of the outermost loop alone.
        title: written above the picture.

    Returns:
        A matplotlib figure that a notebook shows with alternative text, which is ``figure.alt``.

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
    return draw([scene(ledger, iteration=iteration)], [title])


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
        A matplotlib figure, as `plot` does. Where two don't fit, the second is below the first.

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
    return draw([scene(a, iteration=iteration), scene(b, iteration=iteration)], list(titles))


def draw(scenes: list[Scene], titles: list[str]) -> LedgerFigure:
    """Draw scenes beside each other if they fit, else below each other."""
    longest = LONGEST if len(scenes) == 1 else LONGEST - 14
    panels = [Panel(one, title, longest) for one, title in zip(scenes, titles, strict=True)]
    gaps = BETWEEN * (len(panels) - 1)
    total = sum(panel.width for panel in panels) + gaps
    beside = total + 2 * MARGIN <= WIDTH
    width = total if beside else max(panel.width for panel in panels)
    legend = _legend(scenes, max(width, 360.0))
    width = max(width, *(sum(map(_sign_width, line)) for line in legend))
    for panel in panels:
        panel.width = panel.width + (width - total) / len(panels) if beside else width
    heights = [panel.height for panel in panels]
    body = max(heights) if beside else sum(heights) + gaps

    wide, high = width + 2 * MARGIN, body + 2 * MARGIN + 8 + LINE * len(legend)
    figure = LedgerFigure(figsize=(wide / 72, high / 72), dpi=DOTS_PER_INCH, facecolor="white")
    said = zip(titles, map(in_words, scenes), strict=True)
    figure.alt = " ".join(
        " ".join(f"{title}. {one}" if title else one for title, one in said).split()
    )
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, wide), ylim=(high, 0))
    axes.axis("off")
    left, top = MARGIN, MARGIN
    level = max(panel.above for panel in panels)
    for panel in panels:
        panel.paint(axes, left, top, level if beside else panel.above)
        left += panel.width + BETWEEN if beside else 0.0
        top += 0.0 if beside else panel.height + BETWEEN
    for number, line in enumerate(legend):
        x = MARGIN
        for kind in line:
            _sign(axes, kind, x, MARGIN + body + 14 + LINE * number)
            x += _sign_width(kind)
    return figure


class Panel:
    """The layout of one scene: where its rows and lanes are, relative to its upper left corner."""

    def __init__(self, drawn: Scene, title: str, longest: int) -> None:
        self.scene, self.title = drawn, title
        self.codes = [_elided("  " * row.indent + row.code, longest) for row in drawn.rows]
        widths = [_width(code, CODE, MONO) for code in self.codes]
        self.code = 1.02 * max(widths, default=80.0)
        if any(row.alerts or row.entry.raised for row in drawn.rows):
            self.code += 14.0
        self.cells: dict[tuple[int, Key], list[Mark]] = {}
        for mark in drawn.marks:
            self.cells.setdefault((mark.row, mark.lane), []).append(mark)
        self.needs = {lane.key: self._needs(lane) for lane in drawn.lanes}
        self.x, end = self._columns()
        self.width = max(end, _width(title, 12) * 1.1, 330.0)
        self.tops = self._heights()
        self.above = (62.0 if title else 42.0) + (13.0 if drawn.which else 0.0)

    @property
    def words(self) -> list[str]:
        """The caption, wrapped to the panel."""
        letters = max(30, int(self.width / (WORDS * 0.545)))
        sentences = caption(self.scene)
        return [line for sentence in sentences for line in textwrap.wrap(sentence, letters)]

    @property
    def height(self) -> float:
        """Height of the panel with its caption."""
        return self.above + self.tops[-1] + 10 + 13.5 * len(self.words)

    def _needs(self, lane: Lane) -> float:
        """Return how wide a lane's words are."""
        cells = [marks for (_, key), marks in self.cells.items() if key == lane.key]
        labels = [label for marks in cells for mark in marks for label in mark.labels]
        labels += ["still there" for _, key in self.scene.still if key == lane.key]
        least = 34.0 if any(len(marks) > 1 for marks in cells) else 20.0
        return max(least, _width(lane.title, TITLE), *(_width(text, LABEL) for text in labels))

    def _columns(self) -> tuple[dict[Key, float], float]:
        """Place the middle of each lane so that no words touch and each head fits over its lanes."""
        x: dict[Key, float] = {}
        edge = GUTTER + self.code + 9
        for n, group in enumerate(self._groups()):
            needs = [self.needs[lane.key] for lane in group]
            lacking = _width(group[0].head, TITLE) - sum(needs) - GAP * (len(group) - 1)
            spare = max(0.0, lacking / 2)
            edge += spare + (GAP if n else 0.0)
            for lane, need in zip(group, needs, strict=True):
                x[lane.key] = edge + need / 2
                edge += need + GAP
            edge += spare
        return x, edge - GAP if x else 0.0

    def _groups(self) -> list[list[Lane]]:
        """Return the lanes of each head together; a lane without one by itself."""
        groups: list[list[Lane]] = []
        for lane in self.scene.lanes:
            if groups and lane.head and groups[-1][0].head == lane.head:
                groups[-1].append(lane)
            else:
                groups.append([lane])
        return groups

    def _heights(self) -> list[float]:
        """Return the upper edge of each row below the heads, and the lower edge of the last."""
        lines: dict[int, int] = {row: 1 for row, _ in self.scene.still}
        for (number, _), marks in self.cells.items():
            lines[number] = max(lines.get(number, 0), sum(len(mark.labels) for mark in marks))
        tops = [0.0]
        for row in self.scene.rows:
            words = lines.get(row.number, 0)
            tops.append(tops[-1] + 29.0 + (9.6 * words - 2.0 if words else 0.0))
        return tops

    # --- painting ------------------------------------------------------------------------------

    def paint(self, axes: Axes, left: float, top: float, above: float) -> None:
        """Draw the panel with its upper left corner there, its rows ``above`` below that."""
        start = top + above
        bottom = start + self.tops[-1]
        at = {key: left + x for key, x in self.x.items()}
        if self.title:
            _text(axes, left, top + 7, self.title, size=12, weight="bold")
        if self.scene.which:
            below = top + (25 if self.title else 7)
            _text(axes, left, below, self.scene.which, color="#555555")
        for row in self.scene.rows[::2]:
            y, end = start + self.tops[row.number], start + self.tops[row.number + 1]
            axes.add_patch(_box(left, y, self.width, end - y, "#f6f6f6", 0.0))
        for lane in self.scene.lanes:
            y = start + 2 if lane.since is None else start + self.tops[lane.since] + 17
            color = "#ececec" if lane.apart else "#dedede"
            axes.add_patch(_box(at[lane.key] - 3, y, 6, bottom - 2 - y, color, 3.0))
            _centred(axes, at[lane.key], start - 9, lane.title, size=TITLE, color="#222222")
        self._heads(axes, start, at)
        middle = [start + self.tops[row.number] + 17 for row in self.scene.rows]
        self._code(axes, left, middle)
        self._changes(axes, middle, at)
        for number, line in enumerate(self.words):
            y, loud = bottom + 15 + 13.5 * number, line.startswith("!")
            if loud:
                _warning(axes, left + 5, y)
            text = line.removeprefix("!").strip()
            _text(axes, left + (14 if loud else 0), y, text, size=WORDS, color="#222222")

    def _heads(self, axes: Axes, start: float, at: dict[Key, float]) -> None:
        for group in self._groups():
            head, ends = group[0].head, (group[0].key, group[-1].key)
            if not head:
                continue
            middle, half = (at[ends[0]] + at[ends[1]]) / 2, _width(head, TITLE) / 2
            low = min(at[ends[0]] - self.needs[ends[0]] / 2, middle - half)
            high = max(at[ends[1]] + self.needs[ends[1]] / 2, middle + half)
            line = {"color": "#888888", "linewidth": 0.9, "solid_capstyle": "butt", "zorder": 2}
            axes.plot([low, high], [start - 20, start - 20], **line)  # type: ignore[arg-type]
            _centred(axes, middle, start - 28, head, size=TITLE, style="italic", color="#222222")

    def _code(self, axes: Axes, left: float, middle: Sequence[float]) -> None:
        x = left + GUTTER
        for row, code, y in zip(self.scene.rows, self.codes, middle, strict=True):
            number = {"size": 7.5, "ha": "right", "color": "#767676", "family": MONO}
            _text(axes, x - 6, y, str(row.line), **number)  # type: ignore[arg-type]
            quiet = row.entry.kind == "header" or not row.entry.changes
            _text(axes, x, y, code, size=CODE, family=MONO, color="#555555" if quiet else "#000000")
            if row.alerts or row.entry.raised:
                _warning(axes, x + 1.02 * _width(code, CODE, MONO) + 10, y)

    def _changes(self, axes: Axes, middle: Sequence[float], at: dict[Key, float]) -> None:
        for one in self.scene.arrows:
            end = at[one.target] + self._shift(self.cells[one.row, one.target], one.kind)
            _arrow(axes, at[one.source], end, middle[one.row], one, self._rank(one))
        for row, lane in self.scene.rings:
            _ring(axes, at[lane], middle[row])
        for (row, lane), marks in self.cells.items():
            y = middle[row] + 14.0
            for mark in marks:
                x = at[lane] + self._shift(marks, mark.kind)
                _glyph(axes, x, middle[row], mark.kind, hollow=mark.twin)
                for label in mark.labels:
                    _centred(axes, at[lane], y, label, color=SIGNS[mark.kind][3], halo=True)
                    y += 9.6
        for row, lane in self.scene.alerts:
            _warning(axes, at[lane] + (13 if (row, lane) in self.cells else 0), middle[row])
        for row, lane in self.scene.still:
            how = {"style": "italic", "color": "#333333", "halo": True}
            _centred(axes, at[lane], middle[row] + 14, "still there", **how)

    def _rank(self, arrow: Arrow) -> int:
        """Rank the arrows of a row by length: the longer passes over the shorter."""
        row = [one for one in self.scene.arrows if one.row == arrow.row]
        return sorted({self._length(one) for one in row}).index(self._length(arrow))

    def _length(self, arrow: Arrow) -> float:
        return abs(self.x[arrow.target] - self.x[arrow.source])

    @staticmethod
    def _shift(marks: Sequence[Mark], kind: str) -> float:
        """Put the marks of one cell beside each other."""
        kinds = [mark.kind for mark in marks]
        return (kinds.index(kind) - (len(kinds) - 1) / 2) * 15.0


# --- signs -----------------------------------------------------------------------------------


def _glyph(axes: Axes, x: float, y: float, kind: str, *, hollow: bool = False) -> None:
    """Draw one mark; hollow for a twin, and for what is not counted."""
    marker, size, color, _, inside, _ = SIGNS[kind]
    hollow = hollow or kind.startswith("graph") or kind == "moved"
    face, edge, line = ("white", color, 1.8) if hollow else (color, "white", 1.0)
    _point(axes, x, y, marker, size, face, edge, line, 5)
    if inside:
        dot = inside == "o"
        _point(axes, x, y, inside, 3.0 if dot else 5.0, color if dot else "none", color, 1.4, 5.5)


def _ring(axes: Axes, x: float, y: float) -> None:
    """Draw the sign of a read."""
    _point(axes, x, y, "o", 6, "white", "#777777", 1.1, 4.5)


def _point(
    axes: Axes, x: float, y: float, marker: str, size: float, face: str, edge: str, line: float,
    order: float,
) -> None:  # fmt: skip
    axes.plot([x], [y], marker=marker, markersize=size, markerfacecolor=face, markeredgecolor=edge,
              markeredgewidth=line, linestyle="none", zorder=order)  # fmt: skip


def _warning(axes: Axes, x: float, y: float) -> None:
    """Draw a triangle with an exclamation mark."""
    corners = [(x, y - 6.5), (x - 6.5, y + 5), (x + 6.5, y + 5)]
    axes.add_patch(Polygon(corners, closed=True, facecolor=WARNING, edgecolor="none", zorder=6))
    ends = [y - 2.8, y + 0.9]
    axes.plot([x, x], ends, color="white", linewidth=1.5, solid_capstyle="round", zorder=7)
    _point(axes, x, y + 3.2, "o", 1.7, "white", "white", 0, 7)


def _arrow(axes: Axes, start: float, end: float, y: float, one: Arrow, rank: int) -> None:
    """Draw a bow from lane to lane that stays within its row; a higher rank passes over a lower."""
    side = 1.0 if end > start else -1.0
    x0, y0, x1, y1 = start + 3.5 * side, y - 3.0, end - 6.5 * side, y - 5.5
    height = min(8.0 + 4.5 * rank, 15.0) + (2.0 if abs(end - start) > 90 else 0.0)
    dx, dy = (x1 - x0) / 2, y1 - (y - 2 * height + 2)
    long = math.hypot(dx, dy) or 1.0
    ux, uy = (side * 0.86, 0.5) if abs(dx) > 40 else (dx / long, dy / long)  # as its end points
    back = (x1 - 7 * ux, y1 - 7 * uy)
    third = (x1 - x0) * 0.22
    points = [(x0, y0), (x0 + third, y - height - 2), (x1 - third, y - height - 2), back]
    color = SIGNS[one.kind][2]
    bow = {"edgecolor": color, "linewidth": 1.7, "linestyle": _DASHES if one.distant else "-"}
    line = Path(points, [1, 4, 4, 4])
    axes.add_patch(PathPatch(line, facecolor="none", capstyle="butt", zorder=3, **bow))
    head = [(x1, y1)] + [(back[0] - s * uy, back[1] + s * ux) for s in (3.2, -3.2)]
    axes.add_patch(Polygon(head, closed=True, facecolor=color, edgecolor="none", zorder=3.2))


def _legend(scenes: Sequence[Scene], width: float) -> list[list[str]]:
    """Return the signs that the scenes use, in lines that fit."""
    marks = [mark for one in scenes for mark in one.marks]
    used = {mark.kind for mark in marks}
    kinds = [kind for kind in SIGNS if kind in used]
    middle = next((n for n, kind in enumerate(kinds) if SIGNS[kind][2] == _GRAPH[0]), len(kinds))
    kinds[middle:middle] = ["read", "named", "not named"]
    kinds += [
        f"twin {kind}" for kind in SIGNS if any(one.twin and one.kind == kind for one in marks)
    ]
    found = any(row.alerts or row.entry.raised for one in scenes for row in one.rows)
    kinds += ["found"] if found else []
    lines: list[list[str]] = [[]]
    for kind in kinds:
        if lines[-1] and sum(map(_sign_width, [*lines[-1], kind])) > width:
            lines.append([])
        lines[-1].append(kind)
    return lines


def _said(kind: str) -> str:
    """Return the words of a sign."""
    return _LEGEND["twin"] if kind.startswith("twin ") else _LEGEND.get(kind) or SIGNS[kind][5]


def _sign_width(kind: str) -> float:
    return 36.0 + (12.0 if "named" in kind else 0.0) + _width(_said(kind), LABEL)


def _sign(axes: Axes, kind: str, x: float, y: float) -> None:
    """Draw one entry of the legend with its left end there."""
    wide = 12.0 if "named" in kind else 0.0
    if wide:
        style = _DASHES if kind == "not named" else "-"
        line = {"color": "#333333", "linewidth": 1.7, "linestyle": style}
        axes.plot([x + 1, x + 25], [y, y], solid_capstyle="butt", dash_capstyle="butt", **line)  # type: ignore[arg-type]
    elif kind == "read":
        _ring(axes, x + 8, y)
    elif kind == "found":
        _warning(axes, x + 8, y)
    else:
        _glyph(axes, x + 8, y, kind.removeprefix("twin "), hollow=kind.startswith("twin "))
    _text(axes, x + 19 + wide, y, _said(kind), color="#222222")


# --- texts -----------------------------------------------------------------------------------


def _elided(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def _width(text: str, size: float, family: str = SANS) -> float:
    """Measure a text in points."""
    font = FontProperties(family=family, size=size)
    measured = text_to_path.get_text_width_height_descent(text, font, False) if text else (0.0,)
    return float(measured[0])


def _box(x: float, y: float, width: float, height: float, color: str, radius: float) -> Any:
    style = f"round,pad=0,rounding_size={radius}" if radius else "square,pad=0"
    order = 1 if radius else 0.5
    return FancyBboxPatch(
        (x, y), width, height, boxstyle=style, facecolor=color, edgecolor="none", zorder=order
    )


def _centred(axes: Axes, x: float, y: float, text: str, **how: Any) -> None:
    _text(axes, x, y, text, ha="center", **how)


def _text(
    axes: Axes, x: float, y: float, text: str, *, size: float = LABEL, family: str = SANS,
    halo: bool = False, **how: Any,
) -> None:  # fmt: skip
    """Write a text with its middle line at ``y``; a dollar sign is a dollar sign."""
    how = {"fontsize": size, "family": family, "va": "center_baseline", "zorder": 6, **how}
    drawn = axes.text(x, y, text, parse_math=False, **how)
    if halo:
        drawn.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85})
