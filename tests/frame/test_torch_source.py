"""The build of PyTorch that `make lab` takes, on each kind of machine."""

from __future__ import annotations

import http.server
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools import torch_source
from tools.say import Stop


@pytest.fixture
def bare_linux(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Linux machine: pip not configured, no folder of wheels, no CPU index to be reached."""
    monkeypatch.setattr(torch_source, "WHEELS", tmp_path / "no wheels")
    monkeypatch.setattr(torch_source, "CPU_INDEX", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.delenv("CUDA", raising=False)


@pytest.fixture
def index() -> Iterator[str]:
    """A server that answers every request."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def options() -> list[str]:
    return torch_source.pip_options(sys.executable, "linux")


def test_the_cpu_index_where_it_answers(
    bare_linux: None,
    index: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch_source, "CPU_INDEX", index)
    assert options() == ["--extra-index-url", index]
    assert capsys.readouterr().err == ""


def test_otherwise_the_size_is_said_first(
    bare_linux: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert options() == []
    said = capsys.readouterr().err
    assert "several GB" in said and said.count("\n") == 1


def test_cuda_is_taken_where_it_is_asked_for(
    bare_linux: None, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_source, "CPU_INDEX", index)
    monkeypatch.setenv("CUDA", "1")
    assert options() == []


def test_a_wheel_that_pip_is_configured_with_is_taken(
    bare_linux: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", f"{tmp_path / 'empty'} {tmp_path}")
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl").touch()
    assert options() == []
    assert capsys.readouterr().err == ""  # nothing large is downloaded, so nothing is said


def test_a_stick_never_asks_the_network(
    bare_linux: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch_source, "WHEELS", tmp_path)
    assert options() == ["--no-index", "--find-links", str(tmp_path)]


WHEELS = {  # how PyTorch names them
    "linux": "torch-2.13.0+cpu-cp3{}-cp3{}-manylinux_2_28_x86_64.whl",
    "win32": "torch-2.13.0-cp3{}-cp3{}-win_amd64.whl",
    "darwin": "torch-2.13.0-cp3{}-none-macosx_14_0_arm64.whl",
}


@pytest.mark.parametrize("system", WHEELS)
def test_a_stick_is_used_only_on_the_machine_it_fits(
    bare_linux: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, system: str
) -> None:
    """Use a stick made for this machine, and report one made for another."""
    monkeypatch.setattr(torch_source, "WHEELS", tmp_path)
    monkeypatch.setattr(sys, "platform", system)
    here = sys.version_info[1]
    (tmp_path / WHEELS[system].format(here + 1, here + 1)).touch()
    with pytest.raises(
        Stop,
        match=rf"are for \w+ with Python 3.{here + 1}, and this is \w+ with Python 3.{here}: call it there",
    ):
        options()
    other = next(name for name in WHEELS if name != system)
    (tmp_path / WHEELS[other].format(here, here)).touch()
    with pytest.raises(Stop, match=" or "):
        options()
    (tmp_path / WHEELS[system].format(here, here)).touch()
    assert options()[0] == "--no-index"


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_the_ordinary_builds_of_windows_and_macos_are_small(
    bare_linux: None, system: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert torch_source.pip_options(sys.executable, system) == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("translated", "sentence"),
    [
        ("0", "no build for Intel Macs since 2.2: use another machine, or open the kit on Binder"),
        ("1", "install the arm64"),
    ],
)
def test_intel_macs_are_told(
    monkeypatch: pytest.MonkeyPatch, translated: str, sentence: str
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=translated + "\n")
    )
    with pytest.raises(Stop, match=sentence):
        torch_source.refuse_intel_mac()
