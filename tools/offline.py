"""A folder for a USB stick: the kit and every package it needs, for machines without a network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools import torch_source
from tools.environment import CLASSROOM, ensure, pip
from tools.say import ROOT, Stop, say

# What PyTorch and the others call these systems (pip's --platform), newest first.
PLATFORMS = {
    "linux": ["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"],
    "windows": ["win_amd64"],
    "macos": [
        "macosx_14_0_arm64",
        "macosx_12_0_arm64",
        "macosx_11_0_arm64",
        "macosx_10_9_universal2",
    ],
}
# Lies on the stick as START.txt: whoever gets the stick has not read the README.
START = """\
The notebook kit, for machines without a network: {system} with Python {versions}.

1. Copy this whole folder from the stick to the machine's own disk. Keep 2 GB free there.
2. The one thing that is not in this folder is Python {versions} itself: {python}.
3. Open a terminal in the copied folder and write:

       {command} tools/kit.py lab

   It installs into the folder's own .venv once (a few minutes), then opens the first lesson in your browser.
   Press Ctrl-C twice in the terminal to end it. The same line opens it again, in seconds.

README.md says what the kit is and how to teach with it.
"""
MARKERS = {
    "linux": {
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "platform_machine": "x86_64",
    },
    "windows": {
        "sys_platform": "win32",
        "platform_system": "Windows",
        "os_name": "nt",
        "platform_machine": "AMD64",
    },
    "macos": {
        "sys_platform": "darwin",
        "platform_system": "Darwin",
        "os_name": "posix",
        "platform_machine": "arm64",
    },
}
# pip decides for the system it runs on whether a package is "only for Windows" or "only for Linux" (torch's CUDA libraries),
# whatever --platform says. So what another system needs is read from the packages installed here, in their versions.
NEEDED_THERE = """
import json, re, sys
from importlib.metadata import PackageNotFoundError, distribution
from packaging.markers import default_environment
from packaging.requirements import Requirement
there, waiting, found = {**default_environment(), **json.loads(sys.argv[1])}, [("", r) for r in sys.argv[2:]], {}
while waiting:
    extra, text = waiting.pop()
    requirement = Requirement(text)
    if requirement.marker and not requirement.marker.evaluate({**there, "extra": extra}):
        continue
    key = re.sub("[-_.]+", "-", requirement.name).lower()
    if key.startswith(("cuda", "nvidia", "triton")):
        continue  # of the build installed here; a stick takes PyTorch for the CPU
    extras = {"", *requirement.extras} - found.get(key, ("", set()))[1]
    try:
        package = distribution(requirement.name)
        wanted = f"{requirement.name}=={package.version.split('+')[0]}"
        waiting += [(extra, line) for extra in extras for line in package.requires or ()]
    except PackageNotFoundError:  # for the other system alone, so not installed here
        wanted = f"{requirement.name}{requirement.specifier}"
    found[key] = (wanted, found.get(key, ("", set()))[1] | extras)
print("\\n".join(sorted(wanted for wanted, _ in found.values())))
"""


def write() -> int:
    """Writes build/offline/PLATFORM: the kit, and wheels/ beside it, which `make lab` there installs from.

    PLATFORM (linux, windows, macos) and PYTHON_VERSION (such as "3.12", or several: "3.11 3.12") come from the
    environment; without them the folder is for systems and Pythons like this one.

    Raises:
        Stop: where the system's name is unknown or a package cannot be brought.
    """
    here = {"linux": "linux", "win32": "windows", "darwin": "macos"}.get(sys.platform, "linux")
    target = os.environ.get("PLATFORM") or here
    if target not in PLATFORMS:
        raise Stop(f"PLATFORM={target} is not known: give one of {', '.join(PLATFORMS)}.")
    versions = os.environ.get("PYTHON_VERSION", "").split() or [
        f"{sys.version_info[0]}.{sys.version_info[1]}"
    ]
    python = ensure([CLASSROOM])
    folder = ROOT / "build" / "offline" / target
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _copy_kit(folder)
        for version in versions:
            _download(python, folder / "wheels", here, target, version)
        (folder / "START.txt").write_text(
            start(target, versions),
            encoding="utf-8",
            newline="\r\n" if target == "windows" else "\n",
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    say(f"{folder} is ready ({size / 1e6:.0f} MB): copy it; START.txt in it says what to do there.")
    return 0


def start(target: str, versions: list[str]) -> str:
    """What the person who gets the stick has to do, for that system.

    >>> print(start("windows", ["3.12"]).splitlines()[0])
    The notebook kit, for machines without a network: Windows with Python 3.12.
    """
    source = (
        "your system has it, or its package manager"
        if target == "linux"
        else "from https://www.python.org/downloads/"
    )
    return START.format(
        system=torch_source.SYSTEMS[target.removesuffix("dows")],
        versions=" or ".join(versions),
        python=source,
        command=f"py -{versions[0]}" if target == "windows" else f"python{versions[0]}",
    )


def _copy_kit(folder: Path) -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if listing.returncode:
        raise Stop("`make offline` copies the files that git knows: call it in a clone of the kit.")
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)


def _download(python: str, wheels: Path, here: str, target: str, version: str) -> None:
    say(f"Downloading the packages for {target} and Python {version} ...")
    into = ["--dest", str(wheels)]
    if target == here and version == f"{sys.version_info[0]}.{sys.version_info[1]}":
        pip("download", [*into, *torch_source.pip_options(python), "-r", CLASSROOM, "flit_core"])
        return
    index = []
    if target == "linux":
        if not torch_source.reachable(torch_source.CPU_INDEX + "/torch/"):
            raise Stop(
                f"{torch_source.CPU_INDEX} cannot be reached, and the ordinary PyTorch for Linux is too large for a stick."
            )
        index = ["--extra-index-url", torch_source.CPU_INDEX]
    platforms = [part for name in PLATFORMS[target] for part in ("--platform", name)]
    needed = needed_there(python, target, version)
    pip(
        "download",
        [
            *into,
            *index,
            "--only-binary=:all:",
            "--no-deps",
            "--python-version",
            version,
            *platforms,
            *needed,
            "flit_core",
        ],
    )


def needed_there(python: str, target: str, version: str) -> list[str]:
    """Every package that the classroom needs on another system, with its version."""
    classroom = [
        line
        for line in (ROOT / CLASSROOM).read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    markers = MARKERS[target] | {"python_version": version, "python_full_version": version + ".0"}
    listing = subprocess.run(
        [python, "-c", NEEDED_THERE, json.dumps(markers), *classroom],
        capture_output=True,
        text=True,
        check=True,
    )
    return listing.stdout.split()
