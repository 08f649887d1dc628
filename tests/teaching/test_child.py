"""A function in a process of its own: what it gets, what comes back, and what a learner reads if it fails."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from fnlib import teaching


def _doubled(part: Any) -> Any:
    return part * 2


def _helped(weights: Any, rate: Any) -> Any:
    def inner(part: Any) -> Any:
        return _doubled(part)

    return [inner(weights["0.bias"]).sum() * rate, weights["0.bias"].ndim]


def _pid() -> Any:
    import os

    return os.getpid()


def _modules() -> Any:
    import sys

    print("torch" in sys.modules, "fnlib" in sys.modules, "→")
    return 0


def _fails(x: Any) -> Any:
    import math

    return math.sqrt(x)


def _unknown() -> Any:
    return somewhere_else  # type: ignore[name-defined]  # noqa: F821  # a name of the notebook


def _platform() -> Any:
    import os

    print(os.environ["JAX_PLATFORMS"])
    return 0


def test_arguments_arrive_and_helpers_come_along() -> None:
    """A dictionary of tensors, a number, and a function that a nested function calls."""
    weights = {"0.bias": torch.tensor([1.0, 2.0])}
    assert teaching.in_subprocess(_helped, weights, 0.5) == [3.0, 1.0]


def test_it_is_another_process_without_torch(capsys: pytest.CaptureFixture[str]) -> None:
    assert teaching.in_subprocess(_pid) != os.getpid()
    teaching.in_subprocess(_modules)
    assert capsys.readouterr().out == "False False →\n"


@pytest.mark.parametrize(
    ("function", "arguments", "said"),
    [
        (_fails, (-1.0,), "`return math.sqrt(x)` raised ValueError: "),
        (_unknown, (), "raised NameError: name 'somewhere_else' is not defined"),
    ],
    ids=["an error", "a name of the notebook"],
)
def test_an_error_says_where(function: Any, arguments: Any, said: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        teaching.in_subprocess(function, *arguments)
    assert str(caught.value).startswith("In the other process, `") and said in str(caught.value)


STOPPED = """
[rank1]: Traceback (most recent call last):
[rank1]:   File "train.py", line 20, in run
[rank1]:     output = model(feature)
[rank1]:              ^^^^^^^^^^^^^^
[rank1]: fnlib.errors.StateDropped: This pass drops the change.

[rank1]:     output = model(feature)   # wrong
[rank1]: To keep the statistics, call model.eval().
[rank0]: Traceback (most recent call last):
[rank0]: RuntimeError: Connection closed by peer
E1128 23:35:55 api.py:1002] failed (exitcode: 1)
Traceback (most recent call last):
  File "run.py", line 1032, in <module>
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
"""
CHAINED = """Traceback (most recent call last):
  File "program.py", line 2, in f
KeyError: 'weight'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "program.py", line 4, in f
ValueError: no weight
See the notes.
"""


@pytest.mark.parametrize(
    ("stderr", "error"),
    [
        (STOPPED, "fnlib.errors.StateDropped: This pass drops the change."),
        (CHAINED, "ValueError: no weight"),
        (CHAINED.replace("During handling of the above", "The above"), "KeyError: 'weight'"),
        (
            CHAINED.replace(
                "During handling of the above exception, another exception occurred",
                "The above exception was the direct cause of the following exception",
            ),
            "ValueError: no weight",
        ),
        (
            f"{CHAINED}During handling of notes, read on.\nThe above exception was noted.\n",
            "ValueError: no weight",
        ),
        ("Killed\n", ""),
        ("None", ""),
    ],
    ids=[
        "two ranks",
        "handling",
        "two errors",
        "cause",
        "its own words",
        "killed",
        "nothing written",
    ],
)
def test_the_error_that_stopped_a_process(stderr: str, error: str) -> None:
    """The child's own, not the one that torchrun raises for it, nor one that led to it."""
    assert teaching.error_in(stderr) == error


def test_jax_stays_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unless the user says otherwise."""
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    teaching.in_subprocess(_platform)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    teaching.in_subprocess(_platform)
    assert capsys.readouterr().out == "cpu\ncuda\n"


def test_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    teaching.in_subprocess(_pid)
    assert not list(tmp_path.iterdir())
