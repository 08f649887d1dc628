"""Recordings as pages of their own, which can be sent as a link: each exhibit's loop, and the ledgers of the lessons."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

import fnlib
from fnlib.teaching import museum
from fnlib.teaching.museum import EXHIBITS
from fnlib.teaching.museum_visit import record

FOLDER = "recordings"

# Run in a lesson's kernel after its last cell.
SAVE = """\
import sys as _sys
_fnlib = _sys.modules.get("fnlib")
for _name, _value in list(globals().items()):
    if _fnlib and isinstance(_value, _fnlib.Ledger) and not _name.startswith("_"):
        _value.save(f"{folder}/{_name}.html")
"""


def of_exhibits(folder: Path) -> dict[str, fnlib.Ledger]:
    """Record the loop of each exhibit and save it as a page.

    Args:
        folder: the pages go here, each with the exhibit's name.

    Returns:
        The ledger of each exhibit, by its name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for one in EXHIBITS:
        setup, bug = (museum.function_of(one.code, name) for name in ("setup", "bug"))
        made[one.code], _ = record(setup, bug)
        made[one.code].save(folder / f"{one.code}.html")
    return made


def anchor(words: str, address: str) -> str:
    """A link to a page that Sphinx does not make, and so does not look for.

    Example:
        >>> anchor("The recording", "recordings/a.html")
        '<a href="recordings/a.html">The recording</a>'
    """
    return f'<a href="{address}">{words}</a>'


def link_exhibits(page: NotebookNode, up: str) -> None:
    """Add a link to the recording to the label of each exhibit that a notebook shows.

    Args:
        page: of a room, or of lesson 09.
        up: from the page to the top of the site, such as "../".
    """
    named = {f"{one.code.replace('_', '-')}-label": one.code for one in EXHIBITS}
    core = {one.place: one.code for one in EXHIBITS if one.core}
    cells = []
    for cell in page.cells:
        cells.append(cell)
        if cell.cell_type == "markdown" and cell.get("id") in named:
            link = "- " + anchor(
                "The recording of this loop", f"{up}{FOLDER}/{named[cell.id]}.html"
            )
            before, end, after = cell.source.rpartition("\n</details>")
            cell.source = f"{before}{link}\n{end}{after}"
        shown = re.search(r'visit\.(?:caught|from_the_museum)\("([^"]+)"', cell.source)
        if cell.cell_type == "code" and shown and shown[1] in core:
            text = anchor("This bug as a recording", f"{up}{FOLDER}/{core[shown[1]]}.html")
            cells.append(nbformat.v4.new_markdown_cell(text, id=f"recording-{core[shown[1]]}"))
    page.cells = cells


def link_ledgers(page: NotebookNode, pages: dict[str, str]) -> None:
    """Add a link below the cell that made a ledger; of one name, the last that has it.

    Args:
        page: of a lesson.
        pages: the address of each ledger's page, by the name that the lesson gives it.
    """
    makers = {
        name: cell
        for cell in page.cells
        for name in pages
        if cell.cell_type == "code" and f") as {name}:" in cell.source
    }
    cells = []
    for cell in page.cells:
        cells.append(cell)
        for name, address in pages.items():
            if makers.get(name) is cell:
                text = anchor("This recording as a page of its own", address)
                cells.append(nbformat.v4.new_markdown_cell(text, id=f"recording-{name}"))
    page.cells = cells
