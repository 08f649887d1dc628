"""The parts of the instructor's guide that are made from questions and exercises, so that they say what the lessons say.

A chapter of the guide, ``lessons/instructor/lesson_NN.md``, is written by hand but for the block between two marks: the
questions that are asked in the lesson, the wrong answers to expect, and what each of them shows.
"""

from __future__ import annotations

import re

from course import editions
from course.marked import with_block
from course.questions import questions
from fnlib.teaching.exercises import Exercise, exercises
from fnlib.teaching.misconceptions import misconception
from fnlib.teaching.notebook import LESSONS
from fnlib.teaching.questions import IN_A_LESSON, LETTERS, Question

BEGIN = "<!-- wrong answers: python -m course.bank -->"
END = "<!-- end of wrong answers -->"


def chapter(lesson: str) -> str:
    """The chapter of a lesson as it lies on disk, with the block between its marks made anew.

    Args:
        lesson: its number, such as "01".

    Returns:
        The whole text; a chapter that is not there yet is its block alone.

    Raises:
        ValueError: the chapter lacks the two marks.

    Example:
        >>> "01-after-backward" in chapter("01")
        True
    """
    path = LESSONS / "instructor" / f"lesson_{lesson}.md"
    text = path.read_text(encoding="utf-8") if path.exists() else f"{BEGIN}\n{END}\n"
    return with_block(text, BEGIN, END, f"\n{answers(lesson)}\n", path.name)


def answers(lesson: str) -> str:
    """The questions and exercises of a lesson with the wrong answers that people give, in Markdown.

    Args:
        lesson: its number, such as "01".

    Returns:
        A table a question and a table an exercise; a sentence if the lesson has none.

    Example:
        >>> print(answers("00"))
        Asked in [the notebook](../00_where_did_my_best_model_go.ipynb)...
    """
    asked = [row for row in questions().values() if row.lesson == lesson]
    names = [path.name for path in editions.sources() if path.name.startswith(lesson)]
    parts = [
        f"Asked in [the notebook](../{name}); [complete](../solutions/{name}), with all answers."
        for name in names
    ]
    parts += [_question(row) for row in asked if row.kind in IN_A_LESSON]
    parts += [_exercise(row) for row in exercises().values() if row.key.startswith(f"{lesson}-")]
    bank = [f"`{row.key}`" for row in asked if row.kind == "bank"]
    if bank:
        parts.append(
            f"More for the class, with cards ([question bank](question_bank.md#lesson-{lesson})): {', '.join(bank)}."
        )
    return "\n\n".join(parts) or "This lesson has no questions in the tables."


def _question(row: Question) -> str:
    when = {"predict": "before the code is run", "decide": "a decision", "exit": "exit question"}[
        row.kind
    ]
    lines = [f"### `{row.key}`, {when}", "", row.prompt, ""]
    lines += ["```python", row.code, "```", ""] if row.code else []
    lines += [f"**Right: {LETTERS[row.right]}.** {row.options[row.right].text}", ""]
    lines += ["| card | behind it | you say |", "|---|---|---|"]
    for index, (letter, option) in enumerate(zip(LETTERS, row.options, strict=False)):
        if index == row.right:
            continue
        belief = misconception(option.slug) if option.slug else None
        say = option.reply
        lines.append(
            f"| {letter}: {_cell(option.text)} | {_cell(belief.think) if belief else 'a slip'} | {_cell(say)} |"
        )
    return "\n".join(lines)


def _exercise(row: Exercise) -> str:
    lines = [
        f"### `{row.key}`, exercise",
        "",
        row.objective,
        "",
    ]
    if not row.mistakes:
        return "\n".join([*lines, "Its check names what is wrong with the answer that was given."])
    lines += [
        "Its check recognises these wrong answers, in this order. The code of each is in "
        f"`fnlib/teaching/content/exercises/lesson_{row.key[:2]}.py`, under `examples`.",
        "",
    ]
    lines += ["| behind it | what the learner reads |", "|---|---|"]
    for mistake in row.mistakes:
        belief = misconception(mistake.slug) if mistake.slug else None
        lines.append(
            f"| {_cell(belief.think) if belief else 'a slip'} | {_cell(mistake.message)} |"
        )
    return "\n".join(lines)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")
