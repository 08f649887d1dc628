"""Write the questions in the forms that people use.

    python -m course.bank            write all of them
    python -m course.bank --check    change nothing; fail if one is stale

Markdown for the instructor, GIFT for learning platforms (Moodle and what reads its files), a page of A to D cards to
print, the wrong answers to expect in each chapter of the instructor's guide, and the eight prerequisite questions, before
the course and renumbered after lesson 05.
"""

from __future__ import annotations

import argparse
import html
import sys
from collections.abc import Callable
from functools import partial
from itertools import groupby

from course import guide
from course.editions import numbers, sources
from course.questions import questions
from fnlib.teaching.misconceptions import TABLE
from fnlib.teaching.notebook import LESSONS
from fnlib.teaching.questions import LETTERS, Question, rich
from fnlib.teaching.style import BLUE, GREEN, PURPLE, VERMILLION

_MADE = "Made from `fnlib/teaching/content/questions/` and `course/questions/` by `python -m course.bank`: change those, not this file."


def markdown() -> str:
    """The question bank: each question with its answer, and the belief behind each wrong option."""
    asked = [row for row in questions().values() if row.kind != "prerequisite"]
    lines = ["# Question bank", "", f"<!-- {_MADE} -->", ""]
    lines += [
        f"{len(asked)} questions. In each, one option is right (**bold**); behind the wrong ones stands the belief that makes",
        "people choose them, by its name in [misconceptions](#misconceptions). Show a question, count to ten, and let everybody",
        "hold up a [card](cards.html) at once.",
        "",
    ]
    for lesson, rows in groupby(asked, key=lambda row: row.lesson):
        lines += [f"## Lesson {lesson}", ""]
        for row in rows:
            lines += _in_markdown(row, f"### {row.key}")
    lines += [
        "## Misconceptions",
        "",
        "| name | the belief | what is so | lesson |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {belief.slug} | {belief.think} | {belief.fact} | {belief.lesson} |"
        for belief in TABLE.values()
    ]
    return "\n".join(lines) + "\n"


def prerequisites() -> str:
    """The eight questions before lesson 00."""
    first = next(
        (f"[lesson 00]({path.name})" for path in sources() if path.name.startswith("00")),
        "lesson 00",
    )
    head = [
        "# Eight questions before you start",
        "",
        f"<!-- {_MADE} -->",
        "",
        "They're about names, aliases, `+=` and `=`, and what a graph is. Write down your eight letters, then open the answers.",
        f"With six right answers, go on to {first}. With fewer, read the linked pages first. That takes about half an hour.",
        "",
    ]
    return _quiz(head, _prerequisites())


def prerequisites_again() -> str:
    """The same eight in another order, after lesson 05."""
    rows = _prerequisites()
    order = [5, 2, 7, 0, 3, 6, 1, 4]
    head = [
        "# The same eight questions, after lesson 05",
        "",
        f"<!-- {_MADE} -->",
        "",
        "The order is another one, the options are the same. Answer them, then compare with the letters that you wrote down",
        "[before lesson 00](prerequisites.md).",
        "",
    ]
    return _quiz(head, [rows[index] for index in order])


def gift() -> str:
    """The questions in GIFT: one block a question, with an answer to each option."""
    blocks = [f"// {_MADE}"]
    for lesson, rows in groupby(questions().values(), key=lambda row: row.lesson):
        title = "Before the course" if lesson == "pre" else f"Lesson {lesson}"
        blocks.append(f"$CATEGORY: Stateful and functional training/{title}")
        for row in rows:
            stem = f"<p>{rich(row.prompt)}</p>" + (
                f"<pre>{html.escape(row.code)}</pre>" if row.code else ""
            )
            lines = [f"::{_gift(row.key)}::[html]{_gift(stem)}{{"]
            for index, option in enumerate(row.options):
                mark = "=" if index == row.right else "~"
                lines.append(f"\t{mark}{_gift(rich(option.text))}#{_gift(rich(option.reply))}")
            blocks.append("\n".join([*lines, "}"]))
    return "\n\n".join(blocks) + "\n"


def cards() -> str:
    """Four cards to print, fold and hold up: letter, colour and shape say the same."""
    shapes = {
        "A": (GREEN, '<circle cx="50" cy="50" r="42"/>'),
        "B": (VERMILLION, '<rect x="10" y="10" width="80" height="80"/>'),
        "C": (BLUE, '<path d="M50,6 L95,88 L5,88 z"/>'),
        "D": (PURPLE, '<path d="M50,3 L97,50 L50,97 L3,50 z"/>'),
    }
    faces = "".join(
        f'<section><svg viewBox="0 0 100 100" role="img" aria-label="card {letter}" fill="{color}">{shape}</svg><b>{letter}</b></section>'
        for letter, (color, shape) in shapes.items()
    )
    style = (
        "body{margin:0;font-family:sans-serif}"
        "section{box-sizing:border-box;width:100%;height:48vh;border:1px dashed #888;"
        "display:flex;align-items:center;justify-content:space-evenly}"
        "b{font-size:34vh;line-height:1}svg{height:34vh}"
        "p{margin:12px}@media print{p{display:none}section{height:50vh;break-inside:avoid}}"
    )
    note = "<p>Print on A4 or letter paper, two cards a page, one set for each learner; cut along the dashed lines.</p>"
    head = f'<meta charset="utf-8"><title>Cards A to D</title><style>{style}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n<!-- {_MADE} -->\n{note}{faces}\n</body></html>\n'


FILES: dict[str, Callable[[], str]] = {
    "prerequisites.md": prerequisites,
    "prerequisites_again.md": prerequisites_again,
    "instructor/question_bank.md": markdown,
    "instructor/question_bank.gift": gift,
    "instructor/cards.html": cards,
    **{f"instructor/lesson_{number}.md": partial(guide.chapter, number) for number in numbers()},
}


def stale() -> list[str]:
    """Files that differ from what the questions make; empty if all are in step."""
    return [
        name
        for name, make in FILES.items()
        if not (LESSONS / name).exists() or (LESSONS / name).read_text(encoding="utf-8") != make()
    ]


def write() -> None:
    """Write all the files."""
    for name, make in FILES.items():
        (LESSONS / name).parent.mkdir(parents=True, exist_ok=True)
        (LESSONS / name).write_text(make(), encoding="utf-8", newline="\n")


def _prerequisites() -> list[Question]:
    return [row for row in questions().values() if row.kind == "prerequisite"]


def _quiz(head: list[str], rows: list[Question]) -> str:
    lines = list(head)
    for number, row in enumerate(rows, 1):
        lines += [f"## {number}. {row.prompt}", ""]
        lines += ["```python", row.code, "```", ""] if row.code else []
        lines += [
            f"- **{letter}** {option.text}"
            for letter, option in zip(LETTERS, row.options, strict=False)
        ]
        lines += [
            "",
            "<details><summary>Answer</summary>",
            "",
            f"**{LETTERS[row.right]}.** {row.options[row.right].reply}",
            "",
        ]
        others = [
            (letter, option)
            for letter, option in zip(LETTERS, row.options, strict=False)
            if option is not row.options[row.right]
        ]
        lines += [f"- {letter}: {option.reply}" for letter, option in others]
        lines += ["", f"Read up: {row.read}", "", "</details>", ""]
    return "\n".join(lines).rstrip() + "\n"


def _in_markdown(row: Question, heading: str) -> list[str]:
    when = {
        "predict": "asked in the lesson, before the code is run",
        "decide": "decision of the lesson",
        "exit": "exit question of the lesson",
        "bank": "for the class",
    }[row.kind]
    lines = [heading, "", f"*{when}*", "", row.prompt, ""]
    lines += ["```python", row.code, "```", ""] if row.code else []
    for index, (letter, option) in enumerate(zip(LETTERS, row.options, strict=False)):
        text = f"**{option.text}**" if index == row.right else option.text
        belief = f" ({option.slug})" if option.slug else ""
        why = f"<br>*{option.why}*" if option.why else ""
        lines.append(f"- {letter}: {text}{belief}{why}")
    return [*lines, ""]


def _gift(text: str) -> str:
    """Escape what GIFT reads as its own; a question must not hold an empty line."""
    for sign in "\\~=#{}:":
        text = text.replace(sign, "\\" + sign)
    return text.replace("\n", "<br>")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 if all files are in step."""
    parser = argparse.ArgumentParser(
        prog="python -m course.bank", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail if a file is stale"
    )
    if parser.parse_args(arguments).check:
        old = stale()
        print(
            "\n".join(f"{name} is stale: run python -m course.bank" for name in old)
            or f"{len(questions())} questions, all files in step."
        )
        return 1 if old else 0
    write()
    print("\n".join(f"lessons/{name}" for name in FILES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
