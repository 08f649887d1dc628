"""What is written behind a command: a question is answered, a setting is taken as make takes it, the rest is not guessed at."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tools import commands, kit, lab, offline
from tools.say import ROOT


@pytest.fixture(autouse=True)
def nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*arguments: object, **more: object) -> int:
        raise AssertionError("the command was started")

    for name in ("PORT", "PLATFORM", "PYTHON_VERSION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(
        os, "environ", dict(os.environ)
    )  # the settings that a command takes end with the test
    for module, name in ((commands, "ensure"), (offline, "ensure"), (lab, "open_lessons")):
        monkeypatch.setattr(module, name, started)


@pytest.mark.parametrize("command", kit.COMMANDS)
@pytest.mark.parametrize("question", ["--help", "-h", "help"])
def test_help_is_the_usage_and_starts_nothing(
    command: str, question: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kit.main([command, question]) == 0
    said = capsys.readouterr()
    assert (
        said.out.startswith(f"python tools/kit.py {command}")
        and said.out.count("\n") == 1
        and not said.err
    )


def test_each_command_has_a_usage_and_each_setting_is_known() -> None:
    """Each command has a usage line, and some usage line names each setting."""
    assert set(commands.USAGE) == set(kit.COMMANDS)
    for setting in commands.SETTINGS:
        assert any(f"{setting}=" in usage for usage in commands.USAGE.values())


@pytest.mark.parametrize(
    "arguments",
    [
        ["lab", "8899"],
        ["lab", "--port=8899"],
        ["offline", "windows"],
        ["map", "x"],
        ["lab", "PLATFORM=macos"],
    ],
)
def test_what_a_command_does_not_know_is_said_and_nothing_starts(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert kit.main(arguments) == 2
    said = capsys.readouterr().err
    assert (
        said.startswith(
            f"{arguments[0]}: {arguments[1]} is not understood; the whole command is: python"
        )
        and said.count("\n") == 1
    )


@pytest.mark.parametrize("command", ["laboratory", "--port", ""])
def test_an_unknown_command_is_said_in_one_sentence(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kit.main([command]) == 2
    said = capsys.readouterr().err
    assert (
        said.startswith(f"There is no command {command}: choose one of lab, test,")
        and said.count("\n") == 1
    )


def test_a_setting_behind_the_command_is_the_one_that_make_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "ensure", lambda requirements: sys.executable)
    monkeypatch.setattr(lab, "open_lessons", lambda python: int(os.environ["PORT"]))
    assert kit.main(["lab", "PORT=8899"]) == 8899
    assert kit.main(["offline", "PLATFORM=amiga"]) == 1
    assert "PLATFORM=amiga is not known" in capsys.readouterr().err


def test_what_is_imported_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's PYTHONDONTWRITEBYTECODE would cost each process two to seven seconds."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr(commands, "ensure", lambda requirements: "python")
    code = "import sys; sys.exit(sys.dont_write_bytecode)"
    monkeypatch.setattr(
        commands.checks,
        "run_all",
        lambda *_: subprocess.call([sys.executable, "-c", code], env=os.environ),
    )
    assert kit.main(["test"]) == 0


def test_what_belongs_to_pytest_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(commands, "ensure", lambda requirements: "python")
    monkeypatch.setattr(
        commands.checks, "run_all", lambda python, arguments: seen.append(arguments) or 0
    )
    assert kit.main(["test", "tests/ledger", "-k", "a=b"]) == 0
    assert seen == [["tests/ledger", "-k", "a=b"]]


def test_the_file_is_a_command_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "tools/kit.py", "lab", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 and done.stdout == "python tools/kit.py lab [PORT=8899] [CUDA=1]\n"
