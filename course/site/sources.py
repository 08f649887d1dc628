"""Lay out what Sphinx reads: pages written by hand, pages of the repository, and pages made from tables."""

from __future__ import annotations

import html
import inspect
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from string import Formatter

import nbformat

import fnlib
from course import lesson_map, museum_table
from course.links import published
from course.site import cheat_sheet, findings, handouts, recordings
from course.site.notebooks import Executed, as_page
from fnlib.show.messages import TEXTS
from fnlib.teaching.museum import EXHIBITS
from fnlib.teaching.notebook import LESSONS, ROOT

DOCS = ROOT / "docs"
EXTRA = "extra"  # copied as it is
TEACH = "teach"  # the pages with answers are kept apart from the lessons


def write(folder: Path, notebooks: Iterable[Executed]) -> None:
    """Write the whole source tree anew.

    Args:
        folder: is emptied first.
        notebooks: what becomes pages of lessons and rooms.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DOCS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    _lessons(folder / "lessons", notebooks)
    _teachers(folder / TEACH)
    handouts.write(folder / TEACH)
    for name in ("CHANGELOG.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        _write(folder / name.lower(), _to_the_repository(text))
    _write(folder / "learn.md", (DOCS / "learn.md").read_text("utf-8") + _table_of_lessons())
    _write(
        folder / "museum.md",
        (DOCS / "museum.md").read_text("utf-8") + f"\n{museum_table.VERDICTS}\n\n" + _museum(),
    )
    introduction = (DOCS / "cheat_sheet.md").read_text("utf-8")
    _write(folder / "cheat_sheet.md", cheat_sheet.page(introduction))
    _write(folder / EXTRA / cheat_sheet.PRINTED, cheat_sheet.sheet())
    ledgers = recordings.of_exhibits(folder / EXTRA / recordings.FOLDER)
    findings.write(folder / "findings", ledgers)
    _reference(folder / "reference")


def _lessons(folder: Path, notebooks: Iterable[Executed]) -> None:
    shutil.copytree(
        LESSONS / "figures",
        folder / "figures",
        ignore=shutil.ignore_patterns("*.py", "__pycache__"),
    )
    for name in ("glossary.md", "prerequisites.md", "prerequisites_again.md"):
        _write(folder / name, (LESSONS / name).read_text(encoding="utf-8"))
    for done in notebooks:
        room = done.path.parent.name == "museum"
        made = as_page(done.notebook)
        if room:  # a room is in a folder of the lessons already: its links start where they started
            for cell, old in zip(made.cells, done.notebook.cells, strict=True):
                cell.source = old.source if cell.cell_type == "markdown" else cell.source
        up = "../../" if room else "../"
        kept = folder.parent / EXTRA / recordings.FOLDER / done.path.stem
        for page in done.recordings.values():
            kept.mkdir(parents=True, exist_ok=True)
            shutil.copy(page, kept)
        addresses = {
            name: f"{up}{recordings.FOLDER}/{done.path.stem}/{page.name}"
            for name, page in done.recordings.items()
        }
        recordings.link_ledgers(made, addresses)
        recordings.link_exhibits(made, up)
        target = folder / ("museum" if room else "") / done.path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        for cell in made.cells:
            if cell.cell_type == "markdown":
                cell.source = _within_the_site(cell.source)
        nbformat.write(made, target)


def _teachers(folder: Path) -> None:
    source = LESSONS / "instructor"
    for path in sorted(source.glob("*.md")):
        text = path.read_text(encoding="utf-8").replace("](../", "](../lessons/")
        if path.stem == "guide":
            chapters = sorted(one.stem for one in source.glob("lesson_*.md"))
            pages = [
                "syllabus",
                *chapters,
                "experiment",
                "score_sheet",
                "handouts",
                "question_bank",
            ]
            pages += ["exam", "inventory", "inventory_key"]
            text += "\n".join(["", "```{toctree}", ":hidden:", *pages, "```", ""])
        text = re.sub(r"^( *[-*]) \[ \] ", r"\1 ☐ ", text, flags=re.MULTILINE)  # a list to tick off
        _write(folder / path.name, _within_the_site(text))
    for name in ("cards.html", "question_bank.gift"):
        shutil.copy(source / name, folder / name)


def _within_the_site(text: str) -> str:
    """Links to files that are no pages here lead to the repository."""
    repository, tag = published()
    blob = f"https://github.com/{repository}/blob/{tag}"
    text = re.sub(
        r"\]\((?:\.\./)*(?:lessons/)?solutions/([^)]+)\)", rf"]({blob}/lessons/solutions/\1)", text
    )
    text = re.sub(r"\]\([./\w]*docs/([^)]*)\)", r"](../\1)", text)
    text = re.sub(
        r"\]\([./\w]*(CONTRIBUTING|CHANGELOG)\.md\)", lambda m: f"](../{m[1].lower()}.md)", text
    )
    return re.sub(r"\]\([./\w]*README\.md(?:#[^)]*)?\)", "](../index.md)", text)


def _to_the_repository(text: str) -> str:
    """Relative links of a file at the repository's top lead to the repository."""
    repository, tag = published()
    return re.sub(
        r"\]\((?!https?:|#|mailto:)([^)]+)\)",
        rf"](https://github.com/{repository}/blob/{tag}/\1)",
        text,
    )


def _table_of_lessons() -> str:
    rows = ["", "| lesson | minutes (core) |", "|---|---|"]
    names = []
    for path in sorted(LESSONS.glob("[0-9][0-9]_*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        lesson = notebook.metadata["lesson"]
        title = lesson_map.question(notebook, path)
        rows.append(
            f"| [{lesson['number']} · {title}](lessons/{path.name}) | {lesson['minutes']} ({lesson['core']}) |"
        )
        names.append(f"lessons/{path.stem}")
    pages = ["lessons/prerequisites", *names, "lessons/prerequisites_again", "lessons/glossary"]
    return "\n".join([*rows, "", "```{toctree}", ":hidden:", *pages, "```", ""])


def _museum() -> str:
    """The table of all exhibits, which the script of the page filters, and the list of rooms."""
    head = ("bug", "room", "PyTorch today", "finding", "in fnlib", "recording")
    rows = []
    for one in EXHIBITS:
        page = (
            "lessons/09_the_museum_of_silent_bugs"
            if one.core
            else f"lessons/museum/{museum_table.path_of(one.room).stem}"
        )
        finding = (
            f'<a href="findings/{one.finding}.html"><code>{one.finding}</code></a>'
            if one.finding
            else "none"
        )
        cells = (
            f'<a href="{page}.html">{_code(one.title)}</a>',
            html.escape(one.room),
            one.today,
            finding,
            one.fnlib,
            recordings.anchor("open", f"{recordings.FOLDER}/{one.code}.html"),
        )
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    table = (
        '<table class="table" id="museum"><thead><tr>'
        + "".join(f'<th scope="col">{name}</th>' for name in head)
        + "</tr></thead><tbody>\n"
        + "\n".join(rows)
        + "\n</tbody></table>"
    )
    rooms = "\n".join(
        f"lessons/museum/{path.stem}" for path in sorted((LESSONS / "museum").glob("room_*.ipynb"))
    )
    return f"\n```{{raw}} html\n{table}\n```\n\n```{{toctree}}\n:hidden:\n{rooms}\n```\n"


def _reference(folder: Path) -> None:
    """A page a public name, written from its docstring by Sphinx, and the list of them."""
    folder.mkdir(parents=True)
    groups: dict[str, list[str]] = {
        "The functional loop": [],
        "The ledger and the doctor": [],
        "Modules": [],
        "Errors": [],
    }
    for name in fnlib.__all__:
        value = getattr(fnlib, name)
        module = getattr(value, "__module__", "")
        if inspect.ismodule(value):
            group, directive = "Modules", "automodule"
        elif inspect.isclass(value) and issubclass(value, Exception):
            group, directive = "Errors", "autoexception"
        else:
            group = "The ledger and the doctor" if ".ledger" in module else "The functional loop"
            directive = "autoclass" if inspect.isclass(value) else "autofunction"
        groups[group].append(name)
        options = "" if directive in ("autofunction", "autoexception") else "   :members:\n"
        if name == "Parameters":
            options += "   :special-members: __getitem__\n"
        _write(
            folder / f"{name}.md",
            f"# {name}\n\n```{{eval-rst}}\n.. {directive}:: fnlib.{name}\n{options}```\n{_said(name)}",
        )
    parts = ["# Reference", "", "Every public name of `fnlib`.", ""]
    for group, names in groups.items():
        parts += [f"## {group}", "", "| name | what it does |", "|---|---|"]
        for name in names:
            first = (
                (inspect.getdoc(getattr(fnlib, name)) or "").partition("\n")[0].replace("|", "\\|")
            )
            parts.append(f"| [`{name}`]({name}.md) | {first} |")
        parts.append("")
    parts += [
        "```{toctree}",
        ":hidden:",
        *(name for names in groups.values() for name in names),
        "```",
        "",
    ]
    _write(folder / "index.md", "\n".join(parts))


def _said(name: str) -> str:
    """What an error says, with dots in the places that its arguments fill."""
    parts = list(Formatter().parse(TEXTS.get(name, "")))
    if sum(len(literal.split()) for literal, *_ in parts) < 5:
        return ""  # the whole sentence is an argument
    text = "".join(literal + ("" if field is None else "…") for literal, field, _, _ in parts)
    return f"\nIt says:\n\n```{{code-block}} none\n:class: said\n\n{text}\n```\n"


def _code(title: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(title))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
