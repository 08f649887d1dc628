"""The folder for a USB stick: made, then used with the network cut."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import offline, torch_source
from tools.say import ROOT, Stop

# Inside: brings up the loopback of the cut-off network (a kernel and its server talk through it), then opens the lessons.
TRIAL = """
import fcntl, json, os, socket, struct, subprocess, sys, time, urllib.request
try:
    with socket.socket() as s:
        fcntl.ioctl(s, 0x8914, struct.pack("16sh14s", b"lo", 0x49, b""))  # SIOCSIFFLAGS: up, loopback, running
except OSError:
    pass  # not cut off by a network of its own: the loopback is up already
try:
    socket.create_connection(("1.1.1.1", 443), timeout=3).close()
    reached = True
except OSError:
    reached = False
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
lab = subprocess.Popen([sys.executable, "tools/kit.py", "lab"], env={**os.environ, "PORT": str(port)})
status = None
deadline = time.monotonic() + 400
while status is None and time.monotonic() < deadline and lab.poll() is None:
    try:
        status = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5))
    except OSError:
        time.sleep(0.5)
code = "import fnlib, torch, sklearn, ipywidgets, matplotlib, nbval; from fnlib import teaching; teaching.setup()"
works = subprocess.run(["../.venv/bin/python", "-c", code], cwd="lessons", capture_output=True, text=True)
lab.terminate()
lab.wait(30)
print(json.dumps({"reached": reached, "served": bool(status), "works": works.returncode == 0, "said": works.stdout + works.stderr}))
"""


@pytest.mark.skipif(os.name == "nt", reason="the trial cuts the network as Linux and macOS can")
def test_a_stick_opens_the_lessons_with_the_network_cut(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"
    ignored = shutil.ignore_patterns(
        ".venv*", "build", "wheels", "__pycache__", ".*_cache", ".hypothesis"
    )
    shutil.copytree(ROOT, checkout, ignore=ignored)
    for module in (offline, torch_source):
        monkeypatch.setattr(module, "ROOT", checkout)
    monkeypatch.setattr(torch_source, "WHEELS", checkout / "wheels")
    monkeypatch.setattr(offline, "ensure", lambda requirements: sys.executable)
    monkeypatch.chdir(checkout)
    try:
        offline.write()
    except Stop as stop:
        if os.environ.get("CI") or "network" not in str(stop):
            raise
        pytest.skip("the packages for the stick cannot be downloaded without a network")
    system = {"linux": "linux", "darwin": "macos"}[sys.platform]
    stick = tmp_path / "USB stick"
    shutil.move(checkout / "build" / "offline" / system, stick)
    assert list((stick / "wheels").glob("torch-2.13.0*")) and not (stick / ".git").exists()
    to_do = (stick / "START.txt").read_text(encoding="utf-8")
    command = re.search(r"^ +(\S+) tools/kit.py lab$", to_do, re.MULTILINE)
    assert command and Path(command.group(1)).name == f"python3.{sys.version_info[1]}"

    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("PIP_", "PYTHON"))
    }
    nowhere = dict.fromkeys(
        ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9"
    )
    environment = (
        kept
        | nowhere
        | {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_COMPILE": "0",  # of all that is installed, the trial imports a tenth
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        }
    )
    cut = (
        shutil.which("unshare") is not None
        and subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode == 0
    )
    command = [*(["unshare", "-rn"] if cut else []), sys.executable, "-c", TRIAL]
    done = subprocess.run(
        command, cwd=stick, env=environment, capture_output=True, text=True, timeout=580
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["served"] and found["works"], (found, done.stderr)
    assert not (cut and found["reached"]), "the network was not cut"
    assert "Ready: PyTorch 2.13.0" in found["said"]
    shutil.rmtree(stick)  # two gigabytes


@pytest.mark.parametrize(
    ("system", "needed", "useless"),
    [
        ("windows", {"colorama", "pywinpty"}, {"pexpect", "ptyprocess", "appnope"}),
        ("macos", {"appnope", "pexpect"}, {"colorama", "pywinpty"}),
        ("linux", {"pexpect"}, {"appnope", "colorama", "pywinpty"}),
    ],
)
def test_what_another_system_needs_is_known(
    system: str, needed: set[str], useless: set[str]
) -> None:
    packages = offline.needed_there(sys.executable, system, "3.13")
    names = {re.split("[=<>!~]", package)[0].lower() for package in packages}
    assert needed <= names and not useless & names
    assert not [name for name in names if name.startswith(("cuda", "nvidia", "triton"))]
    version = importlib.metadata.version("torch").partition("+")[0]  # "+cpu" is the build's
    assert f"torch=={version}" in packages
    assert len(packages) > 80, "what the packages need in turn is missing"


@pytest.mark.parametrize(
    ("system", "name", "command"),
    [
        ("windows", "Windows", "py -3.12"),
        ("macos", "macOS", "python3.12"),
        ("linux", "Linux", "python3.12"),
    ],
)
def test_the_stick_says_what_to_do(system: str, name: str, command: str) -> None:
    said = offline.start(system, ["3.12", "3.13"])
    assert (
        f"{name} with Python 3.12 or 3.13" in said
        and f"       {command} tools/kit.py lab\n" in said
    )


def test_an_unknown_system_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORM", "amiga")
    with pytest.raises(
        Stop, match="PLATFORM=amiga is not known: give one of linux, windows, macos."
    ):
        offline.write()


def test_a_failed_download_leaves_no_half_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(*arguments: object) -> None:
        raise Stop("the packages could not be downloaded")

    monkeypatch.setattr(offline, "ensure", lambda requirements: sys.executable)
    monkeypatch.setattr(offline, "ROOT", tmp_path)
    monkeypatch.setattr(offline, "_copy_kit", lambda folder: folder.mkdir(parents=True))
    monkeypatch.setattr(offline, "_download", fails)
    monkeypatch.delenv("PLATFORM", raising=False)
    with pytest.raises(Stop):
        offline.write()
    assert not list((tmp_path / "build" / "offline").iterdir())
