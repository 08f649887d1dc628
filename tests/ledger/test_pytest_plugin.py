"""The pytest plugin, as a user's test suite meets it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import entry_points

import pytest

from tests.museum.load import ROOT

pytest_plugins = ["pytester"]
HEAD = """
import pytest, torch
from torch import nn

@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())

@pytest.fixture
def optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)

def train(model, optimizer, clear=True):
    for _ in range(2):
        if clear:
            optimizer.zero_grad()
        loss = model(torch.ones(4, 2)).square().sum()
        loss.backward()
        optimizer.step()

def evaluate(model):
    with torch.no_grad():
        return model(torch.ones(4, 2))
"""
PASSES = """
def test_train(model, optimizer, ledger):
    with ledger(model, optimizer):
        train(model, optimizer)
    ledger.assert_no_findings(strict=True)
    ledger.assert_no_action_at_a_distance(besides=("backward", "step", "zero_grad", "forward"))
    assert ledger.changed("weight") <= {"model.0.weight", "model.0.bias", "model.1.weight", "model.1.bias"}
    assert ledger.changed("gradient", of="model.0") == {"model.0.weight.grad", "model.0.bias.grad"}
    assert ledger.changed() >= ledger.changed("weight", "buffer")
    assert ledger.counts.overwritten > 0

def test_evaluate(model, ledger):
    model.eval()
    with ledger(model):
        evaluate(model)
    assert ledger.changed() == set()
    ledger.assert_no_action_at_a_distance()

def test_two_recordings(model, ledger):
    with ledger(model):
        model.eval()
    with ledger(net=model):
        evaluate(model)
    assert ledger.changed() == set() and ledger.recordings[0].changed("mode flag")
"""
FAILS = """
def test_findings(model, optimizer, ledger):
    with ledger(model, optimizer):
        train(model, optimizer, clear=False)
    ledger.assert_no_findings()

def test_distance(model, optimizer, ledger):
    with ledger(model, optimizer):
        train(model, optimizer)
    ledger.assert_no_action_at_a_distance(besides=["step"])

def test_changed(model, ledger):
    with ledger(model):
        evaluate(model)
    assert ledger.changed() <= {"model.1.running_mean"}

def test_nothing(ledger):
    ledger.assert_no_findings()
"""


def run(pytester: pytest.Pytester, text: str) -> pytest.RunResult:
    pytester.makepyfile(HEAD + text)
    pytester.syspathinsert(ROOT)
    # in a process of its own, as PyTorch can't be imported twice
    there = any(point.name == "fnlib" for point in entry_points(group="pytest11"))
    plugin = [] if there else ["-p", "fnlib.pytest_plugin"]  # where fnlib is not installed
    return pytester.runpytest_subprocess(*plugin, "-p", "no:cacheprovider")


def test_what_holds_passes(pytester: pytest.Pytester) -> None:
    """A healthy loop and an evaluation pass, under the names of the test's own variables."""
    run(pytester, PASSES).assert_outcomes(passed=3)


def test_what_does_not_hold_fails_with_its_line(pytester: pytest.Pytester) -> None:
    """A failure says file, line and statement; the table of the recording is below it."""
    result = run(pytester, FAILS)
    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines([
        "*AssertionError: 1 finding",
        "*CERTAIN gradient-used-twice, *:18, model.0.weight and 3 more*",
        "*AssertionError: 2 statements change state whose owner they don't name:",
        "*:17  loss.backward()  changes *grad*",
        "*NothingRecorded: nothing has been recorded in this test.*",
    ])  # fmt: skip
    result.stdout.fnmatch_lines(["*- ledger -*", "Ledger of model*"])
    result.stdout.fnmatch_lines(["*Extra items in the left set*", "*model.1.running_var*"])


def test_the_plugin_is_found_and_light() -> None:
    """Installed, pytest finds it by its entry point; loading it imports no PyTorch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module = project["entry-points"]["pytest11"]["fnlib"]
    code = f"import sys, {module}; assert {module}.ledger; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "False\n", done.stderr
