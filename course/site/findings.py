"""A page for each code of a finding: what it says, on a loop of the museum that shows it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from course import museum_table
from course.site.recordings import FOLDER, anchor
from fnlib import Ledger
from fnlib.ledger.doctor.explain import rule
from fnlib.ledger.doctor.standing import inspect
from fnlib.ledger.entries import Finding
from fnlib.ledger.findings.texts import TEXTS
from fnlib.teaching import museum
from fnlib.teaching.museum import EXHIBITS, Exhibit
from fnlib.teaching.notebook import ROOT

INTRODUCTION = ROOT / "docs" / "findings_intro.txt"


def write(folder: Path, ledgers: Mapping[str, Ledger]) -> None:
    """Write a page a code, and the list of them.

    Args:
        folder: is made.
        ledgers: the recording of each exhibit, by its name.
    """
    folder.mkdir(parents=True)
    rows = [
        "# Findings by code",
        "",
        INTRODUCTION.read_text("utf-8"),
        "",
        "| code | what it says, on an example |",
        "|---|---|",
    ]
    for code in sorted(TEXTS):
        shows = [one for one in EXHIBITS if code in (one.finding, one.standing)]
        found = next((found for one in shows if (found := _found(one, code, ledgers))), None)
        rows.append(f"| [`{code}`]({code}.md) | {found.what if found else rule(code).what} |")
        (folder / f"{code}.md").write_text(_page(code, shows, found), encoding="utf-8")
    rows += ["", "```{toctree}", ":hidden:", *sorted(TEXTS), "```", ""]
    (folder / "index.md").write_text("\n".join(rows), encoding="utf-8")


def _found(one: Exhibit, code: str, ledgers: Mapping[str, Ledger]) -> Finding | None:
    """The finding of that code in a recording of the exhibit's loop, or on its objects afterwards."""
    found = next((found for found in ledgers[one.code].findings if found.code == code), None)
    if found is None and code == one.standing:
        setup, bug = (museum.function_of(one.code, name) for name in ("setup", "bug"))
        things = setup()
        with contextlib.suppress(RuntimeError):
            bug(**things)
        found = next((found for found in inspect(things) if found.code == code), None)
    return found


def _page(code: str, shows: list[Exhibit], found: Finding | None) -> str:
    text = TEXTS[code]
    parts = [f"# {code}", ""]
    if found:
        one = next(one for one in shows if code in (one.finding, one.standing))
        parts += [_room(one), "", _loop(one, "bug"), "", "The ledger reports:", ""]
        parts += [f"> {found.what} {found.why}", "", f"```python\n{found.fix}\n```", ""]
        parts += [anchor("The whole recording", f"../{FOLDER}/{one.code}.html"), ""]
        parts += ["The mended loop:", "", _loop(one, "cure"), ""]
    else:
        one_rule = rule(code)
        parts += [one_rule.what, "", one_rule.why, "", f"```python\n{one_rule.fix}\n```", ""]
    links = dict.fromkeys(
        [*filter(None, [text.link]), *(address for one in shows for address, _ in one.links)]
    )
    if links:
        parts += ["## Pages about it", "", *(f"- <{address}>" for address in links), ""]
    return "\n".join(parts)


def _room(one: Exhibit) -> str:
    path = (
        "09_the_museum_of_silent_bugs.ipynb"
        if one.core
        else f"museum/{museum_table.path_of(one.room).name}"
    )
    title = one.title if one.title.endswith((".", "?", "!")) else f"{one.title}."
    return f"{title} You can run this loop [in the museum](../lessons/{path}).\n"


def _loop(one: Exhibit, name: str) -> str:
    """A function of the exhibit's file as a block of code, with its line numbers."""
    source = museum.source(one.code, name)
    line = one.file.read_text("utf-8").partition(source)[0].count("\n") + 1
    return f"```{{code-block}} python\n:lineno-start: {line}\n\n{source}\n```"
