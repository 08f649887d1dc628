"""Drawing scenes with matplotlib: every length is in points, and every text is measured before it is placed.

The background is opaque and white, so that a picture reads the same in a light and in a dark notebook and on paper;
shapes differ as well as colours, so that it reads in grey.
"""

from __future__ import annotations

import base64
import html
import io
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch
from matplotlib.textpath import text_to_path

from fnlib.ledger.views.captions import caption
from fnlib.ledger.views.glyphs import INK, arrow, glyph, legend_width, legends, ring, warning
from fnlib.ledger.views.lanes import Key, Lane
from fnlib.ledger.views.scene import Arrow, Scene
from fnlib.ledger.views.shown import elided

DOTS_PER_INCH = 100  # 1280 dots wide on a projector are 12.8 inches
WIDTH = 1000.0  # points: what two panels may take beside each other
SANS, MONO = "DejaVu Sans", "DejaVu Sans Mono"  # both come with matplotlib
CODE, LABEL, TITLE, HEAD, WORDS = 8.6, 8.0, 8.5, 8.5, 9.0  # sizes of text
MARGIN, GUTTER, GAP, BETWEEN = 11.0, 20.0, 5.0, 22.0
LONGEST = 52  # characters of code


class LedgerFigure(Figure):
    """A figure that knows its description. ``alt`` is what a reader who cannot see it is told."""

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
        code = base64.b64encode(file.getvalue()).decode()
        return f'<img style="{style}" alt="{html.escape(self.alt)}" src="data:image/png;base64,{code}">'

    def savefig(self, fname: Any, **options: Any) -> None:
        """Save with an opaque background, the description inside, and the same bytes each time."""
        kind = (
            str(
                options.get("format")
                or getattr(fname, "suffix", "")
                or str(fname).rpartition(".")[2]
            )
            .lstrip(".")
            .lower()
        )
        options.setdefault("facecolor", "white")
        if "metadata" not in options and kind in ("svg", "png"):
            described = {"Title": "What each statement changes", "Description": self.alt}
            options["metadata"] = described | (
                {"Date": None} if kind == "svg" else {"Software": None}
            )
        with matplotlib.rc_context(
            {"svg.hashsalt": "fnlib", "svg.fonttype": "path", "path.simplify": True}
        ):
            super().savefig(fname, **options)

    def __repr__(self) -> str:
        return f"[Picture: {self.alt}]"


def width_of(text: str, size: float, family: str = SANS) -> float:
    """Width of a text in points."""
    if not text:
        return 0.0
    return float(
        text_to_path.get_text_width_height_descent(
            text, FontProperties(family=family, size=size), False
        )[0]
    )


def draw(scenes: list[Scene], titles: list[str], alt: str) -> LedgerFigure:
    """Draw one scene, or two beside each other if they fit, else below each other."""
    longest = LONGEST if len(scenes) == 1 else LONGEST - 14
    panels = [Panel(one, title, longest) for one, title in zip(scenes, titles, strict=True)]
    beside = (
        sum(panel.width for panel in panels) + BETWEEN * (len(panels) - 1) + 2 * MARGIN <= WIDTH
    )
    width = (
        sum(panel.width for panel in panels) + BETWEEN * (len(panels) - 1)
        if beside
        else max(panel.width for panel in panels)
    )
    rows = legends(scenes, max(width, 360.0), lambda text: width_of(text, LABEL))
    width = max(width, *(legend_width(row, lambda text: width_of(text, LABEL)) for row in rows))
    if beside and len(panels) > 1:
        spare = (width - sum(panel.width for panel in panels) - BETWEEN * (len(panels) - 1)) / len(
            panels
        )
        for panel in panels:
            panel.width += spare
        body = max(panel.height for panel in panels)
    else:
        for panel in panels:
            panel.width = width
        body = sum(panel.height for panel in panels) + BETWEEN * (len(panels) - 1)
    wide, high = width + 2 * MARGIN, body + 2 * MARGIN + 8 + 17 * len(rows)

    figure = LedgerFigure(figsize=(wide / 72, high / 72), dpi=DOTS_PER_INCH, facecolor="white")
    figure.alt = " ".join(alt.split())
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, wide), ylim=(high, 0))
    axes.axis("off")
    left, top = MARGIN, MARGIN
    level = max(panel.above for panel in panels) if beside else None
    for panel in panels:
        panel.paint(axes, left, top, level)
        if beside:
            left += panel.width + BETWEEN
        else:
            top += panel.height + BETWEEN
    for number, row in enumerate(rows):
        x = MARGIN
        for entry in row:
            entry.paint(
                axes,
                x,
                MARGIN + body + 14 + 17 * number,
                lambda *at, **how: _text(axes, *at, **how),
            )
            x += entry.width(lambda text: width_of(text, LABEL))
    return figure


class Panel:
    """The layout of one scene: where its rows and lanes stand, relative to its upper left corner."""

    def __init__(self, drawn: Scene, title: str, longest: int) -> None:
        self.scene, self.title = drawn, title
        self.codes = [elided("  " * row.indent + row.code, longest) for row in drawn.rows]
        self.codes_width = 1.02 * max(
            [width_of(code, CODE, MONO) for code in self.codes], default=80.0
        )
        if any(row.alerts or row.entry.raised for row in drawn.rows):
            self.codes_width += 14.0
        self.x, end = self._columns()
        self.width = max(end, width_of(title, 12) * 1.1, 330.0)
        self.tops = self._heights()
        self.above = 62.0 if title else 42.0
        if drawn.which:
            self.above += 13.0

    @property
    def words(self) -> list[str]:
        """The caption, wrapped to the panel."""
        letters = max(30, int(self.width / (WORDS * 0.545)))
        return [
            line for sentence in caption(self.scene) for line in textwrap.wrap(sentence, letters)
        ]

    @property
    def below(self) -> float:
        """Height of the caption."""
        return 10 + 13.5 * len(self.words)

    @property
    def height(self) -> float:
        """Height of all."""
        return self.above + self.tops[-1] + self.below

    def _needs(self, lane: Lane) -> float:
        """How wide a lane's words are."""
        texts = [
            label for mark in self.scene.marks if mark.lane == lane.key for label in mark.labels
        ]
        texts += ["still there" for _, key in self.scene.still if key == lane.key]
        doubled = 34.0 if self._crowded(lane.key) else 20.0
        return max(
            [width_of(lane.title, TITLE), doubled, *(width_of(text, LABEL) for text in texts)]
        )

    def _crowded(self, key: Key) -> bool:
        cells = [mark.row for mark in self.scene.marks if mark.lane == key]
        return len(cells) != len(set(cells))

    def _columns(self) -> tuple[dict[Key, float], float]:
        """The middle of each lane, and where the last ends: no two words beside each other touch, and heads fit over their lanes."""
        lanes = self.scene.lanes
        x: dict[Key, float] = {}
        edge = GUTTER + self.codes_width + 9
        for at, lane in enumerate(lanes):
            new_group = at == 0 or lanes[at - 1].head != lane.head or (not lane.head and lane.apart)
            edge += GAP if new_group and at else 0.0
            needs = self._needs(lane)
            if lane.head and new_group:
                group = [other for other in lanes if other.head == lane.head]
                lacking = (
                    width_of(lane.head, HEAD)
                    - sum(map(self._needs, group))
                    - GAP * (len(group) - 1)
                )
                edge += max(0.0, lacking / 2)
            x[lane.key] = edge + needs / 2
            edge += needs + GAP
            last_of_group = at + 1 == len(lanes) or lanes[at + 1].head != lane.head
            if lane.head and last_of_group:
                group = [other for other in lanes if other.head == lane.head]
                lacking = (
                    width_of(lane.head, HEAD)
                    - sum(map(self._needs, group))
                    - GAP * (len(group) - 1)
                )
                edge += max(0.0, lacking / 2)
        return x, edge - GAP if lanes else 0.0

    def _heights(self) -> list[float]:
        """The upper edge of each row below the heads, and the lower edge of the last."""
        tops = [0.0]
        for row in self.scene.rows:
            cells: dict[Key, int] = {}
            for mark in self.scene.marks:
                if mark.row == row.number:
                    cells[mark.lane] = cells.get(mark.lane, 0) + len(mark.labels)
            lines = max(cells.values(), default=0)
            lines = max(lines, int(any(at == row.number for at, _ in self.scene.still)))
            tops.append(tops[-1] + 29.0 + (9.6 * lines - 2.0 if lines else 0.0))
        return tops

    # --- painting ------------------------------------------------------------------------------

    def paint(self, axes: Axes, left: float, top: float, level: float | None) -> None:
        """Draw the panel with its upper left corner there; ``level`` aligns the rows of panels beside each other."""
        start = top + (level or self.above)
        bottom = start + self.tops[-1]
        at = {key: left + x for key, x in self.x.items()}
        if self.title:
            _text(axes, left, top + 7, self.title, size=12, weight="bold")
        if self.scene.which:
            _text(
                axes,
                left,
                top + (25 if self.title else 7),
                self.scene.which,
                size=LABEL,
                color="#555555",
            )
        self._bands(axes, left, start, bottom, at)
        self._heads(axes, start, at)
        middle = [start + self.tops[row.number] + 17 for row in self.scene.rows]
        self._code(axes, left, middle)
        self._changes(axes, middle, at)
        for number, line in enumerate(self.words):
            loud = line.startswith("!")
            start = left + (14 if loud else 0)
            _text(
                axes,
                start,
                bottom + 15 + 13.5 * number,
                line.removeprefix("!").strip(),
                size=WORDS,
                color="#222222",
            )
            if loud:
                warning(axes, left + 5, bottom + 15 + 13.5 * number)

    def _bands(
        self, axes: Axes, left: float, start: float, bottom: float, at: dict[Key, float]
    ) -> None:
        for row in self.scene.rows:
            if row.number % 2 == 0:
                y = start + self.tops[row.number]
                axes.add_patch(
                    _box(
                        left,
                        y,
                        self.width,
                        self.tops[row.number + 1] - self.tops[row.number],
                        "#f6f6f6",
                        0.0,
                    )
                )
        for lane in self.scene.lanes:
            y = start + 2 if lane.since is None else start + self.tops[lane.since] + 17
            axes.add_patch(
                _box(
                    at[lane.key] - 3,
                    y,
                    6,
                    bottom - 2 - y,
                    "#dedede" if not lane.apart else "#ececec",
                    3.0,
                )
            )

    def _heads(self, axes: Axes, start: float, at: dict[Key, float]) -> None:
        lanes = self.scene.lanes
        for lane in lanes:
            _text(
                axes, at[lane.key], start - 9, lane.title, size=TITLE, ha="center", color="#222222"
            )
        for head in dict.fromkeys(lane.head for lane in lanes if lane.head):
            group = [lane for lane in lanes if lane.head == head]
            first, last = at[group[0].key], at[group[-1].key]
            half = width_of(head, HEAD) / 2
            middle = (first + last) / 2
            low = min(first - self._needs(group[0]) / 2, middle - half)
            high = max(last + self._needs(group[-1]) / 2, middle + half)
            axes.plot(
                [low, high],
                [start - 20, start - 20],
                color="#888888",
                linewidth=0.9,
                solid_capstyle="butt",
                zorder=2,
            )
            _text(
                axes,
                middle,
                start - 28,
                head,
                size=HEAD,
                ha="center",
                style="italic",
                color="#222222",
            )

    def _code(self, axes: Axes, left: float, middle: Sequence[float]) -> None:
        for row, code, y in zip(self.scene.rows, self.codes, middle, strict=True):
            _text(
                axes,
                left + GUTTER - 6,
                y,
                str(row.line),
                size=7.5,
                ha="right",
                color="#767676",
                family=MONO,
            )
            quiet = row.entry.kind == "header" or not row.entry.changes
            _text(
                axes,
                left + GUTTER,
                y,
                code,
                size=CODE,
                family=MONO,
                color="#555555" if quiet else "#000000",
            )
            if row.alerts or row.entry.raised:
                warning(axes, left + GUTTER + 1.02 * width_of(code, CODE, MONO) + 10, y)

    def _changes(self, axes: Axes, middle: Sequence[float], at: dict[Key, float]) -> None:
        cells: dict[tuple[int, Key], list[Any]] = {}
        for mark in self.scene.marks:
            cells.setdefault((mark.row, mark.lane), []).append(mark)
        for change in self.scene.arrows:
            x = at[change.target] + self._shift(cells[change.row, change.target], change.kind)
            arrow(
                axes,
                at[change.source],
                x,
                middle[change.row],
                change.kind,
                change.distant,
                self._rank(change),
            )
        for row, lane in self.scene.rings:
            ring(axes, at[lane], middle[row])
        for (row, lane), marks in cells.items():
            down = 14.0
            for mark in marks:
                glyph(
                    axes,
                    at[lane] + self._shift(marks, mark.kind),
                    middle[row],
                    mark.kind,
                    hollow=mark.twin,
                )
                for label in mark.labels:
                    _text(
                        axes,
                        at[lane],
                        middle[row] + down,
                        label,
                        size=LABEL,
                        ha="center",
                        color=INK[mark.kind],
                        halo=True,
                    )
                    down += 9.6
        for row, lane in self.scene.alerts:
            warning(axes, at[lane] + (13 if (row, lane) in cells else 0), middle[row])
        for row, lane in self.scene.still:
            _text(
                axes,
                at[lane],
                middle[row] + 14,
                "still there",
                size=LABEL,
                ha="center",
                style="italic",
                color="#333333",
                halo=True,
            )

    def _rank(self, change: Arrow) -> int:
        """Arrows that leave one place together: the farther passes over the nearer."""
        lengths = [
            abs(self.x[one.target] - self.x[one.source])
            for one in self.scene.arrows
            if one.row == change.row
        ]
        return sorted(set(lengths)).index(abs(self.x[change.target] - self.x[change.source]))

    def _shift(self, marks: Sequence[Any], kind: str) -> float:
        """Marks of one cell stand beside each other."""
        if len(marks) < 2:
            return 0.0
        kinds = [mark.kind for mark in marks]
        return (kinds.index(kind) - (len(kinds) - 1) / 2) * 15.0


def _box(
    x: float, y: float, width: float, height: float, color: str, round_: float
) -> FancyBboxPatch:
    style = f"round,pad=0,rounding_size={round_}" if round_ else "square,pad=0"
    return FancyBboxPatch(
        (x, y),
        width,
        height,
        boxstyle=style,
        facecolor=color,
        edgecolor="none",
        zorder=1 if round_ else 0.5,
    )


def _text(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    *,
    size: float,
    color: str = "#000000",
    family: str = SANS,
    halo: bool = False,
    **how: Any,
) -> None:
    """A text whose middle line is at ``y``; a dollar sign is a dollar sign."""
    drawn = axes.text(
        x,
        y,
        text,
        fontsize=size,
        color=color,
        family=family,
        va="center_baseline",
        parse_math=False,
        zorder=6,
        **how,
    )
    if halo:
        drawn.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85})
