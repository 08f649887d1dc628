"""Write the museum of silent bugs as a data set: a record an exhibit, and its loops as files to run.

    python -m course.dataset build/museum

``museum.json`` follows ``museum.schema.json``, both in the folder. docs/dataset.md says how another tool
is run on it.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import shutil
from pathlib import Path
from typing import Any

from course.links import published
from fnlib.teaching import museum
from fnlib.teaching.museum import EXHIBITS, Exhibit
from fnlib.version import __version__
from tools.say import ROOT, say

VERSION = "1.0.0"  # of the form of the records; ids stay, whatever the version
SCHEMA = ROOT / "course" / "dataset.schema.json"
_RUN = """

if __name__ == "__main__":
    {part}(**setup())
"""


def records() -> dict[str, Any]:
    """Return the data set as plain dicts and lists."""
    repository, tag = published()
    return {
        "name": "museum-of-silent-bugs",
        "version": VERSION,
        "fnlib": __version__,
        "source": f"https://github.com/{repository}/tree/{tag}/fnlib/teaching/content/exhibits",
        "licence": {"loops": "MIT", "texts": "CC-BY-4.0"},
        "exhibits": [_record(one) for one in EXHIBITS],
        "correct": [f"correct/{path.name}" for path in _correct()],
    }


def write(folder: Path) -> int:
    """Write the data set into a folder that is empty or not there yet; returns the number of exhibits.

    Args:
        folder: for ``museum.json``, its schema, ``bug/``, ``cure/`` and ``correct/``.

    Raises:
        FileExistsError: the folder has something in it.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; name a new folder")
    for part in ("bug", "cure", "correct"):
        (folder / part).mkdir(parents=True)
    made = records()
    text = json.dumps(made, indent=2, ensure_ascii=False) + "\n"
    (folder / "museum.json").write_text(text, encoding="utf-8")
    shutil.copy(SCHEMA, folder / "museum.schema.json")
    for name, licence in (
        ("LICENSE", ROOT / "LICENSE"),
        ("LICENSE-texts.md", ROOT / "lessons" / "LICENSE.md"),
    ):
        shutil.copy(licence, folder / name)
    for one in EXHIBITS:
        for part in ("bug", "cure"):
            (folder / part / f"{one.code}.py").write_text(_script(one, part), encoding="utf-8")
    for path in _correct():
        shutil.copy(path, folder / "correct" / path.name)
    return len(EXHIBITS)


def _record(one: Exhibit) -> dict[str, Any]:
    measured = None
    if one.harm is not None:
        _, what = museum.harm_of(one.code)
        measured = {"what": what, "bug": one.harm[0], "cure": one.harm[1]}
    return {
        "id": one.code,
        "title": one.title,
        "task": one.task,
        "room": one.room,
        "style": "functional" if one.functional else "stock",
        "pytorch": one.today,
        "harm": measured,
        "finding": one.finding or None,
        "standing": one.standing or None,
        "in_fnlib": {"verdict": one.fnlib, "because": one.because},
        "bug": f"bug/{one.code}.py",
        "cure": f"cure/{one.code}.py",
        "lines": _changed_lines(one),
        "sources": [
            {"address": address, "says": " ".join(says.split())} for address, says in one.links
        ],
    }


def _script(one: Exhibit, part: str) -> str:
    """Return an exhibit's file as a script of one part, without the words that give the bug away."""
    text = one.file.read_text(encoding="utf-8")
    lines, other = text.splitlines(), "cure" if part == "bug" else "bug"
    for node in reversed(ast.parse(text).body):
        name = getattr(node, "name", "")
        says = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if name in (other, "harm", "in_fnlib") or says or isinstance(node, ast.If):
            first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
            del lines[first - 1 : node.end_lineno]
    body = re.sub(r"\n{4,}", "\n\n\n", "\n".join(lines).strip("\n"))
    return f"{body}\n{_RUN.format(part=part)}"


def _changed_lines(one: Exhibit) -> list[int]:
    """Return the lines of the bug's script that its cure changes or drops, for a score by line."""
    script = _script(one, "bug")
    (bug,) = (one for one in ast.parse(script).body if getattr(one, "name", "") == "bug")
    assert bug.end_lineno is not None
    kept = {" ".join(line.split()) for line in museum.source(one.code, "cure").splitlines()[1:]}
    lines = script.splitlines()
    return [
        number
        for number in range(bug.lineno + 1, bug.end_lineno + 1)
        if lines[number - 1].strip() and " ".join(lines[number - 1].split()) not in kept
    ]


def _correct() -> list[Path]:
    return sorted((ROOT / "course" / "exhibits" / "correct").glob("*.py"))


def main() -> int:
    """Write the data set where the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m course.dataset", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folder", type=Path, help="a new folder, such as build/museum")
    folder = parser.parse_args().folder
    say(f"{write(folder)} exhibits are in {folder}; docs/dataset.md says how a tool is run on them")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
