"""Make the rooms of the museum, its table in the README, and its table in lesson 09, all from the one table of exhibits.

    python -m course.rooms            write and run all rooms, write both tables
    python -m course.rooms 3 5        the rooms 3 and 5 only
    python -m course.rooms --check    change nothing; fail if a room or a table is stale

A room is a notebook in ``lessons/museum/``. The code in its cells is that of the exhibits' files, letter for letter.
"""

from __future__ import annotations

import argparse
import ast
import sys
from itertools import chain

import nbformat
from nbformat import NotebookNode

from course.editions import SOLUTIONS, dump, read, write_student
from course.execute import CHECKED, run, stored
from course.museum_table import in_lesson, in_readme, path_of
from fnlib.teaching import SETUP_CELL, museum
from fnlib.teaching.museum import EXHIBITS, FUNCTIONAL, ROOMS, Exhibit, shown
from fnlib.teaching.notebook import ROOT

LESSON = SOLUTIONS / "09_the_museum_of_silent_bugs.ipynb"
TABLE_CELL = "table"
LINES = 15  # of a code cell

SUMMED = "A row sums up all iterations, so `bound` can mean bound at first and rebound later."

SAID = {
    "silent": "PyTorch says nothing.",
    "warns": "PyTorch warns.",
    "raises": "PyTorch raises an error.",
}


def notebook(room: str) -> NotebookNode:
    """A room as a notebook that has not been run."""
    known: dict[str, str] = {}
    exhibits = [_exhibit(one, known) for one in shown(room)]
    cells = [
        _text("title", _title(room, _lean_on_others(exhibits))),
        _code("setup", SETUP_CELL, folded=True),
        _code("imports", _imports(room)),
        *chain.from_iterable(exhibits),
    ]
    for cell in cells:
        if (
            cell.cell_type == "code"
            and cell.id != "setup"
            and len(cell.source.splitlines()) > LINES
        ):
            raise ValueError(
                f"{path_of(room).name}: a cell of more than {LINES} lines\n{cell.source}"
            )
    return nbformat.v4.new_notebook(cells=cells)


def _title(room: str, lean_on_others: bool) -> str:
    number, exhibits = ROOMS.index(room) + 1, shown(room)
    core = [one.title for one in EXHIBITS if one.room == room and one.core]
    beside = [("previous room", number - 2), ("next room", number)]
    neighbours = [
        f"[{word}]({path_of(ROOMS[at]).name})" for word, at in beside if 0 <= at < len(ROOMS)
    ]
    lesson = "[lesson 09](../09_the_museum_of_silent_bugs.ipynb)"
    ledger = "[ledger](../glossary.md#ledger)"
    rows = (
        f"The cell of the cure prints the {ledger}'s rows of `bug`, or of its loop if it has one, and says what they show. {SUMMED}"
        if room in FUNCTIONAL
        else f"The cell of the cure prints the rows of `bug` in the {ledger}. If there's a loop, it prints only the rows"
        f" inside it (without headers such as `for`), and the finding's row. {SUMMED} A `>` marks the finding's row,"
        " and the line to change can be another one. If the finding is in a helper that"
        " `bug` calls, you see the helper's row alone."
    )
    borrowed = ", and some use a helper of an earlier one" if lean_on_others else ""
    loud = "" if all(one.harm for one in exhibits) else ", except where PyTorch raises an error"
    lines = [
        f"# Room {number} · {room}",
        "",
        f"{len(exhibits)} exhibits · part of {lesson} · {' · '.join(neighbours)}",
        "",
        "Each exhibit is code with a bug. Under the code you see what its author saw. Guess what's wrong, then open what's"
        " folded below it: the label, which names the bug; the cure; and what becomes of the bug in `fnlib`.",
        "",
        f"{rows} Then comes the harm as a number, as written and cured{loud}. The same task in"
        " `fnlib` comes last; if the ledger finds a bug there, you see its row.",
        "",
        f"Run the cells in order: each exhibit has its own `setup`, `bug` and `cure`{borrowed}.",
    ]
    if core:
        titles = " and ".join(each if each[0] == "`" else f"“{each}”" for each in core)
        counted = ("One exhibit of this room is", "Two exhibits of this room are")[len(core) - 1]
        lines += ["", f"{counted} in the lesson itself: {titles}."]
    if room in FUNCTIONAL:
        lines += [
            "",
            "In this style, functions return new values instead of changing old ones. It has bugs of its own.",
        ]
    return "\n".join(lines)


def _lean_on_others(exhibits: list[list[NotebookNode]]) -> bool:
    """Whether an exhibit's cells use a function or class that only the cells of an earlier one define."""
    earlier: set[str] = set()
    for cells in exhibits:
        tree = ast.parse("\n".join(cell.source for cell in cells if cell.cell_type == "code"))
        defined = {getattr(node, "name", "") for node in tree.body}
        nodes = list(ast.walk(tree))
        names = [node for node in nodes if isinstance(node, ast.Name)]
        read = {node.id for node in names if isinstance(node.ctx, ast.Load)}
        bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        bound |= defined | {node.arg for node in nodes if isinstance(node, ast.arg)}
        if (read - bound) & earlier:
            return True
        earlier |= defined
    return False


def _imports(room: str) -> str:
    exhibits = shown(room)
    used = {name for one in exhibits for name in _names(one.file.read_text(encoding="utf-8"))}
    used |= {name for one in exhibits for name in _names(museum.source_in_fnlib(one.code))}
    lines = [f"import {name}" for name in ("copy", "threading") if name in used]
    lines += (
        ["", "import torch", "from torch import nn"]
        if lines
        else ["import torch", "from torch import nn"]
    )
    functional = sorted(
        {name for name in ("functional_call", "grad", "grad_and_value") if name in used}
    )
    lines += [f"from torch.func import {', '.join(functional)}"] if room in FUNCTIONAL else []
    lines += (
        ["from torch.nn.utils.parametrizations import weight_norm"] if "weight_norm" in used else []
    )
    lines += ["", "import fnlib", "from fnlib.teaching import museum_visit as visit"]
    if room not in FUNCTIONAL:
        lines += ["", "criterion = nn.functional.cross_entropy"]
        lines += [
            f"\n{museum.part_in_fnlib(name)}" for name in ("network", "batch") if name in used
        ]
    return "\n".join(lines)


def _exhibit(one: Exhibit, known: dict[str, str]) -> list[NotebookNode]:
    """The cells of one exhibit: its loop, its label, its cure, and the task in fnlib (once, if two exhibits share it)."""
    tree = ast.parse(one.file.read_text(encoding="utf-8"))
    answer = " ".join((ast.get_docstring(tree) or "").split())
    kinds = ["Found in"] * len(one.sources) + ["Related:"] * len(one.related)
    links = [
        f"- {kind} [{name}]({address}): {says}"
        for kind, name, (address, says) in zip(
            kinds, one.sources + one.related, one.links, strict=True
        )
    ]
    met = "\n".join(links) or "- We know of no report; we made this one for the museum."
    code = one.code.replace("_", "-")
    cells = [_text(code, f"## {one.place} · {one.task}\n\n{SAID[one.today]}")]
    needed, cures = _parts(one)
    for number, part in enumerate(_packed(needed)):
        cells.append(_code(f"{code}-{'parts' if number == 0 else f'parts-{number + 1}'}", part))
    show = _name_in_fnlib(one)
    bug = f'{museum.source(one.code)}\n\nvisit.as_written("{one.place}", setup, bug)'
    cure = f'{museum.source(one.code, "cure")}\n\nvisit.cured("{one.place}", setup, bug, cure)'
    cells.append(_code(f"{code}-bug", bug))
    label = (
        f"<details><summary>The label</summary>\n\n**{one.title}.** {answer}\n\n{met}\n\n</details>"
    )
    cells.append(_text(f"{code}-label", label))
    *apart, last = _packed([*cures, cure])
    cells += [_answer(f"{code}-cured-{at}", part) for at, part in enumerate(apart, 1)]
    cells.append(_answer(f"{code}-cure", last, CHECKED))
    call = f'visit.in_fnlib("{one.place}", {show}{", setup" if one.functional else ""})'
    if show in known:
        again = f"{call}      # as in {known[show]}"
        if len(cells[-1].source.splitlines()) < LINES:
            cells[-1].source += f"\n{again}"
        else:
            cells.append(_answer(f"{code}-fnlib", again, CHECKED))
        return cells
    if not one.functional:
        known[show] = one.place
    helpers = [museum.part_in_fnlib(name) for name in _own(one) if name not in known]
    known.update(dict.fromkeys(_own(one), one.place))
    text = museum.source_in_fnlib(one.code).replace("    import fnlib\n", "")
    for number, part in enumerate([*helpers, f"{text}\n\n{call}"]):
        joined = f"{cells[-1].source}\n\n{part}"
        if len(joined.splitlines()) <= LINES:
            cells[-1].source = joined
        else:
            cells.append(_answer(f"{code}-helper-{number}", part))
    if not cells[-1].id.endswith("-cure"):
        cells[-1] = _answer(f"{code}-fnlib", cells[-1].source, CHECKED)
    return cells


def _parts(one: Exhibit) -> tuple[list[str], list[str]]:
    """What an exhibit's file has beside its loop, cure and measure: what the loop needs, and what only the cure needs."""
    text = one.file.read_text(encoding="utf-8")
    body = {getattr(node, "name", ""): node for node in ast.parse(text).body}
    used, waiting = set(), ["setup", "bug", "in_fnlib"]
    while waiting:
        name = waiting.pop()
        if name in body and name not in used:
            used.add(name)
            waiting += _names(ast.unparse(body[name]))
    parts = [
        (name, ast.get_source_segment(text, node) or "")
        for name, node in body.items()
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and name not in ("bug", "cure", "harm", "in_fnlib")
    ]
    return (
        [part for name, part in parts if name in used],
        [part for name, part in parts if name not in used],
    )


def _packed(parts: list[str]) -> list[str]:
    """Parts in few cells: each part in the first cell that has room for it."""
    cells: list[str] = []
    for part in parts:
        for index, cell in enumerate(cells):
            if len(f"{cell}\n\n{part}".splitlines()) <= LINES:
                cells[index] = f"{cell}\n\n{part}"
                break
        else:
            cells.append(part)
    return cells


def _own(one: Exhibit) -> list[str]:
    """Names of the helpers that an exhibit's function in ``in_fnlib.py`` needs beside those that all have."""
    if one.functional:
        return []
    used = _names(museum.source_in_fnlib(one.code)) - {"network", "batch"}
    return [name for name in museum.parts_in_fnlib() if name in used]


def _name_in_fnlib(one: Exhibit) -> str:
    return "in_fnlib" if one.functional else one.way


def _names(text: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}


def _text(key: str, source: str) -> NotebookNode:
    return nbformat.v4.new_markdown_cell(source, id=key[:64])


def _code(key: str, source: str, *tags: str, folded: bool = False) -> NotebookNode:
    metadata: dict[str, object] = {"jupyter": {"source_hidden": True}} if folded else {}
    if tags:
        metadata["tags"] = list(tags)
    return nbformat.v4.new_code_cell(source, id=key[:64], metadata=metadata)


def _answer(key: str, source: str, *tags: str) -> NotebookNode:
    """A code cell that is folded with its output until a reader has guessed."""
    cell = _code(key, source, *tags, folded=True)
    cell.metadata["jupyter"]["outputs_hidden"] = True
    return cell


def with_table(lesson: NotebookNode) -> NotebookNode:
    """The lesson with the whole table in its cell of that name."""
    cell = next(cell for cell in lesson.cells if cell.id == TABLE_CELL)
    cell.source = in_lesson(cell.source)
    return lesson


def code_of(made: NotebookNode) -> list[tuple[str, str, str]]:
    """What a room says, without what it gave when it was run."""
    return [(cell.id, cell.cell_type, cell.source) for cell in made.cells]


def stale() -> list[str]:
    """Rooms and tables that are not what the table of exhibits makes; empty if all are in step."""
    found = [
        path_of(room).name
        for room in ROOMS
        if not path_of(room).exists() or code_of(read(path_of(room))) != code_of(notebook(room))
    ]
    found += sorted(
        {path.name for path in path_of(ROOMS[0]).parent.glob("*.ipynb")}
        - {path_of(room).name for room in ROOMS}
    )
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found += [] if in_readme(text) == text else ["README.md"]
    lesson = read(LESSON)
    return found + ([] if code_of(with_table(read(LESSON))) == code_of(lesson) else [LESSON.name])


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 if all is in step."""
    parser = argparse.ArgumentParser(
        prog="python -m course.rooms", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail if something is stale"
    )
    parser.add_argument("rooms", nargs="*", type=int, help="numbers of rooms; all if none is given")
    options = parser.parse_args(arguments)
    if options.check:
        old = stale()
        print(
            "\n".join(f"{name} is stale: run python -m course.rooms" for name in old)
            or f"{len(ROOMS)} rooms in step."
        )
        return 1 if old else 0
    for room in ROOMS:
        if not options.rooms or ROOMS.index(room) + 1 in options.rooms:
            path = path_of(room)
            path.parent.mkdir(exist_ok=True)
            ran = run(notebook(room), path.parent)
            path.write_text(dump(stored(ran.notebook)), encoding="utf-8", newline="\n")
            print(f"{path.name}: {ran.seconds:.1f} s, {ran.megabytes:.0f} MB")
    readme = ROOT / "README.md"
    readme.write_text(in_readme(readme.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
    if LESSON.exists():
        LESSON.write_text(dump(with_table(read(LESSON))), encoding="utf-8", newline="\n")
        write_student(LESSON)
    return 0


if __name__ == "__main__":
    sys.exit(main())
