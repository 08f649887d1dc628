"""`make test` cannot pass where a stage failed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import conftest
from tools import checks
from tools.say import ROOT


def run(monkeypatch: pytest.MonkeyPatch, broken: str) -> tuple[int, list[str]]:
    """Runs the stages with commands that do nothing, one of which fails."""
    seen: list[str] = []

    def stage(command: list[str], environment: dict[str, str]) -> tuple[int, float, str]:
        seen.append(" ".join(command[1:]))
        return int(broken in seen[-1]), 0.0, "done"

    monkeypatch.setattr(checks, "_run", stage)
    return checks.run_all(sys.executable), seen


@pytest.mark.parametrize(
    "broken",
    ["pip check", "ruff check", "mypy fnlib", "tests fnlib", "--nbval", "lessons/solutions"],
)
def test_one_failed_stage_fails_all_and_stops_none(
    monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    if broken in ("--nbval", "lessons/solutions") and not any((ROOT / "lessons").rglob("*.ipynb")):
        pytest.skip("there is no notebook yet")
    status, seen = run(monkeypatch, broken)
    assert (
        status == 1
        and any(broken in command for command in seen)
        and any("tests fnlib" in command for command in seen)
    )
    assert run(monkeypatch, "no such stage")[0] == 0


def test_the_complete_notebooks_also_run_rounded_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Last, and alone in what its kernels import: the stand-in must not reach another stage."""
    rounded: list[bool] = []

    def stage(command: list[str], environment: dict[str, str]) -> tuple[int, float, str]:
        startup = Path(environment["IPYTHONDIR"], "profile_default", "startup")
        rounded.append(any("other_processor" in file.read_text() for file in startup.iterdir()))
        return 0, 0.0, "done"

    monkeypatch.setattr(checks, "_run", stage)
    checks.run_all(sys.executable)
    assert rounded == [False] * (len(rounded) - 1) + [True]


def test_a_failing_command_is_seen(capfd: pytest.CaptureFixture[str]) -> None:
    status, _, last = checks._run(
        [sys.executable, "-c", "print('=== 3 failed in 1s ===\\n'); raise SystemExit(5)"], {}
    )
    assert (status, last) == (5, "3 failed in 1s")
    assert "3 failed" in capfd.readouterr().out  # streamed, not kept back


def test_notebooks_run_with_the_flags_that_were_measured() -> None:
    flags = " ".join(checks.NBVAL)
    for flag in (
        "-p tests.forked_kernels",
        "-n 3",
        "--nbval-current-env",
        "--dist loadfile",
        "--nbval-cell-timeout 120",
        "--nbval-sanitize-with tests/nbval_sanitize.cfg",
    ):
        assert flag in flags
    assert "--nbval-lax" not in flags  # stored outputs are compared


def test_the_long_files_and_notebooks_are_run_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every notebook is run all the same, and no file of the list is one that has gone."""
    _, seen = run(monkeypatch, "no such stage")
    for command, folders in zip(seen[-2:], (["."], ["solutions", "museum"]), strict=True):
        named = [Path(word) for word in command.split() if word.endswith(".ipynb")]
        there = {
            path.relative_to(ROOT)
            for folder in folders
            for path in (ROOT / "lessons" / folder).rglob("*.ipynb")
            if ".ipynb_checkpoints" not in path.parts
        }
        assert len(named) == len(there) and {*named} == there
        assert named[0].name[:2] in checks.LONGEST_NOTEBOOKS
    wanted = [ROOT / "tests" / name for name in conftest.LONGEST] + [Path(__file__)]
    items = [SimpleNamespace(path=path) for path in reversed(wanted)]
    conftest.pytest_collection_modifyitems(items)
    assert [item.path for item in items] == wanted and all(path.is_file() for path in wanted)
