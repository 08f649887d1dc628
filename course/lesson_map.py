"""The README's table of lessons, written from the lessons themselves."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from course.links import published
from course.marked import with_block
from tools.say import ROOT, Stop, say

BEGIN, END = "<!-- lessons: python tools/kit.py map -->", "<!-- end of lessons -->"


def write() -> int:
    """Writes the table between the README's two marks."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    new = in_step(text)
    readme.write_text(new, encoding="utf-8", newline="\n")
    say(
        "README.md has the lessons as they are."
        if new == text
        else "README.md now has the lessons as they are."
    )
    return 0


def in_step(text: str) -> str:
    """The README's text with the table as it should be."""
    try:
        return with_block(text, BEGIN, END, table(), "README.md")
    except ValueError as problem:
        raise Stop(str(problem)) from problem


def table() -> str:
    repository, tag = published()
    rows = ["| lesson | question | minutes (core) | open |", "|---|---|---|---|"]
    total = core = 0
    for path in sorted((ROOT / "lessons").glob("[0-9][0-9]_*.ipynb")):
        if "_my_copy_" in path.name:  # a learner's own
            continue
        notebook = json.loads(path.read_text(encoding="utf-8"))
        lesson = notebook["metadata"]["lesson"]
        total, core = total + lesson["minutes"], core + lesson["core"]
        binder = (
            f"https://mybinder.org/v2/gh/{repository}/{tag}?urlpath=lab/tree/lessons/{path.name}"
        )
        colab = (
            f"https://colab.research.google.com/github/{repository}/blob/{tag}/lessons/{path.name}"
        )
        rows.append(
            f"| {lesson['number']} | [{question(notebook, path)}](lessons/{path.name}) | {lesson['minutes']} ({lesson['core']}) "
            f"| [Binder]({binder}), [Colab]({colab}) |"
        )
    rows.append(f"| | all of them | {total} ({core}) | |")
    return "\n".join(rows)


def question(notebook: dict[str, Any], path: Path) -> str:
    """The lesson's one H1, without its number."""
    for cell in notebook["cells"]:
        heading = (
            re.search(r"^# (.+)$", "".join(cell["source"]), re.MULTILINE)
            if cell["cell_type"] == "markdown"
            else None
        )
        if heading:
            return re.sub(r"^(Lesson )?\d\d\s*[·:.]?\s*", "", heading.group(1)).strip()
    raise Stop(f"{path.name} has no heading that could stand in the README.")
