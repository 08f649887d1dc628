"""The picture of lesson 05: four loops on one trajectory, and below it what each of them keeps of it.

Above, the losses of all loops over the steps; one covers the other. Below, a lane for each loop, with its steps under those of
the trajectory. A place is a frame with sharp corners, and what it held before is struck out. A value is a round box, and
nothing in it is struck out. A closed box is grey: what it held before is pale, and what nobody could read is a question mark.
A key below the lanes repeats this, so that the picture can be taken out of the lesson.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fnlib.teaching.pictures import Picture, show
from fnlib.teaching.style import GREEN, GREY, LOOPS, VERMILLION, use_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "Four loops, one trajectory, four pictures of state"
INK = "#1a1a1a"
SHADE, PALE, GUIDE = "#e6e6e6", "#5c5c5c", "#c9c9c9"
MONO = "DejaVu Sans Mono"
MIDDLE, HALF = 0.5, 0.2  # of a lane: where the boxes stand, and half their height


class Seen(NamedTuple):
    """What was seen of one loop.

    Attributes:
        losses: that of the first weight, and one after each step.
        weights: before the first step and after each; ``None`` where nobody could read it.
        counts: the ledger's three counts, ``ledger.counts``.
    """

    losses: Sequence[float]
    weights: Sequence[float | None]
    counts: Any


class Lane(NamedTuple):
    """How one loop is drawn: its state in words, what is written below its name, its names, what a step is called, what its state is."""

    motto: str
    line: str
    names: tuple[str, ...]
    step: str
    kind: str


LANES = {
    "stock": Lane(
        "one place, two names", "optimizer.step()", ("network", "optimizer"), "", "place"
    ),
    "encapsulated": Lane(
        "one box, new values", "box.step(feature,\n         label)", ("box",), "step", "box"
    ),
    "fit": Lane("one box, one call", "box.fit(X, y)", ("box",), "fit", "box"),
    "functional": Lane(
        "a value for each step",
        "parameters =\n  model.step(gradient)",
        ("start", "parameters"),
        "step",
        "values",
    ),
}


def four_loops(seen: Mapping[str, Seen], *, title: str = TITLE, setting: str = "") -> Picture:
    """Draw the loops "stock", "encapsulated", "fit" and "functional": one trajectory above, one lane of state each below.

    Args:
        seen: loop -> what was seen of it; all loops took the same number of steps.
        title: the finding.
        setting: what was trained, in one line below the title.

    Returns:
        A ``Picture``; its alternative text says for each loop what the picture shows.

    Raises:
        ValueError: a loop is none of the four, or its numbers are not as many as those of the others.

    Example:
        >>> from fnlib.ledger import Counts
        >>> picture = four_loops({"functional": Seen([1.0, 0.25, 0.0], [1.0, 1.5, 2.0], Counts(0, 5, 0, 10))})
        >>> picture.alt
        'Above, the losses over 2 steps: 1, 0.25, 0; ... functional: round values 1, 1.5, 2 in a row, none struck out; ...'
    """
    moments = {len(one.losses) for one in seen.values()} | {
        len(one.weights) for one in seen.values()
    }
    if len(moments) != 1 or not seen.keys() <= LANES.keys():
        raise ValueError(
            f"Wanted: loops of {', '.join(LANES)}, each with as many losses as weights; got {', '.join(seen)} with {sorted(moments)}."
        )
    last = moments.pop() - 1
    use_style()
    import matplotlib.pyplot as plt

    figure, places = plt.subplots(
        2 + len(seen),
        1,
        figsize=(10.4, 2.75 + 1.5 * len(seen)),
        sharex=True,
        height_ratios=[1.55] + [1] * len(seen) + [0.3],
        layout="constrained",
    )
    figure.suptitle(title, x=0.004, ha="left", fontsize=16, fontweight="bold")
    places[0].set_title(setting, loc="left", fontsize=11.5, fontweight="normal", color=PALE, pad=10)
    _trajectory(places[0], seen)
    _guides(list(places[:-1]), last)
    _key(places[-1])
    for axes, (name, one) in zip(places[1:-1], seen.items(), strict=True):
        axes.axis("off")
        axes.set_ylim(0, 1)
        _heading(axes, name)
        draw = {"place": _place, "box": _box, "values": _values}[LANES[name].kind]
        draw(axes, LANES[name], one)
        side = last + 0.62
        axes.text(
            side, MIDDLE + 0.34, LANES[name].motto, fontsize=13, fontweight="bold", va="center"
        )
        axes.text(
            side,
            MIDDLE - 0.12,
            "\n".join(_counts_in_words(one.counts)),
            fontsize=11.5,
            va="center",
            linespacing=1.45,
        )
    places[0].set_xlim(-2.3, last + 2.75)
    return show(figure, _in_words(seen))


def _trajectory(axes: Axes, seen: Mapping[str, Seen]) -> None:
    """All losses in one pair of axes: wide bands below, narrow ones above, each with a white rim, so that all stay visible, in grey too."""
    for index, (name, one) in enumerate(seen.items()):
        width, ink, above = 2.6 + 4.2 * (len(seen) - 1 - index), LOOPS[name], 10 + index
        axes.plot(one.losses, color="white", linewidth=width + 1.8, solid_capstyle="round")
        axes.plot(one.losses, color=ink.color, linewidth=width, solid_capstyle="round", label=name)
        axes.plot(
            one.losses,
            color=ink.color,
            linestyle="",
            marker=ink.marker,
            markersize=7 + width,
            mec="white",
            mew=0.9,
            zorder=above,
        )
    last = len(next(iter(seen.values())).losses) - 1
    axes.set(xticks=range(last + 1), ylabel="loss")
    axes.tick_params(labelbottom=True)
    axes.spines["left"].set_position(("data", -0.5))
    axes.spines["bottom"].set_bounds(-0.5, last + 0.5)
    axes.grid(visible=False)
    axes.margins(y=0.2)
    agree = _agree(seen)
    words: dict[float, tuple[str, dict[str, Any]]] = {
        0.62: (
            "one trajectory" if agree else "not one trajectory",
            {"fontsize": 13, "fontweight": "bold"},
        ),
        0.42: ("every loop has the same bits" if agree else "the loops differ", {"fontsize": 11.5}),
        -0.1: ("steps taken", {"fontsize": 11.5}),
    }
    for y, (text, font) in words.items():
        axes.text(last + 0.62, y, text, transform=axes.get_xaxis_transform(), va="center", **font)


def _guides(places: list[Axes], last: int) -> None:
    """A thin line a step, from the loss down through all lanes: what is below each other is of one moment."""
    from matplotlib.patches import ConnectionPatch

    for step in range(last + 1):
        ends: dict[str, Any] = {
            "coordsA": places[0].get_xaxis_transform(),
            "coordsB": places[-1].get_xaxis_transform(),
        }
        line = ConnectionPatch(
            (step, -0.22),
            (step, 0.1),
            **ends,
            color=GUIDE,
            linewidth=1.1,
            linestyle=(0, (1, 2.5)),
            zorder=-5,
        )
        line.set_in_layout(False)
        places[0].figure.add_artist(line)


def _key(axes: Axes) -> None:
    """What the shapes mean, in one row below the lanes."""
    from matplotlib.patches import FancyBboxPatch, Rectangle

    axes.axis("off")
    axes.set_ylim(0, 1)
    axes.axhline(1.0, color=GUIDE, linewidth=1)
    low, high = 0.12, 0.62
    axes.add_patch(
        Rectangle(
            (-2.24, low), 0.34, high - low, facecolor="white", edgecolor=VERMILLION, linewidth=2
        )
    )
    axes.add_patch(
        Rectangle((0.32, low), 0.34, high - low, facecolor=SHADE, edgecolor=INK, linewidth=1.8)
    )
    round_box = "round,pad=0,rounding_size=0.12"
    axes.add_patch(
        FancyBboxPatch(
            (4.54, low),
            0.34,
            high - low,
            boxstyle=round_box,
            facecolor="white",
            edgecolor=GREEN,
            linewidth=2,
        )
    )
    axes.text(2.64, 0.37, "?", fontsize=14, color=PALE, ha="center", va="center")
    axes.plot([-2.2, -1.94], [low + 0.1, high - 0.1], color=VERMILLION, linewidth=1.8)
    for x, words in ((-1.8, "a place: the old number is lost"), (0.76, "a box: pale = replaced"),
                     (2.78, "never seen from outside"), (4.98, "a value: never overwritten")):  # fmt: skip
        axes.text(x, 0.37, words, fontsize=10, va="center", color=INK)


def _heading(axes: Axes, name: str) -> None:
    ink = LOOPS[name]
    axes.plot([-2.2], [0.66], marker=ink.marker, color=ink.color, markersize=11, clip_on=False)
    axes.text(-2.05, 0.66, name, fontsize=14.5, fontweight="bold", va="center")
    axes.text(-2.26, 0.29, LANES[name].line, fontsize=10, family=MONO, va="center", color=INK)


def _place(axes: Axes, lane: Lane, one: Seen) -> None:
    """One frame for all steps: whatever name you come by, you find the last number."""
    last = len(one.weights) - 1
    _frame(axes, -0.36, last + 0.36, VERMILLION)
    _numbers(axes, one.weights, INK)
    for name, x in zip(lane.names, (last - 1.25, last), strict=True):
        _name(axes, x, name, to=last)


def _box(axes: Axes, lane: Lane, one: Seen) -> None:
    """A closed box: a call goes in, and each step gives it another value. The old ones are pale."""
    from matplotlib.patches import Rectangle

    last = len(one.weights) - 1
    axes.add_patch(
        Rectangle((-0.5, MIDDLE - 0.3), last + 1, 0.6, facecolor=SHADE, edgecolor=INK, linewidth=2)
    )
    _numbers(axes, one.weights, INK, struck=False)
    _name(axes, last, lane.names[0], to=last)
    calls = range(last) if lane.step == "step" else [0]
    for call in calls:
        axes.annotate(
            "",
            (call + 0.5, MIDDLE - 0.3),
            (call + 0.5, -0.02),
            arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.6},
        )
        axes.text(call + 0.57, 0.06, lane.step, fontsize=10.5, family=MONO, va="center")


def _values(axes: Axes, lane: Lane, one: Seen) -> None:
    """One round box a step; nothing is struck out, and each stays for as long as a name holds it."""
    from matplotlib.patches import FancyBboxPatch

    last = len(one.weights) - 1
    for step, weight in enumerate(one.weights):
        shape = "round,pad=0,rounding_size=0.16"
        corner = (step - 0.31, MIDDLE - HALF)
        axes.add_patch(
            FancyBboxPatch(
                corner,
                0.62,
                2 * HALF,
                boxstyle=shape,
                facecolor="white",
                edgecolor=GREEN,
                linewidth=2.4,
            )
        )
        axes.text(
            step, MIDDLE, _short(weight), ha="center", va="center", fontsize=15, fontweight="bold"
        )
        if step < last:
            axes.annotate(
                "",
                (step + 0.68, MIDDLE),
                (step + 0.32, MIDDLE),
                arrowprops={"arrowstyle": "-|>", "color": GREEN, "lw": 2},
            )
            axes.text(
                step + 0.5,
                MIDDLE - 0.27,
                lane.step,
                fontsize=10.5,
                family=MONO,
                ha="center",
                va="center",
                color=INK,
            )
    for name, x in zip(lane.names, (0, last), strict=True):
        _name(axes, x, name, to=x)


def _frame(axes: Axes, left: float, right: float, color: str, *, dashed: bool = False) -> None:
    from matplotlib.patches import Rectangle

    style = (0, (4, 3)) if dashed else "-"
    fill = "none" if dashed else "white"
    axes.add_patch(
        Rectangle(
            (left, MIDDLE - HALF),
            right - left,
            2 * HALF,
            facecolor=fill,
            edgecolor=color,
            linewidth=2.4,
            linestyle=style,
        )
    )


def _numbers(
    axes: Axes, weights: Sequence[float | None], color: str, *, struck: bool = True
) -> None:
    """Write what was held: the last number strong, those before it pale, and in a place struck out."""
    last = len(weights) - 1
    for step, weight in enumerate(weights):
        final = step == last
        axes.text(
            step,
            MIDDLE,
            _short(weight),
            ha="center",
            va="center",
            fontsize=15,
            fontweight="bold" if final else "normal",
            color=color if final else PALE,
        )
        if struck and not final and weight is not None:
            axes.plot(
                [step - 0.24, step + 0.24],
                [MIDDLE - 0.12, MIDDLE + 0.12],
                color=VERMILLION,
                linewidth=1.8,
            )


def _name(axes: Axes, x: float, name: str, *, to: float) -> None:
    """A tag above a box, with an arrow to what it names."""
    tag = {
        "boxstyle": "round,pad=0.25",
        "facecolor": "#eef3f7",
        "edgecolor": GREY,
        "linewidth": 0.8,
    }
    arrow = {"arrowstyle": "-|>", "color": GREY, "lw": 1.4, "shrinkA": 0}
    axes.annotate(
        name,
        (to, MIDDLE + HALF + 0.02),
        (x, 0.97),
        fontsize=10.5,
        family=MONO,
        ha="center",
        va="center",
        bbox=tag,
        arrowprops=arrow,
        annotation_clip=False,
    )


def _counts_in_words(counts: Any) -> list[str]:
    at_a_distance = (
        f"{counts.at_a_distance} of {counts.statements} statement{'s' * (counts.statements != 1)}"
    )
    return [
        f"{at_a_distance} at a distance",
        f"{counts.overwritten} values overwritten",
        f"{counts.rebound} names rebound",
    ]


def _agree(seen: Mapping[str, Seen]) -> bool:
    """Whether all loops saw the same losses, and the same weights wherever they saw any."""
    losses = {tuple(one.losses) for one in seen.values()}
    weights = [
        {weight for weight in step if weight is not None}
        for step in zip(*(one.weights for one in seen.values()), strict=True)
    ]
    return len(losses) == 1 and all(len(numbers) <= 1 for numbers in weights)


def _in_words(seen: Mapping[str, Seen]) -> str:
    first = next(iter(seen.values()))
    agree = "the same for all loops" if _agree(seen) else "not the same for all loops"
    losses = ", ".join(map(_short, first.losses))
    words = [
        f"Above, the losses over {len(first.losses) - 1} steps: {losses}; {agree}. Below, a lane for each loop."
    ]
    for name, one in seen.items():
        numbers = ", ".join(map(_short, one.weights))
        names = " and ".join(LANES[name].names)
        state = {
            "place": f"one square place with {numbers}, all but the last struck out, and the names {names} point to it",
            "box": f"a closed grey box that held {numbers}, all but the last pale or unknown",
            "values": f"round values {numbers} in a row, none struck out; the names {names} point to the first and the last",
        }[LANES[name].kind]
        words.append(f"{name}: {state}; {', '.join(_counts_in_words(one.counts))}.")
    return " ".join(words)


def _short(number: float | None) -> str:
    return "?" if number is None else f"{number:g}"
