"""Every complete lesson keeps every rule; a new lesson needs no new line here.

Who holds the rest: generated student editions = committed (tests/teaching/test_editions.py), exercises and their wrong answers
(test_exercises.py), right answers of questions (test_questions.py). That all cells run, student editions too, and that stored
outputs are what they print, is nbval's part of `make test`; it runs with the network cut (tests/lessons/test_network.py).
"""

from __future__ import annotations

import contextlib
import copy
import io
import re
from pathlib import Path

import pytest
import torch

import fnlib
from course import editions
from fnlib import teaching
from tests.lessons import essay
from tests.lessons.notebooks import Lesson
from tests.lessons.rules import EXEMPT, LESSONS, RULES

PATHS = sorted((LESSONS / "solutions").glob("*.ipynb"))


def load(path: Path) -> Lesson:
    return Lesson(path.stem, editions.read(path), path.parent)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem[:2])
def test_a_lesson_keeps_the_rule(path: Path, rule: str) -> None:
    faults = list(RULES[rule](load(path)))
    assert not faults, "\n".join([path.name, *faults])


def test_there_are_lessons_and_all_are_listed() -> None:
    assert PATHS and {path.name for path in editions.sources()} == {path.name for path in PATHS}


CHECKS = [
    (path, cell.id)
    for path in PATHS
    for cell in load(path).code
    if editions.BEGIN in cell.source and "teaching.check(" in cell.source
]


@pytest.mark.parametrize(
    ("path", "cell"), CHECKS, ids=[f"{path.stem[:2]}-{cell}" for path, cell in CHECKS]
)
def test_a_shipped_stub_is_not_attempted_its_solution_passes(path: Path, cell: str) -> None:
    """The cell alone, after the imports that a lesson begins with; where its blank is no function, from the blank on."""
    complete = next(one for one in load(path).code if one.id == cell).source
    complete = re.sub(r".*^(?=### BEGIN SOLUTION)", "", complete, flags=re.MULTILINE | re.DOTALL)
    for source, outcome in (
        (editions.without_solution(complete), "not attempted"),
        (complete, "passed"),
    ):
        said = io.StringIO()
        names = {
            "torch": torch,
            "nn": torch.nn,
            "copy": copy,
            "fnlib": fnlib,
            "teaching": teaching,
            "criterion": torch.nn.NLLLoss(),
        }
        with contextlib.redirect_stdout(said):
            exec(source, names)  # noqa: S102  # our own lesson
        assert re.match(rf"\S \d\d\w?-[\w-]+: {outcome}\.", said.getvalue()), said.getvalue()


@pytest.mark.parametrize("path", sorted(LESSONS.glob("**/*.md")), ids=lambda path: path.stem)
def test_no_page_has_the_essays_words(path: Path) -> None:
    assert not essay.shared(path.read_text(encoding="utf-8"))


def test_the_essays_runs_are_kept_as_hashes() -> None:
    kept = essay.HASHES.read_text(encoding="utf-8").split()
    assert len(kept) > 1000 and all(re.fullmatch(r"[0-9a-f]{10}", one) for one in kept)


def test_an_exemption_has_a_reason_and_is_needed() -> None:
    lessons = [load(path) for path in PATHS]
    for (number, words), reason in EXEMPT.items():
        assert len(reason.split()) > 3, words
        assert any(lesson.number == number and words in lesson.prose for lesson in lessons), (
            f"nothing in {number} says {words!r}"
        )
