"""What the lessons stand on: set-up, data, plots, questions and checks.

A lesson starts with ``SETUP_CELL``, the same in all of them, and then uses the names below. Nothing here is
imported by the core of ``fnlib``, and matplotlib, IPython, ipywidgets and scikit-learn load only when they are used.
"""

from __future__ import annotations

import importlib
from typing import Any

# The first code cell of every lesson, letter for letter (a test compares). It looks for the kit in the folder of the
# notebook and in every folder above it. VS Code may start a kernel elsewhere, but says where the notebook lies.
# The cell is folded, and of a folded cell JupyterLab shows the first line.
SETUP_CELL = """\
# Run this cell first: it gets the course ready.
import os
import sys
from pathlib import Path

here = Path(globals().get("__vsc_ipynb_file__", "lesson.ipynb")).resolve()
if "google.colab" in sys.modules:  # Colab opens this notebook alone: fetch the rest of the course
    here = Path("kit/lessons/lesson.ipynb").resolve()
    if not here.parent.exists():
        os.system("git clone -q --depth 1 --branch TAG https://github.com/OWNER/REPO kit")
sys.path[:0] = [str(p) for p in here.parents if (p / "fnlib" / "teaching").is_dir()][:1]
from fnlib import teaching

teaching.setup()"""

# Public name -> module that holds it; loaded at first use, so that ``from fnlib import teaching`` stays quick.
_HOME = {
    "setup": "notebook",
    "reset": "notebook",
    "twins": "data",
    "images": "data",
    "stream": "data",
    "hand_sized": "data",
    "accuracy": "data",
    "ratios": "timing",
    "in_subprocess": "child",
    "error_in": "child",
    "Picture": "pictures",
    "show": "pictures",
    "explore": "interact",
    "check": "exercises",
    "hint": "exercises",
    "progress": "progress",
    "predict": "questions",
    "reveal": "questions",
    "misconception": "misconceptions",
}
_MODULES = ("data", "plots", "memory", "misconceptions")

__all__ = ["SETUP_CELL", *sorted(_HOME), *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
