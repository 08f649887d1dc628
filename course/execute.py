"""Run complete lessons in a kernel, and store what belongs in the repository.

    python -m course.execute lessons/solutions/01_*.ipynb    run, store tagged outputs, write the student edition
    python -m course.execute                                 the same for all lessons

Only cells tagged ``nbval-check-output`` keep their outputs, and of those only text: nbval compares them strictly. All
other cells are stored as never run, so that nothing that changes from run to run gets into a file.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode

from course import bank, editions

CHECKED = "nbval-check-output"
SECONDS, MEGABYTES = (
    20.0,
    700.0,
)  # the budget of a lesson: one thread, peak of the kernel process with torch in it
CELL_TIMEOUT = 120

# Run in the kernel after the last cell: its highest memory so far, in bytes (Windows has no resource module).
_PEAK = """\
import sys as _sys
try:
    # ru_maxrss would count what the parent held when it forked; VmHWM begins with the kernel's own program
    _peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
except (OSError, StopIteration):
    try:
        import resource as _resource
        _peak = _resource.getrusage(_resource.RUSAGE_SELF).ru_maxrss * (1 if _sys.platform == "darwin" else 1024)
    except ImportError:
        import psutil as _psutil
        _peak = _psutil.Process().memory_info().peak_wset
print(_peak)"""


class Run(NamedTuple):
    """A lesson that was run.

    Attributes:
        notebook: with all its outputs, pictures too.
        seconds: from the first cell to the last, without the start of the kernel.
        megabytes: highest memory of the kernel process.
    """

    notebook: NotebookNode
    seconds: float
    megabytes: float


def run(
    notebook: NotebookNode,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, of: None,
    after: str = "",
) -> Run:
    """Run a notebook from top to bottom in a kernel of its own, on one thread.

    Args:
        notebook: is not changed.
        folder: where the kernel starts.
        progress: called after each cell with (cells done, cells in all).
        after: code that the kernel runs at the end; its time and memory aren't counted.

    Returns:
        A ``Run``.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised; the message shows the cell.
        nbclient.exceptions.CellTimeoutError: a cell took longer than ``CELL_TIMEOUT`` seconds.
    """
    from nbclient import NotebookClient

    made = copy.deepcopy(notebook)
    measure = nbformat.v4.new_code_cell(_PEAK)
    client = NotebookClient(
        made,
        timeout=CELL_TIMEOUT,
        store_widget_state=False,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
    )
    settings = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "FNLIB_PROGRESS": "off"}
    with client.setup_kernel(env=os.environ | settings):
        client.nb.cells.append(measure)
        begun = time.perf_counter()
        for index, cell in enumerate(made.cells[:-1]):
            if cell.cell_type == "code":
                client.execute_cell(cell, index)
            progress(index + 1, len(made.cells) - 1)
        seconds = time.perf_counter() - begun
        client.execute_cell(measure, len(made.cells) - 1)
        if after:
            client.execute_cell(nbformat.v4.new_code_cell(after), len(made.cells) - 1)
    peak = int(measure.outputs[0].text)
    made.cells.pop()
    return Run(made, seconds, peak / 2**20)


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs with neighbouring streams of one name as one: a kernel sends text in pieces as large as time allows."""
    joined: list[NotebookNode] = []
    for output in outputs:
        if (
            joined
            and output.output_type == "stream" == joined[-1].output_type
            and output.name == joined[-1].name
        ):
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def stored(notebook: NotebookNode) -> NotebookNode:
    """What is committed of a notebook that was run: the text that tagged cells gave, and nothing else.

    Raises:
        ValueError: a tagged cell gave a picture, a warning or nothing; the message says which.
    """
    made = copy.deepcopy(notebook)
    made.metadata.pop("widgets", None)
    count = 0
    for cell in made.cells:
        if cell.cell_type != "code":
            continue
        count += 1
        tagged = CHECKED in cell.metadata.get("tags", [])
        cell.outputs = _joined(cell.outputs)
        for output in cell.outputs if tagged else ():
            text = output.get("text", "") + str(output.get("data", {}).get("text/html", ""))
            if output.output_type == "stream" and output.name == "stderr":
                raise ValueError(f"A cell tagged {CHECKED} wrote to stderr: {text[:200]}")
            if "image/png" in output.get("data", {}) or "data:image/png" in text:
                raise ValueError(
                    f"A cell tagged {CHECKED} draws a picture; untag it, or draw in a cell of its own:\n{cell.source}"
                )
            output.metadata = (
                nbformat.from_dict({}) if "metadata" in output else output.get("metadata")
            )
            if output.get("metadata") is None:
                output.pop("metadata", None)
            if output.output_type == "execute_result":
                output.execution_count = count
        if tagged and not cell.outputs:
            raise ValueError(
                f"A cell tagged {CHECKED} gave no output, so nothing would be compared:\n{cell.source}"
            )
        cell.outputs = cell.outputs if tagged else []
        cell.execution_count = count if tagged else None
    return made


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 if every lesson ran inside its budget."""
    parser = argparse.ArgumentParser(
        prog="python -m course.execute", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument(
        "notebooks", nargs="*", type=Path, help="complete lessons; all if none is given"
    )
    paths = parser.parse_args(arguments).notebooks or editions.sources()
    within = True
    for path in paths:
        ran = run(editions.read(path), path.resolve().parent)
        path.write_text(editions.dump(stored(ran.notebook)), encoding="utf-8", newline="\n")
        if path.resolve().parent == editions.SOLUTIONS:
            editions.write_student(path)
        over = ran.seconds > SECONDS or ran.megabytes > MEGABYTES
        within = within and not over
        print(
            f"{path.name}: {ran.seconds:.1f} s, {ran.megabytes:.0f} MB{'  over the budget' if over else ''}"
        )
    bank.write()  # the instructor's pages name the lessons and hold their questions
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
