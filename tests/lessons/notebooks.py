"""A notebook as its reader sees it: prose without code, headings, code cells, links."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from course.execute import CHECKED

FENCE = re.compile(r"^```.*?^```[^\n]*$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`[^`\n]*`")
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]*)\)")


@dataclass
class Lesson:
    """One complete lesson.

    Attributes:
        name: of its file, without the ending.
        notebook: its cells.
        folder: where its links start.
    """

    name: str
    notebook: NotebookNode
    folder: Path

    @property
    def number(self) -> str:
        """What its file name starts with, such as "01"; the rooms of a museum have a letter too."""
        return self.name.split("_")[0]

    @property
    def cells(self) -> list[NotebookNode]:
        return self.notebook.cells

    @property
    def code(self) -> list[NotebookNode]:
        return [cell for cell in self.cells if cell.cell_type == "code"]

    @property
    def markdown(self) -> list[NotebookNode]:
        return [cell for cell in self.cells if cell.cell_type == "markdown"]

    @property
    def text(self) -> str:
        """All Markdown, in order, without code blocks."""
        return FENCE.sub("", "\n\n".join(cell.source for cell in self.markdown))

    @property
    def prose(self) -> str:
        """What is read aloud: no code, no addresses, no alternative texts."""
        return spoken(self.text)

    def headings(self) -> list[tuple[int, str]]:
        """Level and words of each heading."""
        return [
            (len(marks), words.strip())
            for marks, words in re.findall(r"^(#+) +(.+)$", self.text, re.MULTILINE)
        ]

    def calls(self) -> Iterator[tuple[int, str, ast.Call]]:
        """Each ``teaching.name(...)``, as (index of the cell, name, call)."""
        for index, cell in enumerate(self.cells):
            if cell.cell_type == "code":
                for node in ast.walk(ast.parse(cell.source)):
                    if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(
                        "teaching."
                    ):
                        yield index, ast.unparse(node.func).removeprefix("teaching."), node

    def keys(self, name: str) -> list[tuple[int, str]]:
        """(Index of the cell, key) of each ``teaching.check("key", ...)``, or ``predict`` or ``reveal``."""
        return [
            (index, ast.literal_eval(call.args[0]))
            for index, called, call in self.calls()
            if called == name
        ]


def spoken(text: str) -> str:
    """What is read aloud of Markdown: no code in a line, no pictures, no addresses."""
    return re.sub(r"\]\([^)]*\)", "]", IMAGE.sub("", INLINE.sub(" ", text)))


def tagged(cell: NotebookNode, tag: str = CHECKED) -> bool:
    return tag in cell.metadata.get("tags", [])


def output_text(cell: NotebookNode) -> str:
    """The text that nbval compares of a cell."""
    return "\n".join(
        output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
        for output in cell.get("outputs", ())
    )


def numbers(text: str) -> set[float]:
    """Every number in a piece of code or output; thousands may be written 1_000 or 1,000."""
    return {
        float(re.sub(r"[,_]", "", found))
        for found in re.findall(r"\d+(?:[,_]\d{3})*(?:\.\d+)?", text)
    }
