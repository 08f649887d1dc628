"""Draw the figures of the lessons: python lessons/figures/draw.py

Each figure is one function below. A place is a square with a sharp frame, and what stood in it before is struck out. A
value is a round box, and nothing in it is ever struck out. A name is a tag with an arrow to what it names.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
GREEN, VERMILLION, BLUE, GREY, INK = "#007a5a", "#b84c00", "#0072B2", "#666666", "#1a1a1a"
SANS = "'DejaVu Sans', Verdana, 'Segoe UI', Helvetica, sans-serif"
MONO = "'DejaVu Sans Mono', Menlo, Consolas, monospace"


def text(
    x: float,
    y: float,
    words: str,
    *,
    size: int = 16,
    mono: bool = False,
    color: str = INK,
    anchor: str = "middle",
    bold: bool = False,
) -> str:
    family = MONO if mono else SANS
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" font-family="{family}" font-size="{size}" fill="{color}" text-anchor="{anchor}"{weight}>{escape(words)}</text>'


def box(
    x: float,
    y: float,
    width: float,
    height: float,
    *,
    color: str,
    round_: bool,
    fill: str = "white",
    dashed: bool = False,
) -> str:
    dash = ' stroke-dasharray="7 5"' if dashed else ""
    radius = min(height / 2, 22) if round_ else 0
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}" fill="{fill}" stroke="{color}" stroke-width="3"{dash}/>'


def arrow(
    x1: float,
    y1: float,
    x2: float,
    y2: float,
    *,
    color: str = GREY,
    dashed: bool = False,
    bend: float = 0,
) -> str:
    dash = ' stroke-dasharray="7 5"' if dashed else ""
    path = f"M{x1:g},{y1:g} Q{(x1 + x2) / 2:g},{(y1 + y2) / 2 + bend:g} {x2:g},{y2:g}"
    return f'<path d="{path}" fill="none" stroke="{color}" stroke-width="2.5"{dash} marker-end="url(#{"h" + color[1:]})"/>'


def name(x: float, y: float, word: str) -> str:
    width = 10.2 * len(word) + 18
    tag = f'<rect x="{x - width / 2:g}" y="{y - 19:g}" width="{width:g}" height="27" rx="4" fill="#eef3f7" stroke="{GREY}"/>'
    return tag + text(x, y, word, mono=True)


def place(x: float, y: float, numbers: list[str]) -> str:
    """A place that was written again and again: the earlier numbers are struck out."""
    width, height = 92 + 62 * (len(numbers) - 1), 72
    parts = [box(x, y, width, height, color=VERMILLION, round_=False)]
    for index, number in enumerate(numbers):
        centre, last = x + 46 + 62 * index, index == len(numbers) - 1
        parts.append(
            text(
                centre,
                y + 45,
                number,
                size=26 if last else 22,
                color=INK if last else GREY,
                bold=last,
            )
        )
        if not last:
            parts.append(
                f'<path d="M{centre - 25:g},{y + 50:g} L{centre + 25:g},{y + 24:g}" stroke="{VERMILLION}" stroke-width="3.5"/>'
            )
    return "".join(parts)


def value(x: float, y: float, number: str) -> str:
    return box(x, y, 92, 72, color=GREEN, round_=True) + text(
        x + 46, y + 45, number, size=26, bold=True
    )


def picture(width: int, height: int, title: str, description: str, *parts: str) -> str:
    """A figure on a light card of its own, so that it reads on dark pages too; the title and description are its alternative text."""
    heads = "".join(
        f'<marker id="h{color[1:]}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="6.5" markerHeight="6.5" orient="auto">'
        f'<path d="M0,0 L10,5 L0,10 z" fill="{color}"/></marker>'
        for color in (GREEN, VERMILLION, BLUE, GREY)
    )
    start = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-labelledby="t d">'
    card = f'<rect x="1" y="1" width="{width - 2}" height="{height - 2}" rx="10" fill="#fdfdfd" stroke="#d8d8d8"/>'
    lines = [
        start,
        f'<title id="t">{escape(title)}</title>',
        f'<desc id="d">{escape(description)}</desc>',
        f"<defs>{heads}</defs>",
        card,
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _places(x: float) -> list[str]:
    return [
        text(x + 20, 40, "Places that are changed", size=20, bold=True, anchor="start"),
        name(x + 80, 98, "model"),
        name(x + 210, 98, "optimizer"),
        name(x + 330, 98, "best"),
        arrow(x + 80, 108, x + 150, 157),
        arrow(x + 210, 108, x + 210, 157),
        arrow(x + 330, 108, x + 272, 157),
        place(x + 100, 162, ["1", "1.5", "2"]),
        text(x + 208, 270, "one place, three names: all see each write", size=14),
        text(x + 208, 293, "what stood there before is gone", size=15, color=VERMILLION),
    ]


def _values(x: float) -> list[str]:
    return [
        text(x + 20, 40, "Values that are passed on", size=20, bold=True, anchor="start"),
        name(x + 68, 98, "start"),
        name(x + 213, 98, "best"),
        name(x + 362, 98, "parameters"),
        arrow(x + 68, 108, x + 68, 157),
        arrow(x + 213, 108, x + 213, 157),
        arrow(x + 362, 108, x + 362, 157),
        value(x + 22, 162, "1"),
        value(x + 167, 162, "1.5"),
        value(x + 316, 162, "2"),
        arrow(x + 116, 198, x + 163, 198, color=GREEN),
        arrow(x + 261, 198, x + 312, 198, color=GREEN),
        text(x + 139, 188, "step", size=14, mono=True),
        text(x + 286, 188, "step", size=14, mono=True),
        text(x + 215, 270, "each step makes a new value; no value changes", size=15),
        text(x + 215, 293, "every value stays as long as a name holds it", size=15, color=GREEN),
    ]


PLACES = (
    "Three names, model, optimizer and best, point to one square place. It held 1, then 1.5, both struck out; it holds 2 now. "
    "Every write is seen through all three names, and what stood there before is gone."
)
VALUES = (
    "Three round values in a row, 1, 1.5 and 2, with an arrow named step from each to the next. The names start, best and parameters "
    "point to one value each. No value changes, and each stays as long as a name holds it."
)


def places() -> str:
    return picture(420, 316, "Places that are changed", PLACES, *_places(0))


def values() -> str:
    return picture(440, 316, "Values that are passed on", VALUES, *_values(0))


def two_machines() -> str:
    line = '<path d="M430,24 V292" stroke="#d8d8d8" stroke-width="2"/>'
    return picture(
        880,
        316,
        "Places that are changed, values that are passed on",
        f"Left: {PLACES} Right: {VALUES}",
        *_places(0),
        line,
        *_values(440),
    )


def five_lines() -> str:
    """Lesson 01: which line touches what."""
    lines = [
        "optimizer.zero_grad()",
        "output = model(feature)",
        "loss = criterion(output, label)",
        "loss.backward()",
        "optimizer.step()",
    ]
    parts = [
        text(
            20,
            40,
            "Five lines, and the places that they change",
            size=20,
            bold=True,
            anchor="start",
        )
    ]
    parts += [
        text(24, 96 + 52 * index, line, mono=True, anchor="start")
        for index, line in enumerate(lines)
    ]
    parts += [
        box(520, 62, 150, 110, color=VERMILLION, round_=False),
        text(595, 112, ".grad", size=20, mono=True, bold=True),
        text(595, 140, "one for each weight", size=13, color=GREY),
        box(520, 216, 150, 110, color=VERMILLION, round_=False),
        text(595, 266, "weights", size=20, mono=True, bold=True),
        text(595, 294, "in the model", size=13, color=GREY),
        arrow(250, 91, 516, 91, color=VERMILLION, dashed=True),
        text(390, 83, "removes", size=14, color=VERMILLION),
        arrow(200, 246, 516, 158, color=VERMILLION, dashed=True, bend=30),
        text(430, 216, "adds to", size=14, color=VERMILLION),
        arrow(210, 299, 516, 292, color=VERMILLION, dashed=True),
        text(390, 287, "overwrites", size=14, color=VERMILLION),
        text(
            350,
            360,
            "dashed: the line does not name the owner of what it changes",
            size=14,
            color=GREY,
        ),
    ]
    said = (
        "The five lines of the stock loop and two places. zero_grad removes the gradients, backward adds to them, and step overwrites the weights; "
        "none of the three lines names the owner of what it changes. The forward pass and the loss change no place."
    )
    return picture(700, 384, "Five lines, and the places that they change", said, *parts)


def sharing() -> str:
    """Lesson 02: what a place that several objects hold makes possible."""
    parts = [text(20, 40, "What sharing buys", size=20, bold=True, anchor="start")]
    for y, word in ((70, "encoder"), (190, "decoder")):
        parts += [
            box(40, y, 190, 80, color=VERMILLION, round_=False),
            text(135, y + 34, word, mono=True, bold=True),
            text(135, y + 60, "weights", size=14),
        ]
    parts += [
        name(560, 176, "optimizer"),
        arrow(505, 164, 236, 110, color=VERMILLION, dashed=True),
        arrow(505, 178, 236, 230, color=VERMILLION, dashed=True),
        text(372, 120, "lr = 0.1", size=15),
        text(372, 228, "lr = 0.01", size=15),
        text(
            340,
            310,
            "one optimizer over two networks, two rates: neither network knows of it",
            size=15,
        ),
    ]
    said = "One optimizer points to the weights of two networks, encoder and decoder, each with its own learning rate. Neither network knows of it."
    return picture(680, 336, "What sharing buys", said, *parts)


def closed_box() -> str:
    """Lesson 03: the same five lines in the open and in a box."""
    steps = [
        ("optimizer.zero_grad()", 88),
        ("output = model(feature)", 116),
        ("loss = criterion(output, label)", 144),
        ("loss.backward()", 172),
        ("optimizer.step()", 246),
    ]
    inner = [("weights", 456), ("gradient", 562), ("optimizer", 668)]
    parts = [
        text(20, 40, "Five lines: room between them", size=19, bold=True, anchor="start"),
        *(text(28, y, words, size=15, mono=True, anchor="start") for words, y in steps),
        box(28, 186, 292, 38, color=BLUE, round_=False, dashed=True),
        text(174, 210, "inspect, clip, accumulate", size=15, color=BLUE),
        text(190, 290, "each need is a line of yours", size=15),
        text(440, 40, "The closed box: a few doors", size=19, bold=True, anchor="start"),
        box(440, 66, 342, 160, color=INK, round_=False, fill="#f3f3f3"),
        text(611, 96, "box.step(feature, label)", size=15, mono=True, bold=True),
        *(box(x, 118, 98, 60, color=VERMILLION, round_=False, dashed=True) for _, x in inner),
        *(text(x + 49, 153, word, size=15, color=GREY) for word, x in inner),
        name(484, 231, "loss="),
        name(587, 231, "optimizer="),
        name(716, 231, "parameters"),
        text(611, 290, "what has a door is easy", size=15),
    ]
    said = (
        "Left, the five lines of the stock loop. Between loss.backward() and optimizer.step() there is room for lines of your own: inspect, clip, "
        "accumulate. Right, a closed box named after its one call, box.step(feature, label). Weights, gradient and optimizer are inside, out of sight. "
        "The box has three doors, loss=, optimizer= and parameters; there is none between the lines inside."
    )
    return picture(800, 316, "The closed box", said, *parts)


def where_state_lives() -> str:
    """Lesson 07: more kinds of state than weights."""
    rows = [
        ("running statistics", "buffers of the module", "in parameters, from with_buffers"),
        ("train or eval", "a flag on every submodule", "training=, when you bind"),
        ("randomness", "one global generator", "seed=, when you bind"),
    ]
    parts = [
        text(20, 40, "Where state lives", size=20, bold=True, anchor="start"),
        text(330, 74, "stock: a place", color=VERMILLION, bold=True),
        text(630, 74, "functional: a value", color=GREEN, bold=True),
    ]
    for index, (kind, stock, functional) in enumerate(rows):
        y = 96 + 72 * index
        parts += [
            text(24, y + 32, kind, anchor="start"),
            box(200, y, 260, 52, color=VERMILLION, round_=False),
            text(330, y + 32, stock, size=15),
            box(490, y, 280, 52, color=GREEN, round_=True),
            text(630, y + 32, functional, size=15),
        ]
    said = (
        "Three kinds of state. Running statistics: stock, buffers of the module; functional, in parameters, from with_buffers. Train or eval: stock, a flag "
        "on every submodule; functional, training=, when you bind. Randomness: stock, one global generator; functional, seed=, when you bind."
    )
    return picture(800, 332, "Where state lives", said, *parts)


def hidden_state() -> str:
    """Lesson 08: state that always was a value."""
    parts = [text(20, 40, "Hidden state is handed on", size=20, bold=True, anchor="start")]
    for index in range(4):
        x = 110 + 165 * index
        parts += [
            box(x, 110, 84, 64, color=GREEN, round_=True),
            text(x + 42, 149, "rnn", mono=True),
            text(x + 42, 228, f"digit {index + 1}", size=14),
            arrow(x + 42, 208, x + 42, 180),
            text(x - 41, 164, f"h{index}", mono=True, color=GREEN),
            arrow(x - 76, 142, x - 5, 142, color=GREEN),
        ]
    parts += [
        arrow(694, 142, 760, 142, color=GREEN),
        text(728, 164, "h4", mono=True, color=GREEN),
        f'<path d="M400,86 V152" stroke="{VERMILLION}" stroke-width="3" stroke-dasharray="7 5"/>',
        text(400, 78, "detach: the number goes on, the gradient stops", size=14, color=VERMILLION),
        text(
            400,
            272,
            "a result of one call, an argument of the next: a value in both styles",
            size=15,
        ),
    ]
    said = (
        "Four calls of one recurrent network in a row. Each takes a hidden state, h0 to h3, and hands the next one on. After the second call a dashed line "
        "says detach: the numbers go on, the gradient stops."
    )
    return picture(800, 298, "Hidden state is handed on", said, *parts)


FIGURES = {
    "places": places,
    "values": values,
    "two-machines": two_machines,
    "five-lines": five_lines,
    "sharing": sharing,
    "closed-box": closed_box,
    "where-state-lives": where_state_lives,
    "hidden-state": hidden_state,
}

if __name__ == "__main__":
    for stem, draw in FIGURES.items():
        (HERE / f"{stem}.svg").write_text(draw(), encoding="utf-8")
