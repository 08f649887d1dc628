"""A hand-out for each lesson, one page to print: what it is about, what you can do afterwards, the recap, the words."""

from __future__ import annotations

import re
from pathlib import Path

from nbformat import NotebookNode

from course import editions, lesson_map
from fnlib.teaching.notebook import LESSONS

_WORD = re.compile(r"\]\((?:\.\./)?glossary\.md#([\w-]+)\)")
WORDS = 8  # more do not fit on the page


def write(folder: Path) -> None:
    """Write a page a lesson, and the list of them.

    Args:
        folder: of the pages; made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        "# Hand-outs",
        "",
        "One page a lesson. Print it from the browser: only the page itself is printed.",
        "",
    ]
    names = []
    for path in editions.sources():
        name = f"handout_{path.stem[:2]}"
        notebook = editions.read(path)
        title = f"{path.stem[:2]} · {lesson_map.question(notebook, path)}"
        (folder / f"{name}.md").write_text(page(title, notebook), encoding="utf-8", newline="\n")
        rows.append(f"- [{title}]({name}.md)")
        names.append(name)
    rows += ["", "```{toctree}", ":hidden:", *names, "```", ""]
    (folder / "handouts.md").write_text("\n".join(rows), encoding="utf-8", newline="\n")


def page(title: str, notebook: NotebookNode) -> str:
    """The hand-out of one lesson.

    Args:
        title: number and question.
        notebook: the complete lesson.

    Raises:
        ValueError: the lesson has no recap, or no table of what the reader can do afterwards.
    """
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    opening = next(
        paragraph
        for paragraph in text.split("\n\n")[1:]
        if paragraph[0] not in "#|[" and " minutes" not in paragraph[:20]
    )
    can = _found(r"^## What you can do afterwards\n\n((?:\|.*\n?)+)", text, title)
    recap = _found(r"^\*\*Recap\.\*\*\s*(.+(?:\n(?!\n).*)*)", text, title)
    rows = [line.split("|")[1:4] for line in can.strip().splitlines()[2:]]
    able = "\n".join(f"- Given {given.strip()}: {do.strip()}." for given, do, _ in rows)
    words = "\n\n".join(_meaning(word) for word in _words(text))
    parts = [
        f"# {title}",
        opening,
        "## Afterwards you can",
        able,
        "## Recap",
        recap,
        "## Words",
        words,
    ]
    return _without_links("\n\n".join(parts)) + "\n"


def _found(pattern: str, text: str, title: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    if match is None:
        raise ValueError(f"{title}: nothing in it looks like {pattern}")
    return match[1]


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(_WORD.findall(text)))[:WORDS]


def _meaning(word: str) -> str:
    """The word, and the first sentence of its entry in the glossary."""
    glossary = (LESSONS / "glossary.md").read_text(encoding="utf-8")
    for entry in glossary.split("\n## ")[1:]:
        head, _, body = entry.partition("\n")
        if re.sub(r"[^\w]+", "-", head.strip().lower()).strip("-") == word:
            return f"**{head.strip()}** " + re.split(r"(?<=[.!?])\s", body.strip(), maxsplit=1)[0]
    raise ValueError(f"the glossary has no {word!r}")


def _without_links(text: str) -> str:
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)
