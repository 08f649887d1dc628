"""Where PyTorch comes from: the same version everywhere, the smallest build that the machine needs."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from tools.say import BINDER, ROOT, Stop, say

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PROBE_SECONDS = 4.0
SYSTEMS = {
    "linux": "Linux",
    "macos": "macOS",
    "win": "Windows",
}  # as wheels name them, and as people do
WHEELS = ROOT / "wheels"  # written by `make offline`: everything, for a machine without a network


def pip_options(python: str, system: str = sys.platform) -> list[str]:
    """The options for pip that bring the right build of PyTorch, told in one sentence where it is large.

    Args:
        python: the interpreter whose pip will install; its own configuration is respected.
        system: the system to install on, as in `sys.platform`.
    """
    if WHEELS.is_dir():
        refuse_another_stick()
        return ["--no-index", "--find-links", str(WHEELS)]
    if not system.startswith("linux") or _local_wheel(python):
        return []  # the ordinary builds for macOS and Windows are small: about 120 MB
    if os.environ.get("CUDA") == "1":
        say("PyTorch comes with its CUDA libraries, as CUDA=1 asks: several GB to download.")
        return []
    if reachable(CPU_INDEX + "/torch/"):
        return ["--extra-index-url", CPU_INDEX]
    say(
        "PyTorch's CPU index cannot be reached, so pip takes the ordinary build, which brings CUDA libraries: "
        "several GB to download and on disk."
    )
    return []


def refuse_another_stick() -> None:
    """Stops where the packages that lie beside the kit are for another system or another Python than this one."""
    named = [
        re.fullmatch(r"torch-.*-cp3(\d+)-.*(linux|macos|win).*\.whl", path.name)
        for path in WHEELS.glob("torch-*.whl")
    ]
    made_for = sorted({(SYSTEMS[match.group(2)], int(match.group(1))) for match in named if match})
    here = (
        SYSTEMS[{"darwin": "macos", "win32": "win"}.get(sys.platform, "linux")],
        sys.version_info[1],
    )
    if made_for and here not in made_for:
        those = " or ".join(f"{system} with Python 3.{minor}" for system, minor in made_for)
        raise Stop(
            f"the packages in this folder are for {those}, and this is {here[0]} with Python 3.{here[1]}: call it there and with "
            f"that Python (python3.{made_for[0][1]} tools/kit.py lab), or let `make offline` write a folder for this machine."
        )


def refuse_intel_mac() -> None:
    """Stops at once where no PyTorch of today can be installed."""
    if sys.platform != "darwin" or platform.machine() == "arm64":
        return
    translated = subprocess.run(
        ["sysctl", "-n", "sysctl.proc_translated"], capture_output=True, text=True
    ).stdout
    if translated.strip() == "1":
        raise Stop(
            "this Python is an Intel build on an Apple silicon Mac: install the arm64 (universal2) Python from "
            "https://www.python.org/downloads/ and call again."
        )
    raise Stop(f"PyTorch has had no build for Intel Macs since 2.2: use another machine, {BINDER}.")


def _local_wheel(python: str) -> bool:
    """Whether a folder that pip is configured to look in holds this PyTorch as a wheel."""
    pinned = re.search(
        r"^torch==(\S+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    if pinned is None:
        return False
    listing = subprocess.run(
        [python, "-m", "pip", "config", "list"], capture_output=True, text=True
    ).stdout
    # Both the configuration's and the environment's entry read "...find-links='A B'".
    places = (
        " ".join(re.findall(r"find-links='(.*)'$", listing, re.MULTILINE))
        .replace("\\n", " ")
        .split()
    )
    return any(
        any(Path(place.removeprefix("file://")).glob(f"torch-{pinned.group(1)}[+-]*.whl"))
        for place in places
    )


def reachable(address: str) -> bool:
    """Whether an address answers, asked briefly."""
    try:
        with urllib.request.urlopen(address, timeout=PROBE_SECONDS) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
