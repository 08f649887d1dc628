"""The picture of lesson 05: four loops on one trajectory, and below it what each of them keeps of it.

Above, the losses of all loops over the steps; they lie upon one another. Below, one lane a loop, with its steps under those of
the trajectory. A place is a frame with sharp corners, and what stood in it before is struck out. A value is a round box, and
nothing in it is ever struck out. A closed box is grey: what lies behind it is pale, and what nobody could read is a question mark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fnlib.teaching.pictures import Picture, show
from fnlib.teaching.style import GREEN, GREY, LOOPS, VERMILLION, inks, use_style, widths

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#1a1a1a"
SHADE, PALE = "#e3e3e3", "#8a8a8a"
MONO = "DejaVu Sans Mono"
MIDDLE, HALF = 0.5, 0.2  # of a lane: where the boxes stand, and half their height


class Seen(NamedTuple):
    """What was seen of one loop.

    Attributes:
        losses: one a step.
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
    "stock": Lane("one place, two names", "optimizer.step()", ("network", "optimizer"), "", "place"),
    "encapsulated": Lane("one place, shut away", "box.step(feature,\n         label)", ("box",), "step", "box"),
    "fit": Lane("one place, one call", "box.fit(X, y)", ("box",), "fit", "box"),
    "functional": Lane("a value for each step", "parameters =\n  model.step(gradient)", ("start", "parameters"), "step", "values"),
}


def four_loops(seen: Mapping[str, Seen], *, title: str = "Four loops, one trajectory, four pictures of state") -> Picture:
    """Draw the loops "stock", "encapsulated", "fit" and "functional": one trajectory above, one lane of state each below.

    Args:
        seen: loop -> what was seen of it; all loops took the same number of steps.
        title: the finding.

    Returns:
        A ``Picture``; its alternative text says for each loop what the picture shows.

    Raises:
        ValueError: a loop is none of the four, or its numbers are not as many as those of the others.

    Example:
        >>> from fnlib.ledger import Counts
        >>> picture = four_loops({"functional": Seen([1.0, 0.25], [1.0, 1.5, 2.0], Counts(0, 5, 0, 10))})
        >>> picture.alt
        'Above, the losses over 2 steps: 1, 0.25; ... functional: round values 1, 1.5, 2 in a row, none struck out; ...'
    """
    steps = {len(one.losses) for one in seen.values()} | {len(one.weights) - 1 for one in seen.values()}
    if len(steps) != 1 or not seen.keys() <= LANES.keys():
        raise ValueError(f"Wanted: loops of {', '.join(LANES)} with as many steps each; got {', '.join(seen)} with {sorted(steps)} steps.")
    use_style()
    import matplotlib.pyplot as plt

    figure, places = plt.subplots(
        1 + len(seen), 1, figsize=(9.6, 2.3 + 1.45 * len(seen)), sharex=True, height_ratios=[1.55] + [1] * len(seen), layout="constrained"
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold")
    _trajectory(places[0], seen)
    for axes, (name, one) in zip(places[1:], seen.items(), strict=True):
        axes.axis("off")
        axes.set_ylim(0, 1)
        _heading(axes, name)
        draw = {"place": _place, "box": _box, "values": _values}[LANES[name].kind]
        draw(axes, LANES[name], one)
        side = len(one.losses) + 0.62
        axes.text(side, MIDDLE + 0.32, LANES[name].motto, fontsize=11, fontweight="bold", va="center")
        axes.text(side, MIDDLE - 0.1, "\n".join(_counts_in_words(one.counts)), fontsize=10, va="center", linespacing=1.5)
    places[0].set_xlim(-2.3, steps.pop() + 2.35)
    return show(figure, _in_words(seen))


def _trajectory(axes: Axes, seen: Mapping[str, Seen]) -> None:
    """All losses in one pair of axes: wide lines below, narrow ones above, so that each stays visible."""
    for (name, one), ink, width in zip(seen.items(), inks(list(seen)), widths(len(seen)), strict=True):
        axes.plot(one.losses, color=ink.color, linestyle=ink.line, marker=ink.marker, linewidth=width, markersize=4 + width, label=name)
    last = len(next(iter(seen.values())).losses)
    axes.set(xticks=range(last + 1), ylabel="loss")
    axes.tick_params(labelbottom=True)
    axes.spines["left"].set_position(("data", -0.5))
    axes.spines["bottom"].set_bounds(-0.5, last + 0.5)
    axes.grid(visible=False)
    axes.margins(y=0.16)
    axes.text(
        last + 0.62,
        0.55,
        "one trajectory" if _agree(seen) else "not one trajectory",
        transform=axes.get_xaxis_transform(),
        fontsize=11,
        fontweight="bold",
        va="center",
    )
    agree = "every line has the same bits" if _agree(seen) else "the lines differ"
    axes.text(last + 0.62, 0.36, agree, transform=axes.get_xaxis_transform(), fontsize=10, va="center")
    axes.text(last + 0.62, -0.13, "steps taken", transform=axes.get_xaxis_transform(), fontsize=10, va="center")


def _heading(axes: Axes, name: str) -> None:
    ink = LOOPS[name]
    axes.plot([-2.2], [0.62], marker=ink.marker, color=ink.color, markersize=9, clip_on=False)
    axes.text(-2.07, 0.62, name, fontsize=13, fontweight="bold", va="center")
    axes.text(-2.24, 0.3, LANES[name].line, fontsize=8.5, family=MONO, va="center", color=GREY)


def _place(axes: Axes, lane: Lane, one: Seen) -> None:
    """One frame for all steps: whatever name you come by, you find the last number."""
    last = len(one.weights) - 1
    _frame(axes, -0.36, last + 0.36, VERMILLION)
    _numbers(axes, one.weights, INK)
    for name, x in zip(lane.names, (last - 1.1, last), strict=True):
        _name(axes, x, name, to=last)


def _box(axes: Axes, lane: Lane, one: Seen) -> None:
    """The same frame, shut away: a call goes in, and what happens to the place is seen by reaching inside, if at all."""
    from matplotlib.patches import Rectangle

    last = len(one.weights) - 1
    axes.add_patch(Rectangle((-0.5, MIDDLE - 0.3), last + 1, 0.6, facecolor=SHADE, edgecolor=INK, linewidth=2))
    _frame(axes, -0.36, last + 0.36, VERMILLION, dashed=True)
    _numbers(axes, one.weights, PALE)
    _name(axes, last, lane.names[0], to=last)
    calls = range(last) if lane.step == "step" else [0]
    for call in calls:
        axes.annotate("", (call + 0.5, MIDDLE - 0.3), (call + 0.5, 0.0), arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.6})
        axes.text(call + 0.56, 0.07, lane.step, fontsize=9, family=MONO, va="center")


def _values(axes: Axes, lane: Lane, one: Seen) -> None:
    """One round box a step; nothing is struck out, and each stays for as long as a name holds it."""
    from matplotlib.patches import FancyBboxPatch

    last = len(one.weights) - 1
    for step, weight in enumerate(one.weights):
        shape = "round,pad=0,rounding_size=0.16"
        corner = (step - 0.31, MIDDLE - HALF)
        axes.add_patch(FancyBboxPatch(corner, 0.62, 2 * HALF, boxstyle=shape, facecolor="white", edgecolor=GREEN, linewidth=2.4))
        axes.text(step, MIDDLE, _short(weight), ha="center", va="center", fontsize=13, fontweight="bold")
        if step < last:
            axes.annotate("", (step + 0.68, MIDDLE), (step + 0.32, MIDDLE), arrowprops={"arrowstyle": "-|>", "color": GREEN, "lw": 2})
            axes.text(step + 0.5, MIDDLE - 0.17, lane.step, fontsize=9, family=MONO, ha="center", va="center", color=GREEN)
    for name, x in zip(lane.names, (0, last), strict=True):
        _name(axes, x, name, to=x)


def _frame(axes: Axes, left: float, right: float, color: str, *, dashed: bool = False) -> None:
    from matplotlib.patches import Rectangle

    style = (0, (4, 3)) if dashed else "-"
    fill = "none" if dashed else "white"
    axes.add_patch(
        Rectangle((left, MIDDLE - HALF), right - left, 2 * HALF, facecolor=fill, edgecolor=color, linewidth=2.4, linestyle=style)
    )


def _numbers(axes: Axes, weights: Sequence[float | None], color: str) -> None:
    """What stood in a place, struck out but for the last; a question mark where nobody could read it."""
    last = len(weights) - 1
    for step, weight in enumerate(weights):
        final = step == last
        axes.text(
            step,
            MIDDLE,
            _short(weight),
            ha="center",
            va="center",
            fontsize=13,
            fontweight="bold" if final else "normal",
            color=color if final else PALE,
        )
        if not final and weight is not None:
            axes.plot([step - 0.19, step + 0.19], [MIDDLE - 0.13, MIDDLE + 0.13], color=VERMILLION, linewidth=2.2)


def _name(axes: Axes, x: float, name: str, *, to: float) -> None:
    """A tag above a box, with an arrow to what it names."""
    tag = {"boxstyle": "round,pad=0.25", "facecolor": "#eef3f7", "edgecolor": GREY, "linewidth": 0.8}
    arrow = {"arrowstyle": "-|>", "color": GREY, "lw": 1.4, "shrinkA": 0}
    axes.annotate(
        name,
        (to, MIDDLE + HALF + 0.02),
        (x, 0.97),
        fontsize=9,
        family=MONO,
        ha="center",
        va="center",
        bbox=tag,
        arrowprops=arrow,
        annotation_clip=False,
    )


def _counts_in_words(counts: Any) -> list[str]:
    at_a_distance = f"{counts.at_a_distance} of {counts.statements} statement{'s' * (counts.statements != 1)}"
    return [f"{at_a_distance} at a distance", f"{counts.overwritten} values overwritten", f"{counts.rebound} names rebound"]


def _agree(seen: Mapping[str, Seen]) -> bool:
    """Whether all loops saw the same losses, and the same weights wherever they saw any."""
    losses = {tuple(one.losses) for one in seen.values()}
    weights = [{weight for weight in step if weight is not None} for step in zip(*(one.weights for one in seen.values()), strict=True)]
    return len(losses) == 1 and all(len(numbers) <= 1 for numbers in weights)


def _in_words(seen: Mapping[str, Seen]) -> str:
    first = next(iter(seen.values()))
    agree = "the same for all loops" if _agree(seen) else "not the same for all loops"
    words = [
        f"Above, the losses over {len(first.losses)} steps: {', '.join(map(_short, first.losses))}; {agree}. Below, a lane for each loop."
    ]
    for name, one in seen.items():
        numbers = ", ".join(map(_short, one.weights))
        names = " and ".join(LANES[name].names)
        state = {
            "place": f"one square place with {numbers}, all but the last struck out, and the names {names} point to it",
            "box": f"a closed grey box with a place in it, {numbers}, all but the last struck out or unknown",
            "values": f"round values {numbers} in a row, none struck out; the names {names} point to the first and the last",
        }[LANES[name].kind]
        words.append(f"{name}: {state}; {', '.join(_counts_in_words(one.counts))}.")
    return " ".join(words)


def _short(number: float | None) -> str:
    return "?" if number is None else f"{number:g}"
