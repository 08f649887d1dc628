"""The museum as tables: the whole for lesson 09, and its counts for the README; and where each exhibit hangs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from course.marked import with_block
from fnlib.teaching.museum import EXHIBITS, ROOMS, Exhibit
from fnlib.teaching.notebook import LESSONS

_IN_A_SENTENCE = {
    "silent": "silent",
    "warns": "with a warning",
    "raises": "with an error",
    "refused": "are refused",
    "does no harm": "do no harm",
    "does other harm": "do other harm",
}
VERDICTS = """\
The column *in `fnlib`* says what becomes of a loop that you translate to `fnlib` line by line:

- *does no harm*: the translation runs, and the harm isn't there.
  (By hand you can still swap tensors, with `parameters.replace`. If that would bring the harm back, the room says so.)
- *does other harm*: the translation runs without this harm and does another one, which the room names.
- *refused*: the translation raises an error of `fnlib`, which says what to write.
- *can still be written*: the translation runs and does this harm, always or under a condition that the room or this lesson names.

`fnlib` doesn't see what stock lines do to a module before it takes the module's weights: `[layer] * 4`, for example,
is one layer here, too. Tests run these translations."""
STANDING = """\
The column *the ledger finds* names a finding from a recording of the loop, if there is one. For the column *seen without a \
recording*, `fnlib.doctor` gets all variables that the loop's function has at its end. It's *yes* if the doctor reports \
something, perhaps another finding, that it doesn't report for the cured loop."""
BEGIN, END = "<!-- museum: python -m course.rooms -->", "<!-- end of museum -->"


def path_of(room: str) -> Path:
    """The notebook of a room.

    Example:
        >>> path_of(ROOMS[0]).name
        'room_01_gradients_that_stay.ipynb'
    """
    name = room.lower().replace("the functional wing: ", "").replace(",", "").replace(" ", "_")
    return LESSONS / "museum" / f"room_{ROOMS.index(room) + 1:02}_{name}.ipynb"


def counts() -> tuple[int, int, int]:
    """Stock exhibits, how many of them are silent in this PyTorch, and functional exhibits."""
    stock = [one for one in EXHIBITS if not one.functional]
    return len(stock), sum(one.today == "silent" for one in stock), len(EXHIBITS) - len(stock)


def markdown(exhibits: tuple[Exhibit, ...] = EXHIBITS, *, folder: str = "museum/") -> str:
    """The table of the museum as Markdown.

    Args:
        exhibits: the rows.
        folder: of the rooms, from where the table stands.

    Returns:
        The table.

    Example:
        >>> print(markdown().splitlines()[0])
        | where | bug | PyTorch today | the ledger finds | seen without a recording | in `fnlib` |
    """
    head = (
        "where",
        "bug",
        "PyTorch today",
        "the ledger finds",
        "seen without a recording",
        "in `fnlib`",
    )
    rows: list[tuple[str, ...]] = []
    for room in ROOMS:
        inside = [one for one in exhibits if one.room == room]
        if inside:
            link = f"[room {ROOMS.index(room) + 1}]({folder}{path_of(room).name})"
            rows.append((link, f"**{room}**", "", "", "", ""))
        rows += [
            (
                "lesson" if one.core else one.place,
                one.title,
                one.today,
                _code(one.finding),
                "yes" if one.standing else "",
                one.fnlib,
            )
            for one in inside
        ]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def in_readme(text: str) -> str:
    """The README's text with its count of exhibits as it should be.

    Raises:
        ValueError: its marks are not there, once each.
    """
    stock, silent, functional = counts()
    says = (
        "The [museum of silent bugs](lessons/09_the_museum_of_silent_bugs.ipynb) has "
        f"{stock} stock loops, each with one bug. PyTorch says nothing about {silent} of them. "
        f"{functional} more loops are in the functional style (`torch.func`), each with one bug."
    )
    return with_block(text, BEGIN, END, says, "README.md")


def in_lesson(text: str) -> str:
    """The text of lesson 09's cell with the whole table, and what it adds up to.

    Raises:
        ValueError: its marks are not there, once each.
    """

    def total(words: Iterable[str]) -> str:
        return ", ".join(
            f"{count} {_IN_A_SENTENCE.get(word, word)}"
            for word, count in Counter(words).most_common()
        )

    totals = []
    for kind, functional in (("stock", False), ("functional", True)):
        these = [one for one in EXHIBITS if one.functional == functional]
        today, then = total(one.today for one in these), total(one.fnlib for one in these)
        totals.append(
            f"- {len(these)} {kind} loops. In PyTorch today: {today}. The same tasks in `fnlib`: {then}."
        )
    made = "\n".join([*totals, "", VERDICTS, "", STANDING, "", markdown(folder="../museum/")])
    return with_block(text, BEGIN, END, made, "Lesson 09")


def _code(text: str) -> str:
    return f"`{text}`" if text else ""
