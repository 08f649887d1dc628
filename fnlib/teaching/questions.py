"""Predict, then reveal: questions whose wrong options are misconceptions.

A question is one record of its lesson's file (``content/questions/NN.toml``). The questions that only teachers need are
written in the same form and are not installed with the package. A record with ``proof`` carries code that asserts its right
answer, and a test runs it.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from fnlib.teaching import records
from fnlib.teaching.misconceptions import misconception

LETTERS = "ABCD"
IN_A_LESSON = ("predict", "decide", "exit")
KINDS = (*IN_A_LESSON, "prerequisite", "bank")
ANSWERED_BY_BUTTON = ("decide", "exit")  # no cell after them gives the answer away


class Option(NamedTuple):
    """One option of a question.

    Attributes:
        text: what can be chosen; backticks mark code.
        slug: the misconception that makes people choose it; "" for the right option, or where ``why`` says it all.
        why: one sentence on this option: why it is right, or why not.
    """

    text: str
    slug: str = ""
    why: str = ""

    @property
    def reply(self) -> str:
        """Say what is so to somebody who chose this; a reason of its own comes before the general one."""
        return self.why or (misconception(self.slug).fact if self.slug else "")


@dataclass(frozen=True)
class Question:
    """A question with two to four options, one of them right.

    Attributes:
        key: lesson and name, such as "00-best".
        kind: "prerequisite"; "predict", asked before the cell that answers it; "decide", a real situation; "exit", the
            last of a lesson; "bank", for the instructor.
        prompt: the question; backticks mark code.
        options: what can be chosen.
        right: index of the right option.
        code: the code that is asked about, if any.
        proof: statements that assert the right answer, if it can be run. They run after ``code``, or alone if they begin
            with an import.
        read: where to read up, as a Markdown link.
    """

    key: str
    kind: str
    prompt: str
    options: tuple[Option, ...]
    right: int
    code: str = ""
    proof: str = ""
    read: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.key}: kind is one of {KINDS}, not {self.kind!r}.")
        if not 2 <= len(self.options) <= len(LETTERS) or not 0 <= self.right < len(self.options):
            raise ValueError(f"{self.key}: two to four options, and one of them right.")
        silent = [option.text for option in self.options if not option.reply]
        if silent:
            raise ValueError(
                f"{self.key}: these options answer nothing to who chooses them: {silent}."
            )

    @property
    def lesson(self) -> str:
        """Number of the lesson, two digits; "pre" for what is asked before all lessons."""
        return self.key.split("-")[0]

    def reply(self, letter: str) -> str:
        """What is said to somebody who chose ``letter``."""
        index = LETTERS.index(letter)
        verdict = "right" if index == self.right else f"the right option is {LETTERS[self.right]}"
        did = "chose" if self.kind in ANSWERED_BY_BUTTON else "predicted"
        return f"You {did} {letter}: {verdict}. {self.options[index].reply}"


@lru_cache(maxsize=1)
def questions() -> dict[str, Question]:
    """Read the questions that the lessons ask, in the order of the lessons.

    Raises:
        records.ContentError: a file has a mistake; the message says where.
    """
    return records.by("key", read(), "questions")


def read(root: Path | None = None) -> list[Question]:
    """Read the questions in a folder of content, in the order of their files.

    Args:
        root: the folder of all content; the one that is installed with the package if None.

    Raises:
        records.ContentError: a file has a mistake; the message says where.
    """
    return [
        _question(record, file)
        for file in records.files("questions", root)
        for record in records.read(file, "question", root=root)["question"]
    ]


def question(key: str) -> Question:
    """Look a question up.

    Raises:
        KeyError: there is none of that key; the message lists those of its lesson.
    """
    return records.look_up(questions(), key, "question")


def _question(record: records.Record, file: str) -> Question:
    rows = record.inside("option")
    marked = [index for index, row in enumerate(rows) if row.fields.pop("right", False) is True]
    if len(marked) != 1:
        raise record.wrong(
            f"write right = true in one option, the right one; {len(marked)} have it."
        )
    options = tuple(row.make(Option) for row in rows)
    fields = {name: value for name, value in record.fields.items() if name != "option"}
    made = records.Record(record.place, fields).make(Question, options=options, right=marked[0])
    if file != f"questions/{made.lesson}.toml":
        raise record.wrong(
            f"its key begins with {made.lesson}, so it belongs to {made.lesson}.toml."
        )
    return made


_predictions: dict[str, str] = {}  # what was predicted in this session, for reveal()


class Card:
    """A question as it stands in a notebook; plain text where HTML cannot be shown."""

    def __init__(
        self, question: Question, revealed: bool = False, chosen: str | None = None
    ) -> None:
        self.question = question
        self.revealed = revealed
        self.chosen = chosen

    def __repr__(self) -> str:
        question = self.question
        lines = [_plain(question.prompt), *(f"    {line}" for line in question.code.splitlines())]
        for letter, option in zip(LETTERS, question.options, strict=False):
            mark = "→ " if self.revealed and LETTERS[question.right] == letter else "  "
            lines.append(f"{mark}{letter}  {_plain(option.text)}")
            if self.revealed:
                lines.append(f"       {_plain(option.reply)}")
        if self.chosen:
            lines.append(
                _plain(question.reply(self.chosen))
                if self.revealed
                else f"You predict {self.chosen}."
            )
        return "\n".join(lines)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": repr(self)}

    @property
    def html(self) -> str:
        """The card; it takes the colours of the page, light or dark."""
        question = self.question
        rows = []
        for letter, option in zip(LETTERS, question.options, strict=False):
            right = self.revealed and LETTERS[question.right] == letter
            shape = (
                "border:2px solid currentColor;border-radius:4px;font-weight:bold"
                if right
                else "border:2px solid transparent"
            )
            reply = (
                f'<br><span style="opacity:.85">{rich(option.reply)}</span>'
                if self.revealed
                else ""
            )
            tick = "✓ " if right else ""
            rows.append(
                f'<div style="padding:2px 8px;{shape}">{tick}<b>{letter}</b>&ensp;{rich(option.text)}</div>'
            )
            if reply:
                rows.append(f'<div style="padding:0 8px 6px 30px">{reply[4:]}</div>')
        mono = "margin:6px 8px;white-space:pre-wrap;font-family:monospace"
        code = f'<pre style="{mono}">{html.escape(question.code)}</pre>' if question.code else ""
        end = ""
        if self.chosen:
            text = (
                question.reply(self.chosen).split(". ")[0]
                if self.revealed
                else f"You predict {self.chosen}"
            )
            end = f'<div style="padding:6px 8px"><b>{text}.</b></div>'
        frame = "border-left:4px solid #0072B2;padding:6px 10px;margin:4px 0;line-height:1.5"
        head = f'<div style="padding:2px 8px"><b>{rich(question.prompt)}</b></div>'
        return f'<div style="{frame}">{head}{code}{"".join(rows)}{end}</div>'


class Asked(Card):
    """A card with one button a letter below it, where ipywidgets is at hand."""

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self._repr_mimebundle_(), raw=True)
        _buttons(self.question)


def predict(key: str, letter: str | None = None) -> Card:
    """Ask a question before the code is run; nothing waits for an answer.

    Where ipywidgets is at hand, one button a letter stands below the card. Without it, write your letter as the second
    argument. Either way ``reveal(key)`` answers it later.

    Args:
        key: the question, such as "00-best".
        letter: your prediction, "A" to "D".

    Returns:
        The card; the notebook shows it.

    Raises:
        KeyError: there is no such question.
        ValueError: the question has no such letter.

    Example:
        >>> predict("00-best", "A").chosen
        'A'
    """
    asked = question(key)
    letters = LETTERS[: len(asked.options)]
    if letter is not None:
        if str(letter).strip().upper() not in tuple(letters):
            raise ValueError(f"This question has the letters {', '.join(letters)}, not {letter!r}.")
        _predictions[key] = str(letter).strip().upper()
        return Card(asked, chosen=_predictions[key])
    return Asked(asked)


def reveal(key: str) -> Card:
    """Answer a question: the right option, and for each wrong one the belief behind it.

    Args:
        key: the question.

    Returns:
        The card with its answers, and with your prediction if you made one.

    Example:
        >>> reveal("00-best").revealed
        True
    """
    return Card(question(key), revealed=True, chosen=_predictions.get(key))


def _buttons(question: Question) -> None:
    """Show the buttons of a question; without ipywidgets, show nothing."""
    try:
        import ipywidgets as widgets
        from IPython.display import display
    except ImportError:
        return

    class Buttons(widgets.HBox):
        """One button a letter; where widgets cannot be shown, a line of text stands in for them."""

        def __repr__(self) -> str:
            return "[Choose A, B, C or D, in your head or on paper, before you go on.]"

    by_button = question.kind in ANSWERED_BY_BUTTON
    said = widgets.HTML("Your choice?" if by_button else "Your prediction?")
    letters = [
        widgets.Button(description=letter, tooltip=f"Choose {letter}", layout={"width": "64px"})
        for letter in LETTERS[: len(question.options)]
    ]

    def choose(button: widgets.Button) -> None:
        _predictions[question.key] = button.description
        for one in letters:
            one.button_style = "primary" if one is button else ""
            one.icon = "check" if one is button else ""
        said.value = (
            f"You chose <b>{button.description}</b>."
            if by_button
            else f"You predict <b>{button.description}</b>. Run the next cells and see."
        )

    def answer(_: widgets.Button) -> None:
        said.value = reveal(question.key).html

    for button in letters:
        button.on_click(choose)
    show = widgets.Button(description="Show the answer", layout={"width": "160px"})
    show.on_click(answer)
    row = [*letters, show, said] if by_button else [*letters, said]
    display(Buttons(row, layout={"flex_flow": "row wrap"}))


def _plain(text: str) -> str:
    return text.replace("`", "")


def rich(text: str) -> str:
    """Backticks as code, in HTML."""
    parts = html.escape(text, quote=False).split("`")
    return "".join(
        f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts)
    )
