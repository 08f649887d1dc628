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
