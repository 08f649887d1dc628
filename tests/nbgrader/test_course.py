"""The complete lessons as an nbgrader course: what students get, and what nbgrader gives them for it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from course import editions
from course import nbgrader as nbgrader_course
from tools.say import ROOT

LESSONS = editions.sources()
pytestmark = pytest.mark.skipif(not LESSONS, reason="there is no lesson yet")


def python(course: Path, *arguments: str) -> str:
    """Run nbgrader in a process of its own: its libraries warn, and here warnings are errors."""
    private = str(course / "private")
    path = (
        f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it calls alembic by name
    )
    environment = dict(
        os.environ,
        PATH=path,
        PYTHONPATH=str(ROOT),
        OMP_NUM_THREADS="1",
        PYDEVD_DISABLE_FILE_VALIDATION="1",
        JUPYTER_PLATFORM_DIRS="1",
        JUPYTER_CONFIG_DIR=private,
        IPYTHONDIR=private,
    )
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=course,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


# `nbgrader generate_assignment NAME` for each name in one process: a process takes longer to start than to make one.
GENERATE = """
import sys
from nbgrader.apps.nbgraderapp import NbGraderApp

for name in sys.argv[1:]:
    app = NbGraderApp()
    app.initialize(["generate_assignment", name])
    app.subapp.start()
    app.subapp.clear_instance()
"""


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The course, with every assignment generated."""
    folder = tmp_path_factory.mktemp("course")
    assert len(nbgrader_course.write(folder)) == len(LESSONS)
    python(folder, "-c", GENERATE, *(f"lesson_{source.name[:2]}" for source in LESSONS))
    return folder


def released(course: Path, lesson: Path) -> nbformat.NotebookNode:
    return nbformat.read(
        course / "release" / f"lesson_{lesson.name[:2]}" / lesson.name, as_version=4
    )


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.name[:2])
def test_students_get_the_stubs_and_no_solution(course: Path, lesson: Path) -> None:
    """The same stubs as in our own student edition, then nbgrader's empty place; the solution nowhere."""
    mine, theirs = editions.student(editions.read(lesson)), released(course, lesson)
    assert "SOLUTION" not in json.dumps(theirs)
    asserting = {cell.id for cell in theirs.cells if cell.metadata.get("nbgrader", {}).get("grade")}
    kept = [cell for cell in theirs.cells if cell.id not in asserting]
    code = [
        (a.source, b.source) for a, b in zip(mine.cells, kept, strict=True) if a.cell_type == "code"
    ]
    assert code and all(meaning(a) == meaning(b) for a, b in code)


def meaning(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def graded_lessons() -> list[Path]:
    """The first lesson with an exercise, and of the others the one with the most: all of them would take a quarter of an hour."""
    number = {
        path: sum(
            len(nbgrader_course.checks(cell.source))
            for cell in editions.read(path).cells
            if cell.cell_type == "code"
        )
        for path in LESSONS
    }
    first, *others = (path for path in number if number[path])
    return [first, max(others, key=number.__getitem__)]


@pytest.mark.parametrize("lesson", graded_lessons(), ids=lambda path: path.name[:2])
def test_untouched_right_and_wrong_submissions_get_their_marks(course: Path, lesson: Path) -> None:
    assignment = f"lesson_{lesson.name[:2]}"
    calls = [
        call
        for cell in editions.read(lesson).cells
        if cell.cell_type == "code"
        for call in nbgrader_course.checks(cell.source)
    ]
    submissions = {
        "untouched": released(course, lesson),
        "right": filled_in(course, lesson),
        "wrong": filled_in(course, lesson),
    }
    wrong = calls[-1]
    spoil(submissions["wrong"], wrong)
    for who, notebook in submissions.items():
        place = course / "submitted" / who / assignment
        place.mkdir(parents=True)
        nbformat.write(notebook, place / lesson.name)
    python(course, "-m", "nbgrader", "autograde", assignment)
    python(course, "-m", "nbgrader", "export", "--to", "grades.csv")
    with open(course / "grades.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["assignment"] == assignment]
    marks = {row["student_id"]: (float(row["score"]), float(row["max_score"])) for row in rows}
    shutil.rmtree(course / "submitted")
    assert marks == {
        "untouched": (0, len(calls)),
        "right": (len(calls), len(calls)),
        "wrong": (len(calls) - 1, len(calls)),
    }


def filled_in(course: Path, lesson: Path) -> nbformat.NotebookNode:
    """What a student hands in who writes every solution."""
    right = {cell.id: cell.source for cell in editions.read(lesson).cells}
    notebook = released(course, lesson)
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = right[cell.id]
    return notebook


def spoil(notebook: nbformat.NotebookNode, call: str) -> None:
    """Makes one answer wrong, in a cell that students may change: the asked name is bound to something that no one asked for."""
    asked = call.split(",", 1)[1].strip(" )")
    assert asked.isidentifier(), f"{call}: the checked answer is a name"
    cells = [
        cell
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("solution") and asked in cell.source
    ]
    cells[-1].source += f"\n{asked} = 'something else'"


def test_a_student_cannot_change_the_asserting_cells(course: Path) -> None:
    lesson = graded_lessons()[0]
    locked = [
        cell
        for cell in released(course, lesson).cells
        if cell.metadata.get("nbgrader", {}).get("grade")
    ]
    assert locked and all(
        cell.metadata.nbgrader.locked and cell.source.startswith("assert teaching.check(")
        for cell in locked
    )


def test_the_lessons_themselves_assert_no_check() -> None:
    """There a wrong answer is a message, not an error."""
    for folder in (editions.SOLUTIONS, editions.LESSONS):
        for path in folder.glob("[0-9]*.ipynb"):
            assert "assert teaching.check" not in path.read_text(encoding="utf-8"), path
