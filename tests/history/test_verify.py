"""A run is replayed: the same bits, or the first state, tensor and element that differ."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fnlib
from fnlib.values import store
from tests.history.runs import ModelFactory, kept, states, step

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("every", [1, 3])
def test_a_run_that_repeats(every: int, tmp_path: Path) -> None:
    kept(tmp_path, states(7), every=every)
    found = fnlib.History(tmp_path, step=step).verify()
    assert found and found.steps == 6 and found.index is None
    assert repr(found) == "Bit for bit: 6 steps replayed"


def test_nothing_to_replay(tmp_path: Path) -> None:
    assert repr(fnlib.History(tmp_path, step=step).verify()) == "Bit for bit: 0 steps replayed"


def moved(tensor: torch.Tensor, *element: int) -> torch.Tensor:
    """Change the last bit of one element."""
    tensor = tensor.clone()
    bits = tensor.view(torch.int32)
    bits[element] ^= 1
    return tensor


def changed(value: fnlib.Parameters, part: str, change: Callable[[Any], Any]) -> fnlib.Parameters:
    """Change one part of a value in place of a copy of it."""
    if part in value:
        return value.replace(weights={part: change(value[part])})
    if part in value.buffers:
        return value.replace(buffers={part: change(value.buffers[part])})
    state = value.optimizer_state
    inner = state["state"]["0.bias"] if part == "exp_avg" else state
    inner[part] = change(inner[part])
    return value.replace(optimizer_state=state)


STATE = "parameters.optimizer_state"
# The part of state 4 that changed, what happened to it, the name that is shown, the element, how
# many of its elements differ.
Row = tuple[str, Callable[[Any], Any], str, tuple[int, ...] | None, tuple[int, int]]
CHANGED: dict[str, Row] = {
    "a weight": ("3.weight", lambda w: moved(w, 1, 2), "parameters['3.weight']", (1, 2), (1, 6)),
    "all of a weight": ("0.bias", lambda w: w + 1, "parameters['0.bias']", (0,), (3, 3)),
    "signs": ("0.bias", torch.neg, "parameters['0.bias']", (0,), (3, 3)),
    "a buffer": (
        "1.running_var",
        lambda b: moved(b, 2),
        "parameters.buffers['1.running_var']",
        (2,),
        (1, 3),
    ),
    "a counter": (
        "1.num_batches_tracked",
        lambda b: b + 1,
        "parameters.buffers['1.num_batches_tracked']",
        (),
        (1, 1),
    ),
    "a moment": (
        "exp_avg",
        lambda m: moved(m, 1),
        f"{STATE}['state']['0.bias']['exp_avg']",
        (1,),
        (1, 3),
    ),
    "a rate": (
        "param_groups",
        lambda groups: [{**groups[0], "lr": 0.5}],
        f"{STATE}['param_groups'][0]['lr']",
        None,
        (0, 0),
    ),
    "a shape": (
        "exp_avg",
        lambda m: torch.zeros(2),
        f"{STATE}['state']['0.bias']['exp_avg']",
        None,
        (0, 0),
    ),
    "a container": ("param_groups", tuple, STATE, None, (0, 0)),
}
SAID = {
    (1, 1): "1 of 1 element differs here",
    (1, 3): "1 of 3 elements differs here",
    (1, 6): "1 of 6 elements differs here",
    (3, 3): "3 of 3 elements differ here",
}


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("what", CHANGED)
def test_the_first_difference_is_named(what: str, every: int, tmp_path: Path) -> None:
    values = states(8)
    part, change, name, element, count = CHANGED[what]
    values[4] = changed(values[4], part, change)
    found = kept(tmp_path, values, every=every, step=step).verify()
    assert not found and found.index == 4 and found.steps == 4
    difference = found.difference
    assert difference is not None and difference.name == name
    assert difference.element == element and difference.count == count
    text = repr(found)
    assert "State 4 differs" in text and difference.stored in text
    differ, entries = difference.tensors
    verb = "differs" if differ == 1 else "differ"
    assert f"{differ} of {entries} entries of the state {verb}" in text
    assert SAID.get(count, "") in text
    assert "The environment is the same: look for randomness or data" in text
    assert "State 4 differs" in found._repr_html_()


def test_a_rule_that_started_afresh_is_named(tmp_path: Path) -> None:
    values = states(3)
    values[2] = values[2].replace(optimizer_state=None)
    found = kept(tmp_path, values, step=step).verify()
    assert found.difference is not None and found.difference.name == STATE
    assert found.difference.stored == "None"


def test_bits_of_every_kind_of_number(tmp_path: Path) -> None:
    """Complex, half and small numbers, NaN and empty tensors have elements too."""
    for dtype in (torch.complex64, torch.bfloat16, torch.float64, torch.int8, torch.bool):
        value = torch.zeros(2, 3, dtype=dtype)
        other = value.clone()
        other[1, 0] = 1
        one = fnlib.Parameters.from_module(nn.Linear(1, 1)).replace(optimizer_state=[value.mT])
        two = one.replace(optimizer_state=[other.mT])
        folder = tmp_path / str(dtype)
        found = kept(folder, [one, two], step=lambda parameters, i, one=one: one).verify()
        assert found.difference is not None and found.difference.element == (0, 1)
        assert str(found.difference) == "parameters.optimizer_state[0][0, 1]"


def test_what_differs_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = states(3)
    values[2] = values[2].replace(weights={"0.bias": values[2]["0.bias"] + 1})
    here = store.environment()
    there = {**here, "torch": "2.99.0", "threads": "64", "accelerator": "abacus"}
    with monkeypatch.context() as patch:
        patch.setattr(store, "environment", lambda: there)
        kept(tmp_path, values)
    found = fnlib.History(tmp_path, step=step).verify()
    assert found.environment == {
        "torch": ("2.99.0", here["torch"]),
        "threads": ("64", here["threads"]),
        "accelerator": ("abacus", ""),
    }
    lines = repr(found).splitlines()
    assert any(line.split() == ["threads", "64", here["threads"]] for line in lines)
    assert "The environment is the same" not in repr(found)


def test_hidden_randomness_is_found(tmp_path: Path) -> None:
    """A step that draws from the global generator doesn't repeat."""

    def careless(parameters: fnlib.Parameters, i: int) -> fnlib.Parameters:
        model = ModelFactory(parameters)  # dropout without seed=
        output, buffers = model.with_buffers(torch.ones(6, 4))
        return model.step(model.backward(output.square().mean()), buffers=buffers)

    values = states(1)
    for i in range(3):
        values.append(careless(values[-1], i))
    found = kept(tmp_path, values, step=careless).verify()
    assert found.index == 1 and found.difference is not None


def test_a_damaged_state_is_an_error(tmp_path: Path) -> None:
    kept(tmp_path, states(3))
    (tmp_path / "000001.safetensors").write_bytes(b"")
    with pytest.raises(fnlib.DamagedHistory, match="000001"):
        fnlib.History(tmp_path, step=step).verify()


@pytest.mark.long
def test_the_command(tmp_path: Path) -> None:
    """0: the same bits; 1: the first difference; 2: nothing could be compared."""
    values = states(4)
    kept(tmp_path / "good", values)
    changed = values[2].replace(weights={"0.bias": values[2]["0.bias"] + 1})
    kept(tmp_path / "bad", [*values[:2], changed, values[3]])
    (tmp_path / "broken.py").write_text("def step(parameters, i):\n    raise OverflowError\n")
    here = "tests.history.runs:step"
    for run, name, status, says in (
        ("good", here, 0, "Bit for bit: 3 steps replayed"),
        ("bad", here, 1, "parameters['0.bias'][0]"),
        ("good", "broken:step", 2, "OverflowError"),
        ("good", "nowhere:step", 2, "nowhere"),
        ("good", "broken:walk", 2, "walk"),
        ("none", here, 2, "none is no history"),
        ("good", "tests.history.runs:CALLS", 2, "step= takes a function"),
    ):
        command = [sys.executable, "-m", "fnlib", "verify", str(tmp_path / run), "--step", name]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert says in done.stdout + done.stderr
