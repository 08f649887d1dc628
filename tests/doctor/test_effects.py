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
    path = folder / f"train_{len(list(folder.glob('train_*')))}.py"  # Python remembers the lines
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
