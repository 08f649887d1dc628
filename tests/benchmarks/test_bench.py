"""The benchmark runs, measures both sides alike, and says so when a limit is passed. No test here is about speed."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.benchmarks import bench, loops
from tests.benchmarks.measure import QUICK, Effort, interleaved

ROOT = Path(__file__).parents[2]
CASES = 40


def test_every_line_of_the_table_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    command = [sys.executable, "-m", "tests.benchmarks.bench", "--quick", "--json", str(path)]
    run = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads(path.read_text())
    assert found["quick"] and found["machine"]["threads"] == 1 and len(found["lines"]) == CASES
    assert len(run.stdout.splitlines()) == CASES + 2
    for line in found["lines"]:
        jax_missing = "JAX" in line["case"] and importlib.util.find_spec("optax") is None
        if line["ratio"] is None:
            assert line["note"] and (
                jax_missing
                or "peak" in line["case"]
                or "extra" in line["case"]
                or "train_step" in line["case"] + line["note"]
            )
        else:
            assert line["ratio"] > 0 and line["ours"] > 0
            assert line["other"] is None or line["ratio"] == pytest.approx(
                line["ours"] / line["other"]
            )


def test_a_line_past_its_limit_is_measured_again_and_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A line past its limit is measured a second time before the benchmark fails."""
    asked: list[Effort] = []

    def slow(effort: Effort) -> list[bench.Line]:
        asked.append(effort)
        return [
            bench.Line("slow", 0.90, "us", 100.0, 95.0, 0.95),
            bench.Line("not here", 1.0, note="no such thing"),
        ]

    monkeypatch.setattr(bench, "MEASURES", {"slow": slow})
    assert bench.main(["--json", str(tmp_path / "bench.json")]) == 1
    assert [effort.rounds for effort in asked] == [Effort().rounds, 2 * Effort().rounds]
    line, missing = json.loads((tmp_path / "bench.json").read_text())["lines"]
    assert line["within"] is False and "first 0.95" in line["note"] and missing["within"] is None
    asked.clear()
    assert bench.main(["--quick", "--json", str(tmp_path / "bench.json")]) == 0 and asked == [QUICK]


def test_a_second_measurement_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ratios = iter([1.2, 0.8])
    monkeypatch.setattr(
        bench, "MEASURES", {"noisy": lambda effort: [bench.Line("noisy", 0.90, ratio=next(ratios))]}
    )
    assert bench.main(["--json", str(tmp_path / "bench.json")]) == 0


def test_a_limit_holds_as_it_is_printed() -> None:
    assert bench.Line("", 0.90, ratio=0.9049).within and str(
        bench.Line("", 0.90, ratio=0.9049)
    ).split()[1:] == ["0.90", "0.90", "yes"]
    assert not bench.Line("", 0.90, ratio=0.9051).within


def test_sides_take_as_many_steps_and_take_turns_at_going_first() -> None:
    """Both sides take equally many steps, and neither always goes first."""
    taken: list[str] = []
    collecting: set[bool] = set()

    def step(name: str) -> None:
        taken.append(name)
        collecting.add(gc.isenabled())

    medians = interleaved(
        {name: lambda name=name: step(name) for name in "abc"}, Effort(rounds=6, steps=2, warm_up=0)
    )
    assert taken[:18] == list("aabbccbbccaaccaabb") and len(taken) == 36
    assert collecting == {False} and gc.isenabled() and medians.keys() == set("abc")


def test_sides_that_do_not_compute_the_same_are_noticed() -> None:
    one = {"w": torch.ones(2)}
    for check in (loops.same_bits, loops.same_numbers):
        check(one, {"w": torch.ones(2)})
        with pytest.raises(AssertionError, match="do not compute the same"):
            check(one, {"w": torch.full((2,), 1.1)})
        with pytest.raises(AssertionError, match="do not compute the same"):
            check(one, {"v": torch.ones(2)})
