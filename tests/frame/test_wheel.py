"""What `pip install fnlib` brings: the package and what a lesson needs, nothing that only a teacher needs."""

from __future__ import annotations

import json
import re
import tomllib
from email import message_from_string
from pathlib import Path
from zipfile import ZipFile

import pytest
from flit_core.wheel import make_wheel_in

from fnlib.teaching.questions import IN_A_LESSON
from tools.say import ROOT

CONTENT = "fnlib/teaching/content/"
# The folders and files of content that the code of a lesson, a room or an exercise reads.
FOR_LESSONS = [
    r"__init__\.py",
    r"exercises/\w+\.py",
    r"exhibits/(bugs|functional_bugs|scanner)/\w+\.py",
    r"exhibits/in_fnlib\.py",
    r"lessons/\d\d_\w+\.ipynb",
    r"misconceptions\.toml",
    r"museum\.toml",
    r"pictures/\w+\.py",
    r"questions/\d\d\.toml",
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The wheel as `python -m build` makes it: name -> text of each file."""
    made = make_wheel_in(ROOT / "pyproject.toml", tmp_path_factory.mktemp("wheel"))
    with ZipFile(made.file) as packed:
        return {name: packed.read(name).decode() for name in packed.namelist()}


def for_teachers(files: dict[str, str], asked: set[str]) -> list[str]:
    """List the content that no lesson needs, and the notebooks that have solutions."""
    found = []
    for name, text in files.items():
        if not name.startswith(CONTENT):
            continue
        if not any(re.fullmatch(one, name.removeprefix(CONTENT)) for one in FOR_LESSONS):
            found.append(name)
        elif "/questions/" in name:
            rows = tomllib.loads(text)["question"]
            found += [row["key"] for row in rows if row["kind"] not in IN_A_LESSON]
            found += [row["key"] for row in rows if row["key"] not in asked]
        elif name.endswith(".ipynb") and "BEGIN SOLUTION" in text:
            found.append(name)
    return found


def asked_in_lessons() -> set[str]:
    """Keys of the questions that the students' notebooks ask."""
    found: set[str] = set()
    for path in (ROOT / "lessons").glob("[0-9][0-9]_*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            found |= set(
                re.findall(r"""teaching\.predict\(["']([\w-]+)""", "".join(cell["source"]))
            )
    return found


def test_the_wheel_has_nothing_that_only_teachers_need(wheel: dict[str, str]) -> None:
    strangers = [name for name in wheel if not re.match(r"fnlib(/|-[\d.]+\.dist-info/)", name)]
    assert not strangers and not for_teachers(wheel, asked_in_lessons())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("exam.md", ""),
        ("inventory_key.md", ""),
        ("solutions/01_five_lines_three_owners.ipynb", ""),
        ("lessons/01_five_lines_three_owners.ipynb", "### BEGIN SOLUTION"),
        ("questions/pre.toml", ""),
        ("questions/00.toml", '[[question]]\nkey = "00-best"\nkind = "bank"'),
        ("questions/00.toml", '[[question]]\nkey = "00-unasked"\nkind = "exit"'),
        ("exhibits/correct/gan.py", ""),
        ("cheat_sheet.toml", ""),
    ],
)
def test_what_only_teachers_need_is_noticed(wheel: dict[str, str], name: str, text: str) -> None:
    assert len(for_teachers(wheel | {CONTENT + name: text}, asked_in_lessons())) == 1


def test_the_wheel_has_all_that_a_lesson_needs(wheel: dict[str, str]) -> None:
    """Every question that is asked, every student's notebook, every file that the package reads beside its code."""
    rows = "\n".join(text for name, text in wheel.items() if "/questions/" in name)
    assert asked_in_lessons() and all(f'key = "{key}"' in rows for key in asked_in_lessons())
    shipped = {Path(name).name for name in wheel if name.endswith(".ipynb")}
    assert shipped == {path.name for path in (ROOT / "lessons").glob("[0-9][0-9]_*.ipynb")}
    beside = {
        "fnlib/py.typed",
        *(f"fnlib/ledger/views/page.{one}" for one in ("css", "html", "js")),
    }
    assert beside <= wheel.keys()


def test_the_wheel_says_what_it_is(wheel: dict[str, str]) -> None:
    (told,) = (
        message_from_string(text) for name, text in wheel.items() if name.endswith("/METADATA")
    )
    assert told["Name"] == "fnlib" and "Typing :: Typed" in told.get_all("Classifier", [])
    assert {"lessons", "jax", "site"} <= set(told.get_all("Provides-Extra", []))
    assert any(
        "fnlib=" in text for name, text in wheel.items() if name.endswith("entry_points.txt")
    )
