"""Make a course for nbgrader from the complete lessons.

    python -m course.nbgrader build/nbgrader

writes ``build/nbgrader``: a settings file and ``source/lesson_NN/``. From there on it is nbgrader's own work:
``nbgrader generate_assignment lesson_01`` there makes what students get, ``nbgrader autograde lesson_01`` marks what they
hand in, one point for each exercise. In the lessons ``teaching.check`` prints and never stops a notebook; only here it is
asserted, in cells of their own that students cannot change.
"""

from __future__ import annotations

import ast
import copy
import shutil
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from course import editions
from fnlib.teaching.notebook import LESSONS

SETTINGS = """# nbgrader's settings for this course.
c = get_config()
c.CourseDirectory.course_id = "fnlib"
# Our own stub stands above each solution already, in the words of the lessons.
c.ClearSolutions.code_stub = {"python": ""}
c.ClearSolutions.begin_solution_delimeter = "BEGIN SOLUTION"
c.ClearSolutions.end_solution_delimeter = "END SOLUTION"
c.ExecutePreprocessor.timeout = 120
"""


def write(folder: Path) -> list[Path]:
    """Write the course and return its notebooks, one an assignment.

    Args:
        folder: where the course goes; made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nbgrader_config.py").write_text(SETTINGS, encoding="utf-8")
    written = []
    for lesson in editions.sources():
        target = folder / "source" / f"lesson_{lesson.name[:2]}" / lesson.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(
            LESSONS / "figures",
            target.parent / "figures",
            ignore=shutil.ignore_patterns("*.py", "__pycache__"),
        )
        for page in ("glossary.md", "prerequisites.md", "prerequisites_again.md"):
            shutil.copy(LESSONS / page, target.parent)
        nbformat.write(source(editions.from_one_folder_up(editions.read(lesson))), target)
        written.append(target)
    return written


def source(lesson: NotebookNode) -> NotebookNode:
    """The lesson as nbgrader wants it: cells to fill in, and behind each check a cell that asserts it."""
    made = copy.deepcopy(lesson)
    cells = []
    for cell in made.cells:
        cells.append(cell)
        cell.metadata.pop("nbgrader", None)
        if cell.cell_type != "code":
            continue
        cell.outputs, cell.execution_count = [], None
        found = checks(cell.source)
        if editions.BEGIN in cell.source:
            cell.source = with_stubs(cell.source)
            cell.metadata["nbgrader"] = _about(f"answer-{cell.id}", solution=True)
        for number, call in enumerate(found):
            cells.append(_asserting(f"test-{cell.id}-{number}", call))
    made.cells = cells
    return made


def checks(text: str) -> list[str]:
    """The calls of ``teaching.check`` in a cell, as they are written.

    Example:
        >>> checks("result = teaching.check('01-blank', blank)")
        ["teaching.check('01-blank', blank)"]
    """
    try:
        tree = ast.parse(text)
    except SyntaxError:  # a cell with a magic has no check
        return []
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "teaching.check"
    ]
    return [
        ast.unparse(call) for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset))
    ]


def with_stubs(text: str) -> str:
    """Put the lesson's own stub beside each solution, where it does not disturb the solution.

    Example:
        >>> print(with_stubs("### BEGIN SOLUTION\\na = 1\\n### END SOLUTION"))
        a = ...  # your turn
        ### BEGIN SOLUTION
        a = 1
        ### END SOLUTION
    """
    lines: list[str] = []
    region: list[str] | None = None
    for line in text.splitlines():
        if line.strip() == editions.BEGIN:
            region = []
        if region is None:
            lines.append(line)
            continue
        region.append(line)
        if line.strip() == editions.END:
            stub = editions.without_solution("\n".join(region)).splitlines()
            returns = (
                stub[0].strip().startswith("return")
            )  # above the solution it would end the function
            lines += region + stub if returns else stub + region
            region = None
    return "\n".join(lines)


def _asserting(grade_id: str, call: str) -> NotebookNode:
    cell = nbformat.v4.new_code_cell(f'assert {call}.passed, "the line above says why"')
    cell.id = grade_id[:64]
    cell.metadata["nbgrader"] = _about(grade_id, grade=True, points=1)
    return cell


def _about(
    grade_id: str, *, solution: bool = False, grade: bool = False, points: int = 0
) -> NotebookNode:
    """nbgrader's note on a cell, version 3 of its format."""
    note = {
        "schema_version": 3,
        "grade_id": grade_id,
        "solution": solution,
        "grade": grade,
        "locked": grade,
        "task": False,
    }
    return nbformat.from_dict(note | ({"points": points} if grade else {}))


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1 or given[0].startswith("-"):
        print(
            "Say where the course goes: python -m course.nbgrader build/nbgrader",
            file=sys.stderr,
        )
        return 2
    for path in write(Path(given[0])):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
