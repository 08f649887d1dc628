"""The doctor's questions find members of their families that nobody has reported."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from fnlib.ledger import Finding
from fnlib.ledger.doctor.report import FIRST, Report
from fnlib.ledger.doctor.script import record, report_on
from tests.doctor.loops import CASES, PRELUDE, Case
from tests.doctor.quiet_loops import QUIET


def asked(folder: Path, text: str) -> Report:
    path = folder / "train.py"
    path.write_text(text, encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ledger, limits, status = record(str(path), [])
    assert status == 0 and ledger.failure is None and not ledger.faults
    return report_on(ledger, limits)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "_")[:40])
def test_fault_and_correction(case: Case, tmp_path: Path) -> None:
    """The fault is found by its code at its line; the corrected script is clean."""
    report = asked(tmp_path, case.bug)
    found = [one for one in report if one.code == case.code]
    assert found, report.text()
    lines = case.bug.splitlines()
    assert any(case.at in lines[one.line - 1] for one in found), report.text()
    healthy = asked(tmp_path, case.correct)
    assert not healthy, healthy.text()


@pytest.mark.parametrize("name", QUIET)
def test_a_sane_loop_is_quiet(name: str, tmp_path: Path) -> None:
    """A sane script that looks like a fault has no finding at all."""
    report = asked(tmp_path, PRELUDE + QUIET[name])
    assert not report, report.text()


def test_three_findings_are_written_in_full() -> None:
    """The first three are written in full, the rest in a line each that keeps its form."""
    findings = [
        Finding(f"code-{n}", "question", n, "model", "It happened.", "It matters.", "fix()")
        for n in range(1, 6)
    ]
    report = Report(findings)
    assert FIRST == 3
    assert report.text().count("It happened.") == 3
    lines = report.text().splitlines()
    assert lines[-3:] == [
        "2 more, each in one line:",
        "QUESTION code-4, line 4, model",
        "QUESTION code-5, line 5, model",
    ]
    assert report.text(whole=True).count("It happened.") == 5
