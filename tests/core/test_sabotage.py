"""A few of the breakages of sabotage.py, one of each promise: the whole table is `python -m tests.core.sabotage`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.core.breakages import find
from tests.core.sabotage import ROOT, TABLE, chosen

PROMISES = range(1, 11)  # 9 and 10 are the design's histories and values over machines
SAMPLE = [next(row.name for row in TABLE if row.promise == promise) for promise in PROMISES]


def test_every_promise_is_broken_in_several_ways() -> None:
    assert min(Counter(row.promise for row in TABLE).values()) >= 3 and {
        row.promise for row in TABLE
    } == set(PROMISES)
    assert len({row.name for row in TABLE}) == len(TABLE)


def test_what_is_to_be_broken_is_there() -> None:
    """Each function and each test is there, so no breakage goes out of date unseen."""
    for row in TABLE:
        assert row.breakage.paths and row.tests, row.name
        for path in row.breakage.paths:
            find(path)
        for test in row.ids:
            file, _, name = test.partition("::")
            text = (ROOT / file).read_text()
            assert f"def {name.partition('[')[0]}(" in text, test


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="breakages run in forked processes")
def test_a_breakage_of_each_promise_is_noticed() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "tests.core.sabotage", *SAMPLE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert found.returncode == 0 and f"of {len(chosen(SAMPLE))} breakages" in found.stdout, (
        found.stdout + found.stderr
    )
