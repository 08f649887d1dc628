"""Make the student notebooks from the complete ones, so that the two never drift apart.

    python -m course.editions            write lessons/NN_*.ipynb from lessons/solutions/NN_*.ipynb, and the copy for reset
    python -m course.editions --check    change nothing; fail if one is missing, stale or left over

What stands between ``### BEGIN SOLUTION`` and ``### END SOLUTION`` (nbgrader's own markers) becomes a stub that runs:
``name = ...`` for every name that the solution assigns, and ``...`` where it is a body. Where another stub is wanted, the
region says so in lines of its own: ``### STUB answer = ...``.
"""

from __future__ import annotations

import argparse
import ast
import copy
import re
import sys
import textwrap
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from fnlib.teaching.notebook import LESSONS, SHIPPED

SOLUTIONS = LESSONS / "solutions"
BEGIN, END, STUB = "### BEGIN SOLUTION", "### END SOLUTION", "### STUB"
YOUR_TURN = "  # your turn"
KEPT_CELL_METADATA = ("tags", "nbgrader", "jupyter")
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def sources() -> list[Path]:
    """The complete lessons, in order."""
    return sorted(SOLUTIONS.glob("[0-9][0-9]_*.ipynb"))


def numbers() -> list[str]:
    """The numbers of the lessons, in order."""
    return [path.name[:2] for path in sources()]


def rooms() -> list[Path]:
    """The museum's rooms: they have no blanks, and so one edition only."""
    return sorted((LESSONS / "museum").glob("*.ipynb"))


def read(path: Path) -> NotebookNode:
    """Read a notebook of format 4."""
    return nbformat.read(path, as_version=4)


def dump(notebook: NotebookNode) -> str:
    """A notebook as it is committed: keys in order, no metadata that changes by itself, one newline at the end."""
    notebook = copy.deepcopy(notebook)
    lesson = notebook.metadata.get("lesson")
    notebook.metadata = nbformat.from_dict(METADATA | ({"lesson": lesson} if lesson else {}))
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {key: cell.metadata[key] for key in KEPT_CELL_METADATA if cell.metadata.get(key)}
        )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"


def student(notebook: NotebookNode) -> NotebookNode:
    """The student edition of a complete lesson: stubs for solutions, no outputs, links from one folder further up.

    Raises:
        ValueError: a marker stands alone; the message shows the cell.
    """
    made = from_one_folder_up(notebook)
    for cell in made.cells:
        if cell.cell_type == "code":
            cell.source = without_solution(cell.source)
            cell.outputs, cell.execution_count = [], None
    return made


def from_one_folder_up(notebook: NotebookNode) -> NotebookNode:
    """The notebook with its relative links as they are seen from the folder above."""
    made = copy.deepcopy(notebook)
    for cell in made.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"(\]\(|(?:src|href)=\")\.\./", r"\1", cell.source)
    return made


def without_solution(source: str) -> str:
    """Replace each solution in a cell by its stub.

    Example:
        >>> print(without_solution("a = 1\\n### BEGIN SOLUTION\\nb = a + 1\\n### END SOLUTION\\nprint(b)"))
        a = 1
        b = ...  # your turn
        print(b)
    """
    lines: list[str] = []
    region: list[str] | None = None
    for line in source.splitlines():
        mark = line.strip()
        if mark == BEGIN and region is None:
            region = []
        elif mark == END and region is not None:
            lines += _stub(region)
            region = None
        elif mark in (BEGIN, END):
            raise ValueError(f"{mark} stands alone in this cell:\n{source}")
        elif region is not None:
            region.append(line)
        else:
            lines.append(line)
    if region is not None:
        raise ValueError(f"{BEGIN} without {END} in this cell:\n{source}")
    return "\n".join(lines)


def _stub(region: list[str]) -> list[str]:
    """The lines that stand where a solution stood, at its indentation."""
    indent = region[0][: len(region[0]) - len(region[0].lstrip())] if region else ""
    asked = [
        line.strip().removeprefix(STUB).strip() for line in region if line.strip().startswith(STUB)
    ]
    lines = (
        asked
        or [line for statement in _statements(region) for line in _stub_of(statement)]
        or ["..."]
    )
    return [indent + lines[0] + YOUR_TURN, *(indent + line for line in lines[1:])]


def _statements(region: list[str]) -> list[ast.stmt]:
    text = textwrap.dedent("\n".join(region))
    inside = (
        "def _():\n" + textwrap.indent(text, "    ") + "\n    pass"
    )  # a return may stand in it, or nothing at all
    return ast.parse(inside).body[0].body  # type: ignore[attr-defined]


def _stub_of(statement: ast.stmt) -> list[str]:
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        header = ast.unparse(statement).split(":\n")[0]
        return [f"{header}:", "    ..."]
    if isinstance(statement, ast.Return):
        return ["return ..."]
    targets = (
        statement.targets
        if isinstance(statement, ast.Assign)
        else [getattr(statement, "target", None)]
    )
    stubs = []
    for target in targets:
        if isinstance(target, ast.Name) and isinstance(statement, (ast.Assign, ast.AnnAssign)):
            stubs.append(f"{target.id} = ...")
        elif isinstance(target, ast.Tuple) and isinstance(statement, ast.Assign):
            stubs.append(
                f"{ast.unparse(target).strip('()')} = {', '.join('...' for _ in target.elts)}"
            )
    return stubs


def write_student(source: Path) -> Path:
    """Write the student edition of one complete lesson, and the copy that `teaching.reset` brings back; say where."""
    text = dump(student(read(source)))
    for folder in (LESSONS, SHIPPED):
        (folder / source.name).write_text(text, encoding="utf-8", newline="\n")
    return LESSONS / source.name


def problems() -> list[str]:
    """What keeps the two editions from being in step; empty if nothing does."""
    made = {source.name: dump(student(read(source))) for source in sources()}
    found = []
    for folder in (LESSONS, SHIPPED):
        for name, text in made.items():
            target = folder / name
            if not target.exists():
                found.append(f"{folder.name}/{name} is missing")
            elif target.read_text(encoding="utf-8") != text:
                found.append(f"{folder.name}/{name} differs from what solutions/{name} makes")
        left = {path.name for path in folder.glob("[0-9][0-9]_*.ipynb")} - set(made)
        found += [
            f"{folder.name}/{name} has no complete edition in solutions/"
            for name in sorted(left)
            if "_my_copy_" not in name
        ]
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 if all is in step."""
    parser = argparse.ArgumentParser(
        prog="python -m course.editions", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail if the editions are out of step"
    )
    if parser.parse_args(arguments).check:
        found = problems()
        print("\n".join(found) or f"{len(sources())} lessons, both editions in step.")
        if found:
            print("Run: python -m course.editions")
        return 1 if found else 0
    for source in sources():
        print(write_student(source).relative_to(LESSONS.parent).as_posix())
    return 0


if __name__ == "__main__":
    sys.exit(main())
