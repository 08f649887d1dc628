"""Run the complete notebooks for the site, two at a time, and keep what was run until something changes."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from course import editions
from course.execute import MEGABYTES, SECONDS, run
from course.site import recordings
from fnlib.teaching import questions
from fnlib.teaching.notebook import ROOT

CACHE = ROOT / "build" / "executed"
FNLIB_CELL = re.compile(r"-(?:fnlib|helper-\d+)$")  # of a room of the museum
WIDGET = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True, slots=True)
class Executed:
    """A notebook that was run.

    Attributes:
        path: of the complete notebook.
        notebook: with all its outputs.
        seconds: from the first cell to the last; 0 where the stored outputs were taken.
        megabytes: highest memory of the kernel; 0 where the stored outputs were taken.
        failure: the last lines of the error, where a cell raised.
        recordings: a page for each ledger of the notebook, by its name.
    """

    path: Path
    notebook: NotebookNode
    seconds: float = 0.0
    megabytes: float = 0.0
    failure: str = ""
    recordings: dict[str, Path] = field(default_factory=dict)

    @property
    def row(self) -> str:
        """A line of the table that the command prints."""
        if self.failure:
            return f"{self.path.stem:<48}  failed"
        late = ", longer than a lesson may take on a calm machine" * (self.seconds > SECONDS)
        return f"{self.path.stem:<48} {self.seconds:5.1f} s {self.megabytes:6.0f} MB{late}"

    @property
    def faults(self) -> list[str]:
        """What is wrong with this notebook as a page, in words; empty if nothing is."""
        if self.failure:
            return [f"{self.path.name}: {self.failure}"]
        found = []
        if self.megabytes > MEGABYTES:
            found.append(f"took {self.megabytes:.0f} MB, the budget is {MEGABYTES:.0f} MB")
        for cell in self.notebook.cells:
            texts = [cell.source] if cell.cell_type == "markdown" else []
            for output in cell.get("outputs", ()):
                data = output.get("data", {})
                texts.append(data.get("text/html", ""))
                if output.output_type == "stream" and output.name == "stderr":
                    found.append(f"a cell wrote to stderr: {output.text.strip()[:120]}")
                if "image/png" in data:
                    found.append(f"a picture has no alternative text: {cell.source[:80]}")
            for text in texts:
                found += _faults_of_html(text)
        return [f"{self.path.name}: {fault}" for fault in found]


def _faults_of_html(text: str) -> list[str]:
    found = [f"asks the network for {address}" for address in requests(text)]
    for image in re.findall(r"<img\b[^>]*>", text):
        alt = re.search(r'\balt="([^"]*)"', image)
        if alt is None or not alt.group(1).strip():
            found.append(f"a picture has no alternative text: {image[:80]}")
    return found


def requests(text: str) -> list[str]:
    """Addresses that a browser would load by itself when it shows this HTML; a link waits for a click."""
    tag = r"""<(?:script|img|iframe|source|video|audio|link)\b[^>]*?\b(?:src|href)=["']?"""
    code = r"""\bimport\s*\(?["']|\bfrom\s+["']|url\(["']?"""
    return re.findall(rf"(?:{tag}|{code})(https?://[^\"')\s>]+)", text)


def execute(paths: Sequence[Path]) -> Iterator[Executed]:
    """Run notebooks, two at a time; one that ran before, with the same code, is taken from the cache.

    Args:
        paths: of complete notebooks.

    Yields:
        An `Executed` for each, in the order in which they end.
    """
    code = _digest_of_the_code()
    CACHE.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(max_workers=2) as pool:
        waiting = [pool.submit(_execute, path, code) for path in paths]
        for done in as_completed(waiting):
            yield done.result()


def stored(paths: Sequence[Path]) -> Iterator[Executed]:
    """Take the outputs that are in the files: text, without pictures."""
    for path in paths:
        yield Executed(path, editions.read(path))


def _execute(path: Path, code: str) -> Executed:
    digest = hashlib.sha256(path.read_bytes() + code.encode()).hexdigest()[:16]
    kept, ledgers = CACHE / f"{path.stem}-{digest}.ipynb", CACHE / path.stem
    if kept.exists():
        made = editions.read(kept)
        figures = made.metadata.pop("run")
        return Executed(
            path, made, figures["seconds"], figures["megabytes"], recordings=_pages(ledgers)
        )
    shutil.rmtree(ledgers, ignore_errors=True)
    ledgers.mkdir()
    try:
        save = f"folder = {str(ledgers)!r}\n{recordings.SAVE}"
        ran = run(editions.read(path), path.resolve().parent, after=save)
    except Exception as problem:  # it becomes a line of the table; the other pages are still made
        return Executed(path, editions.read(path), failure=_end(problem))
    for old in CACHE.glob(f"{path.stem}-*.ipynb"):
        old.unlink(missing_ok=True)
    figures = {"seconds": ran.seconds, "megabytes": ran.megabytes}
    kept.write_text(
        nbformat.writes(
            nbformat.from_dict(
                {**ran.notebook, "metadata": {**ran.notebook.metadata, "run": figures}}
            )
        ),
        encoding="utf-8",
    )
    return Executed(path, ran.notebook, ran.seconds, ran.megabytes, recordings=_pages(ledgers))


def _pages(folder: Path) -> dict[str, Path]:
    return {page.stem: page for page in sorted(folder.glob("*.html"))}


def _digest_of_the_code() -> str:
    """A digest of what a lesson imports: the package and the versions under it."""
    import torch

    digest = hashlib.sha256(json.dumps([torch.__version__, nbformat.__version__]).encode())
    for path in sorted((ROOT / "fnlib").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _end(problem: Exception) -> str:
    """The last lines of a message, without colours: what went wrong in a cell is at its end."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(problem)).strip()
    return "\n    ".join(plain.splitlines()[-12:])


def as_page(notebook: NotebookNode) -> NotebookNode:
    """Prepare an executed notebook for the site.

    Set-up, solutions and a room's answers are folded; buttons, which need a kernel, are replaced by the sentence that
    stands for them, and by a folded answer where a button shows it; links start one folder higher.
    """
    made = editions.from_one_folder_up(notebook)
    first = True
    for cell in made.cells:
        if cell.cell_type != "code":
            continue
        tags = set(cell.metadata.get("tags", []))
        if first or editions.BEGIN in cell.source:
            tags.add("hide-input")
            message = "Show the set-up" if first else "Show one solution"
            cell.metadata["mystnb"] = {"code_prompt_show": message}
            first = False
        if cell.metadata.get("jupyter", {}).get("outputs_hidden"):
            tags.add("hide-cell")
            what = "the same task in fnlib" if FNLIB_CELL.search(cell.id) else "the cure"
            prompts = {"code_prompt_show": f"Show {what}", "code_prompt_hide": f"Hide {what}"}
            cell.metadata["mystnb"] = prompts
        cell.source = re.sub(
            r"^[ \t]*### (?:(?:BEGIN|END) SOLUTION|STUB .*)\n?", "", cell.source, flags=re.MULTILINE
        )
        cell.metadata["tags"] = sorted(tags)
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop(WIDGET, None)
        for key in re.findall(r"""teaching\.predict\(["']([\w-]+)["']\)""", cell.source):
            if questions.question(key).kind in questions.ANSWERED_BY_BUTTON:
                cell.outputs.append(_answer(key))
    made.metadata.pop("widgets", None)
    return made


def _answer(key: str) -> NotebookNode:
    """The answer of a question, folded, as an output."""
    shown = f"<details><summary>Show the answer</summary>{questions.reveal(key).html}</details>"
    return nbformat.v4.new_output("display_data", {"text/html": shown})
