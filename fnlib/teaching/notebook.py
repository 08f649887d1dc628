"""Set up a notebook, and put one back as it was shipped."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from fnlib.teaching import plots, records

ROOT = Path(__file__).resolve().parents[2]
LESSONS = ROOT / "lessons"
SHIPPED = records.CONTENT / "lessons"  # the student editions, as nobody has written into them
# What is said below an AssertionError: a learner did not write the line, and it says nothing of itself.
ASSERTED = (
    "This line says what held when the lesson was written. If you changed something on purpose, put # before it. "
    "If not, a cell was run twice or left out: run again from the first cell on."
)
TRIED_WITH = "2.13"  # the PyTorch that the numbers in the lessons were made with


def setup(seed: int = 0) -> None:
    """Prepare a notebook: one thread, one seed, one plotting style; print one line.

    Safe to run again: it starts the random numbers afresh and changes nothing else. Nothing is downloaded.

    Args:
        seed: where the generators of PyTorch, NumPy and Python start. A lesson whose numbers depend on them seeds
            again, in plain sight, right before it draws.

    Example:
        >>> setup()  # doctest: +ELLIPSIS
        Ready: PyTorch 2..., one thread, seed 0.
    """
    import numpy
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    # Small networks gain nothing from a second thread, and two kernels that fight over the cores lose a hundredfold.
    torch.set_num_threads(1)
    threadpool_limits(1)  # BLAS, which scikit-learn's networks use
    torch.manual_seed(seed)
    numpy.random.seed(seed)
    random.seed(seed)
    torch.set_printoptions(precision=4, sci_mode=False)
    plots.use_style()
    _explain_assertions()
    print(f"Ready: PyTorch {torch.__version__.split('+')[0]}, one thread, seed {seed}.")
    if not torch.__version__.startswith(TRIED_WITH + "."):
        print(
            f"The lessons were tried with PyTorch {TRIED_WITH}: your last digits may differ, the findings should not."
        )


def _explain_assertions() -> None:
    """In a notebook, say below a failed bare ``assert`` what it is there for; all other errors stay as they are."""
    from IPython import get_ipython

    def explain(
        shell: Any,
        kind: type[BaseException],
        error: BaseException,
        trace: TracebackType,
        tb_offset: int | None = None,
    ) -> None:
        if not error.args:  # one that says something itself, such as a grader's, needs no note
            error.add_note(ASSERTED)
        shell.showtraceback((kind, error, trace), tb_offset=tb_offset)

    if (shell := get_ipython()) is not None:
        shell.set_custom_exc((AssertionError,), explain)


def reset(lesson: str) -> Path:
    """Put a lesson back as it was shipped; your version is kept beside it.

    Args:
        lesson: its number, such as ``"01"``.

    Returns:
        Where your version lies now, such as ``lessons/01_my_copy_1.ipynb``.

    Raises:
        ValueError: there is no lesson of that number.

    Example:
        >>> reset("77")
        Traceback (most recent call last):
        ValueError: There is no lesson '77'. ...
    """
    sources = {path.name[:2]: path for path in SHIPPED.glob("[0-9][0-9]_*.ipynb")}
    if lesson not in sources:
        raise ValueError(
            f"There is no lesson {lesson!r}. There are: {', '.join(sorted(sources)) or 'none'}."
        )
    folder = LESSONS if LESSONS.is_dir() else Path.cwd()  # the package alone: beside the notebook
    yours = folder / sources[lesson].name
    number = 1
    while (mine := folder / f"{lesson}_my_copy_{number}.ipynb").exists():
        number += 1
    if yours.exists():
        shutil.copy2(yours, mine)
    shutil.copyfile(sources[lesson], yours)
    print(f"Lesson {lesson} is as shipped again. Your version is kept in {mine.name}.")
    print("Close this notebook without saving and open it anew.")
    return mine
