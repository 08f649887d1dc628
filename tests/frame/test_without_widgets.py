"""A lesson on a machine without ipywidgets: what can be seen is seen, nothing stops."""

from __future__ import annotations

import asyncio
import os
import warnings
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tools.say import ROOT

MOVED = ("explore(", ".replay(", "ipywidgets")
LESSONS = [
    path
    for path in sorted((ROOT / "lessons").glob("[0-9][0-9]_*.ipynb"))
    if any(word in path.read_text(encoding="utf-8") for word in MOVED)
]


def run(notebook: nbformat.NotebookNode, profile: Path, folder: Path) -> None:
    """Runs a notebook in a kernel in which `import ipywidgets` fails."""
    startup = profile / "profile_default" / "startup"
    startup.mkdir(parents=True, exist_ok=True)
    (startup / "00-without.py").write_text("import sys\nsys.modules['ipywidgets'] = None\n")
    environment = dict(
        os.environ,
        IPYTHONDIR=str(profile),
        PYTHONPATH=str(ROOT),
        OMP_NUM_THREADS="1",
        PYDEVD_DISABLE_FILE_VALIDATION="1",
    )
    environment.pop("MPLBACKEND", None)
    client = NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of the client's own libraries; the kernel's warnings are in its output
        asyncio.run(client.async_execute(env=environment))


@pytest.mark.skipif(not LESSONS, reason="no lesson has a widget")
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.name[:2])
def test_a_lesson_runs_without_ipywidgets(lesson: Path, tmp_path: Path) -> None:
    run(nbformat.read(lesson, as_version=4), tmp_path, lesson.parent)


def test_the_kernel_is_really_without(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import ipywidgets")])
    with pytest.raises(CellExecutionError, match="ipywidgets"):
        run(notebook, tmp_path, tmp_path)


def test_what_stands_for_a_slider_can_be_set_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from fnlib import teaching

    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    box = teaching.explore(
        lambda rate: teaching.plots.curves({"w": [1.0, 1.0 - rate]}), [0.1, 0.5], name="lr"
    )
    first = box.picture
    box.slider.value = 0.5
    assert box.picture is not first and "0.5" in box.picture.alt
    assert "Without ipywidgets" in repr(box) and box.picture.html in box._repr_html_()
