"""A user's type checker knows the public names: a small program passes, and a wrong line in it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.say import ROOT

PROGRAM = """\
from typing import assert_type

import torch
from torch import nn

import fnlib

factory = fnlib.Sequential(nn.Linear(4, 2), optimizer=fnlib.SGD(lr=0.1))
start = fnlib.Parameters(seed=0)
model = factory(start)
assert_type(start, fnlib.Parameters)
assert_type(model, fnlib.Model)
loss = nn.functional.mse_loss(model(torch.ones(3, 4)), torch.zeros(3, 2))
gradient = model.backward(loss)
assert_type(gradient, fnlib.Gradient)
parameters = model.step(gradient.clip_norm(1.0))
assert_type(parameters, fnlib.Parameters)
assert_type(parameters["0.weight"], torch.Tensor)
assert_type(parameters.step_count, int)
with fnlib.Ledger(model=nn.Linear(2, 2)) as ledger:
    pass
assert_type(ledger.findings[0].code, str)
"""
CHECKERS = {
    "mypy": [sys.executable, "-m", "mypy", "--strict"],
    "pyright": [
        str(Path(sys.executable).with_name("basedpyright")),
        "--level",
        "error",
        "--pythonpath",
        sys.executable,
    ],
}


@pytest.mark.long
@pytest.mark.parametrize("checker", CHECKERS)
def test_a_users_program_is_checked(tmp_path: Path, checker: str) -> None:
    """The program lies outside of the kit, as a user's does; `fnlib` is found as an installed package is."""
    right, wrong = tmp_path / "right.py", tmp_path / "wrong.py"
    right.write_text(PROGRAM)
    wrong.write_text(
        PROGRAM + 'parameters.step_count = "seven"\nmodel.step(gradient, donate="yes")\n'
    )
    for path, status in ((right, 0), (wrong, 1)):
        done = subprocess.run(
            [*CHECKERS[checker], str(path)],
            cwd=tmp_path,
            env=dict(os.environ, MYPYPATH=str(ROOT), PYTHONPATH=str(ROOT)),
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stdout + done.stderr
    assert done.stdout.count("error") >= 2
