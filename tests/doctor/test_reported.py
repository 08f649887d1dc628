"""The doctor finds faults that people have reported, however they are written, and no corrected one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doctor.quiet_reports import QUIET
from tests.doctor.reported_loops import HEAD, REPORTS, Report
from tests.doctor.test_effects import asked


@pytest.mark.parametrize("one", REPORTS, ids=lambda one: one.name.replace(" ", "_")[:40])
def test_report_and_correction(
    one: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault is found by its code at its line or that of its effect; the corrected script is clean."""
    report = asked(tmp_path, one.bug, monkeypatch)
    lines = one.bug.splitlines()
    at = [lines[found.line - 1] for found in report if found.code == one.code]
    assert any(mark in line for mark in one.at for line in at), report.text()
    healthy = asked(tmp_path, one.correct, monkeypatch)
    assert not healthy, healthy.text()


@pytest.mark.parametrize("name", QUIET)
def test_like_a_report_and_sane(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sane script with the words or the form of a reported fault has no finding at all."""
    report = asked(tmp_path, HEAD + QUIET[name], monkeypatch)
    assert not report, report.text()
