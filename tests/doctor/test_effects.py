"""The doctor finds faults of evaluation, effect, copy and checkpoint, and asks of no sane loop."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from fnlib.ledger.doctor.report import Report
from fnlib.ledger.doctor.script import record, report_on
from tests.doctor.effect_loops import CASES, HEAD, LOOP, Case
from tests.doctor.quiet_effects import QUIET


def asked(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Report:
    monkeypatch.chdir(folder)
    path = folder / "train.py"
    path.write_text(text, encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ledger, limits, status = record(str(path), [])
    assert status == 0 and ledger.failure is None and not ledger.faults
    return report_on(ledger, limits)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_fault_and_correction(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is found at its line or that of its effect; the corrected script is clean."""
    report = asked(tmp_path, case.bug, monkeypatch)
    at = [one.line for one in report if one.code == case.code]
    assert set(at) & set(case.lines), report.text()
    healthy = asked(tmp_path, case.corrected, monkeypatch)
    assert not healthy, healthy.text()


@pytest.mark.parametrize("name", QUIET)
def test_a_sane_loop_is_quiet(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sane script that looks like a fault has no finding at all."""
    report = asked(tmp_path, HEAD + LOOP + QUIET[name], monkeypatch)
    assert not report, report.text()


TRAIN = "train(model, torch.optim.Adam(model.parameters(), lr=1e-2))\n"
OWN = {
    "kept in training": (
        "model = mlp()\n"
        + TRAIN
        + "best = dict(model.state_dict())\nmodel.load_state_dict(best)\n",
        "a kept one changes along with the model",
        "best = copy.deepcopy(model.state_dict())",
    ),
    "kept in training, without a name": (
        "model = mlp()\n" + TRAIN + "kept = {1: {**model.state_dict()}}\n"
        "result = model.load_state_dict(kept[1])\n",
        "a kept one changes along with the model",
        "best = copy.deepcopy(model.state_dict())      # where kept[1] is made",
    ),
    "from a checkpoint": (
        "model = mlp()\nown = model.state_dict()\nmodel.load_state_dict(own)\n" + TRAIN,
        "no name of the checkpoint",
        "model.load_state_dict(checkpoint)",
    ),
}


@pytest.mark.parametrize("name", OWN)
def test_own_values_loaded_are_told_apart(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a load before any training speaks of a checkpoint and its prefix."""
    script, because, fix = OWN[name]
    report = asked(tmp_path, HEAD + LOOP + script, monkeypatch)
    found = [one for one in report if one.code == "load-without-effect"]
    assert len(found) == 1, report.text()
    text = " ".join(str(found[0].why).split()) + str(found[0].fix)
    assert because in text and fix in text, text
    assert ("prefix" in text) == (name == "from a checkpoint")
