"""`.venv` is made whole or not at all, and what goes wrong is said in one sentence."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools import environment, kit
from tools.say import ROOT, Stop


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout as small as can be, in a folder whose name has a space and a letter that is not ASCII."""
    folder = tmp_path / "the kit, modèle"
    shutil.copytree(ROOT / "tools", folder / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "pyproject.toml", folder / "pyproject.toml")
    (folder / "lessons").mkdir()
    (folder / "requirements.txt").write_text("nothing-of-that-name==1.0\n")
    return folder


def settings(index: str) -> dict[str, str]:
    """The environment of a machine whose only package index is this address."""
    kept = {
        name: value for name, value in os.environ.items() if not name.upper().startswith("PIP_")
    }
    # CUDA=1: no probe of another index, which would go around the address
    return dict(kept, PIP_CONFIG_FILE=os.devnull, PIP_INDEX_URL=index, PIP_RETRIES="1", CUDA="1")


def lab(checkout: Path, index: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "tools/kit.py", "lab"],
        cwd=checkout,
        env=settings(index),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_without_a_network_one_sentence_and_nothing_left(checkout: Path) -> None:
    with lab(checkout, "http://127.0.0.1:9/simple") as process:
        errors = process.communicate(timeout=120)[1]
    assert process.returncode == 1
    assert (
        "the packages could not be downloaded: check the network and call again"
        in errors.splitlines()[-1]
    )
    assert not (checkout / ".venv").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_installation_does_not_count(checkout: Path, how: signal.Signals) -> None:
    """An interrupted installation doesn't count as a finished one."""
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and never answers: pip waits
        process = lab(checkout, f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        silent.settimeout(60)
        connection = silent.accept()[0]
        process.send_signal(how)
        with connection:
            errors = process.communicate(timeout=60)[1]
    if how == signal.SIGINT:
        assert process.returncode == 130 and errors.splitlines()[-1] == "lab: stopped."
        assert not (checkout / ".venv").exists()
    else:  # nothing can clean up after a kill: the next call must see that it has to begin anew
        assert (checkout / ".venv" / "unfinished").exists()
        (checkout / ".venv" / "left over").touch()
        with lab(checkout, "http://127.0.0.1:9/simple") as process:
            process.communicate(timeout=120)
        assert process.returncode == 1
        assert not (checkout / ".venv").exists()


def test_a_finished_environment_is_used_again_without_installing(
    monkeypatch: pytest.MonkeyPatch, checkout: Path
) -> None:
    point_to(monkeypatch, checkout)
    calls: list[object] = []
    monkeypatch.setattr(environment, "pip", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(environment.torch_source, "pip_options", lambda python: [])
    assert environment.ensure(["requirements.txt"]) == str(environment.PYTHON)
    assert len(calls) == 2
    start = time.monotonic()
    environment.ensure(["requirements.txt"])
    assert len(calls) == 2 and time.monotonic() - start < 5
    (checkout / "requirements.txt").write_text(
        "another==1.0\n"
    )  # new pins: installed over the old ones
    environment.ensure(["requirements.txt"])
    assert len(calls) == 4
    shutil.move(checkout, checkout.with_name("moved"))  # its scripts name the old folder: made anew
    point_to(monkeypatch, checkout.with_name("moved"))
    environment.ensure(["requirements.txt"])
    assert len(calls) == 6


def test_an_environment_of_the_user_is_never_removed(
    monkeypatch: pytest.MonkeyPatch, checkout: Path
) -> None:
    point_to(monkeypatch, checkout)
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "mine").touch()
    with pytest.raises(Stop, match="was made by something else"):
        environment.ensure(["requirements.txt"])
    assert (checkout / ".venv" / "mine").exists()


def test_a_folder_that_cannot_be_written_is_said_so(
    monkeypatch: pytest.MonkeyPatch, checkout: Path
) -> None:
    point_to(monkeypatch, checkout)
    (checkout / ".venv.lock").mkdir()  # opening it to write fails, for the superuser too
    with pytest.raises(Stop, match="cannot be written: copy it to a folder of your own"):
        environment.ensure(["requirements.txt"])


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "the disk is full",
        ),
        (
            "WARNING: Retrying ... NewConnectionError(...)\nERROR: No matching distribution found for torch==2.13.0",
            "check the network",
        ),
        (
            "ERROR: No matching distribution found for torch==2.13.0",
            "there is no torch==2.13.0 for Python 3.",
        ),
        (
            "ERROR: something new",
            "pip could not install the packages (ERROR: something new); all it said is in",
        ),
    ],
)
def test_what_stops_pip_becomes_one_sentence(output: str, sentence: str) -> None:
    said = environment.explain(output.splitlines())
    assert sentence in said and "\n" not in said


def test_an_old_python_gets_to_the_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ast.parse(
        (ROOT / "tools" / "kit.py").read_text(), feature_version=(3, 4)
    )  # no syntax that stops it before
    monkeypatch.setattr(sys, "version_info", (3, 8, 18))
    monkeypatch.setattr(kit, "another_python", lambda: None)
    assert kit.main(["lab"]) == 1
    said = capsys.readouterr().err
    assert (
        said.startswith("This kit needs Python 3.11 to 3.14 and found only 3.8")
        and said.count("\n") == 1
    )


def test_an_old_python_hands_over_to_a_newer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 8, 18))
    monkeypatch.setattr(kit, "another_python", lambda: ["python3.12"])
    called: list[list[str]] = []
    monkeypatch.setattr(subprocess, "call", lambda command: called.append(command) or 7)
    assert kit.main(["lab"]) == 7
    assert called == [["python3.12", str(ROOT / "tools" / "kit.py"), "lab"]]


def test_the_supported_pythons_are_said_once_everywhere() -> None:
    assert [kit.supported((3, minor)) for minor in (10, 11, 14, 15)] == [False, True, True, False]
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not on this machine")
def test_make_without_a_python_says_so() -> None:
    done = subprocess.run(["make", "lab", "PYTHON="], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and done.stderr.startswith("There is no Python on this machine")


def point_to(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Makes the environment's module work in another checkout."""
    venv = folder / ".venv"
    monkeypatch.setattr(environment, "ROOT", folder)
    monkeypatch.setattr(environment, "VENV", venv)
    monkeypatch.setattr(environment, "STAMP", venv / "kit.json")
    monkeypatch.setattr(environment, "UNFINISHED", venv / "unfinished")
    monkeypatch.setattr(
        environment, "PYTHON", venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    )


def test_the_news_question_is_answered_for_the_learner(
    monkeypatch: pytest.MonkeyPatch, checkout: Path
) -> None:
    point_to(monkeypatch, checkout)
    monkeypatch.setattr(environment, "pip", lambda *arguments: None)
    monkeypatch.setattr(environment.torch_source, "pip_options", lambda python: [])
    environment.ensure(["requirements.txt"])
    overrides = json.loads(
        (checkout / ".venv/share/jupyter/lab/settings/overrides.json").read_text()
    )
    assert overrides["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"
