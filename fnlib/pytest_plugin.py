"""The pytest plugin: a fixture `ledger` that records what the code under test changes.

pytest loads this file at every start, so PyTorch is imported only when a test asks for the fixture.
"""

from __future__ import annotations

from collections.abc import Generator
from importlib import import_module
from typing import Any

import pytest

LINES = 60  # of a table in the report of a failed test


@pytest.fixture
def ledger() -> Any:
    """Record a block of a test: ``with ledger(model, optimizer): train(model, optimizer)``.

    Afterwards ask the recording: ``ledger.changed("weight")`` is a set of labels;
    ``ledger.assert_no_findings()`` and ``ledger.assert_no_action_at_a_distance()`` fail with file and line.
    """
    return import_module("fnlib.ledger.testing").Recorder()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what was recorded below a test that failed."""
    report = yield
    recorder: Any = getattr(item, "funcargs", {}).get("ledger")
    if call.when == "call" and report.failed and getattr(recorder, "recordings", None):
        lines = str(recorder.last).splitlines()
        more = [f"  ... and {len(lines) - LINES} more lines"] if len(lines) > LINES else []
        report.sections.append(("ledger", "\n".join([*lines[:LINES], *more])))
    return report
