"""What a learner has passed is kept in a small file, and shown as a table."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import pytest

from fnlib import teaching
from fnlib.teaching import passed
from fnlib.teaching.exercises import exercises


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(passed.VARIABLE, str(tmp_path / passed.NAME))
    monkeypatch.setattr(passed, "_session", {})
    return tmp_path / passed.NAME


def keep(model: object) -> object:
    return copy.deepcopy(model.state_dict())  # type: ignore[attr-defined]


def test_a_passed_exercise_is_noted_and_a_failed_one_is_not(kept: Path) -> None:
    teaching.check("00-keep-best", lambda model: model.state_dict())
    assert not kept.exists() and not any(teaching.progress().days.values())
    teaching.check("00-keep-best", keep)
    shown = teaching.progress()
    assert kept.is_file() and list(passed.passed()) == ["00-keep-best"]
    assert shown.total == f"You've passed 1 of {len(exercises())} exercises."
    assert "✓ 00-keep-best" in repr(shown) and "○ 01-blank-ledger" in repr(shown)
    assert "✓ keep-best" in shown._repr_html_() and kept.name in shown.where


def test_another_session_goes_on_from_the_file(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.write_text('{"00-keep-best": "2026-01-02"}', encoding="utf-8")
    teaching.check("00-keep-best", keep)
    assert passed.passed() == {"00-keep-best": "2026-01-02"}


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"00-keep-best": 3}'])
def test_a_file_that_cannot_be_read_is_empty(kept: Path, text: str) -> None:
    kept.write_text(text, encoding="utf-8")
    assert not any(teaching.progress().days.values())
    teaching.check("00-keep-best", keep)
    assert list(passed.passed()) == ["00-keep-best"]


def test_without_a_file_the_session_remembers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A read-only folder: the check passes, and the list says how long it lasts."""
    monkeypatch.setenv(passed.VARIABLE, str(tmp_path / "not there" / passed.NAME))
    monkeypatch.setattr(passed, "_session", {})
    assert teaching.check("00-keep-best", keep).passed
    shown = teaching.progress()
    assert shown.days["00-keep-best"] and "ends with your session" in shown.where
    assert not list(tmp_path.iterdir())


def test_complete_lessons_note_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(passed.VARIABLE, raising=False)
    (tmp_path / "solutions").mkdir()
    monkeypatch.chdir(tmp_path / "solutions")
    monkeypatch.setattr(passed, "LESSONS", tmp_path)
    teaching.check("00-keep-best", keep)
    assert os.listdir(tmp_path) == ["solutions"] and "complete lessons" in teaching.progress().where
    monkeypatch.chdir(tmp_path)
    teaching.check("00-keep-best", keep)
    assert (tmp_path / passed.NAME).is_file()
