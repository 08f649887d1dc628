"""The doctor finds faults that come long after the first steps, and asks of no correct twin."""

from __future__ import annotations

from pathlib import Path

import pytest

from fnlib.ledger import Ledger
from fnlib.ledger.doctor.report import Report
from fnlib.ledger.doctor.script import record, report_on
from fnlib.ledger.findings import find
from tests.doctor.late_loops import LATE, Late

STEPS = 40  # that are recorded in a row


def asked(folder: Path, name: str, text: str) -> tuple[Report, Ledger]:
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    ledger, limits, status = record(str(path), [], steps=STEPS)
    assert status == 0 and ledger.failure is None and not ledger.faults
    return report_on(ledger, limits), ledger


@pytest.mark.parametrize("one", LATE, ids=lambda one: one.name.replace(" ", "_")[:60])
def test_late_fault_and_correction(one: Late, tmp_path: Path) -> None:
    """The fault is found at its line, and not by the first steps alone; the twin is clean."""
    report, ledger = asked(tmp_path, "fault", one.bug)
    at = [found.line for found in report if found.code == one.code]
    assert set(at) & set(one.lines), report.text()
    first = [entry.kind for entry in ledger.entries].index("gap")
    assert one.code not in [found.code for found in find(ledger.entries[:first])]
    healthy, _ = asked(tmp_path, "correction", one.corrected)
    assert not healthy, healthy.text()
