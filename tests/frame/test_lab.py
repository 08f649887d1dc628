"""What `make lab` opens, and what it says where it cannot."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import webbrowser
from pathlib import Path

import pytest

from tools import commands, lab
from tools.say import Stop


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment is the one that runs the tests; no server of the user is seen, no window is opened."""
    monkeypatch.setattr(commands, "ensure", lambda requirements: sys.executable)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setattr(webbrowser, "open", lambda address: True)
    monkeypatch.delenv("PORT", raising=False)


def test_a_taken_port_is_one_sentence_and_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("PORT", str(port))
        assert commands.run("lab", []) == 1
    assert capsys.readouterr().err == (
        f"lab: port {port} is taken by another program: call with another one, "
        f"for example make lab PORT={port + 11} (or python tools/kit.py lab PORT={port + 11}).\n"
    )


@pytest.mark.parametrize("port", ["eight", "0", "99999"])
def test_a_port_that_is_none(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    with pytest.raises(Stop, match="is not a port"):
        lab._free_port(port)


def test_the_first_lesson_is_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("04_values.ipynb", "00_where did it go.ipynb"):
        (tmp_path / "lessons").mkdir(exist_ok=True)
        (tmp_path / "lessons" / name).touch()
    started = started_command(monkeypatch, tmp_path)
    assert "--LabApp.default_url=/lab/tree/lessons/00_where%20did%20it%20go.ipynb" in started
    assert f"--ServerApp.root_dir={tmp_path}" in started
    assert (
        "--ServerApp.port_retries=0" in started
    )  # another port than the one that was said would be a surprise


def test_without_a_browser_the_address_is_for_another_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def none() -> None:
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(webbrowser, "get", none)
    (tmp_path / "lessons").mkdir()
    assert started_command(monkeypatch, tmp_path)
    said = capsys.readouterr().err
    assert (
        said.startswith("No browser was found on this machine: open the address")
        and said.count("\n") == 1
    )


def test_read_only_lessons_are_reported_at_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Report lessons that can't be saved before anybody changes them."""
    monkeypatch.setattr(webbrowser, "get", lambda: None)
    monkeypatch.setattr(
        os, "access", lambda path, mode: (path, mode) != (tmp_path / "lessons", os.W_OK)
    )  # the superuser may write all
    assert started_command(monkeypatch, tmp_path)
    said = capsys.readouterr().err
    assert (
        said.startswith(f"{tmp_path / 'lessons'} cannot be written: the lessons run, but")
        and said.count("\n") == 1
    )


def test_lessons_that_can_be_written_need_no_word(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(webbrowser, "get", lambda: None)
    (tmp_path / "lessons").mkdir()
    assert started_command(monkeypatch, tmp_path)
    assert capsys.readouterr().err == ""


def started_command(monkeypatch: pytest.MonkeyPatch, root: Path) -> list[str]:
    started: list[str] = []
    monkeypatch.setattr(lab, "ROOT", root)
    monkeypatch.setattr(lab, "LESSONS", root / "lessons")
    monkeypatch.setenv("PORT", str(a_free_port()))
    monkeypatch.setattr(os, "execv", lambda python, command: started.extend(command))
    monkeypatch.setattr(subprocess, "call", lambda command: started.extend(command))
    lab.open_lessons(sys.executable)
    return started


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_opened_twice_is_the_same_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two servers on one folder would save over each other."""
    root, opened = tmp_path / "kit", []
    root.mkdir()
    monkeypatch.setattr(lab, "ROOT", root)
    monkeypatch.setattr(lab, "LESSONS", root / "lessons")
    monkeypatch.setattr(webbrowser, "open", opened.append)
    port = a_free_port()
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "jupyter_server",
            "--no-browser",
            "--allow-root",
            f"--port={port}",
            "--ServerApp.port_retries=0",
            f"--ServerApp.root_dir={root}",
            "--IdentityProvider.token=secret",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not lab._answers(f"http://127.0.0.1:{port}/"):
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.1)
        assert commands.run("lab", []) == 0
        said = capsys.readouterr().err
        assert said.startswith("The kit is already open here") and said.strip().endswith(opened[0])
        with urllib.request.urlopen(opened[0].replace("/lab?", "/api/status?")) as answer:
            assert "started" in json.load(answer)  # the address that was opened lets the learner in
    finally:
        server.terminate()
        server.wait(timeout=30)
