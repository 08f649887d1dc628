"""A folder for a USB stick: the kit and every package it needs, for machines without a network."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tools import torch_source
from tools.environment import CLASSROOM, ensure, pip
from tools.say import ROOT, Stop, say

# What PyTorch and the others call these systems (pip's --platform), newest first.
PLATFORMS = {
    "linux": ["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"],
    "windows": ["win_amd64"],
    "macos": ["macosx_14_0_arm64", "macosx_12_0_arm64", "macosx_11_0_arm64", "macosx_10_9_universal2"],
}
MARKERS = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
    "windows": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
    "macos": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"},
}
# pip evaluates "only on Windows" for the system it runs on, so what another system needs besides is asked for by name.
ONLY_THERE = """
import sys, json
from importlib.metadata import distributions
from packaging.markers import default_environment
from packaging.requirements import Requirement
there = {**default_environment(), **json.loads(sys.argv[1]), "extra": ""}
here = {**default_environment(), "extra": ""}
needed = {Requirement(line) for d in distributions() for line in d.requires or ()}
for r in sorted({f"{r.name}{r.specifier}" for r in needed if r.marker and r.marker.evaluate(there) and not r.marker.evaluate(here)}):
    print(r)
"""


def write(arguments: Sequence[str] = ()) -> int:
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
    versions = os.environ.get("PYTHON_VERSION", "").split() or [f"{sys.version_info[0]}.{sys.version_info[1]}"]
    python = ensure([CLASSROOM])
    folder = ROOT / "build" / "offline" / target
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _copy_kit(folder)
        for version in versions:
            _download(python, folder / "wheels", here, target, version)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    say(f"{folder} is ready ({size / 1e6:.0f} MB): copy it, and there call `make lab` or `python tools/kit.py lab`.")
    return 0


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
    own = target == here and version == f"{sys.version_info[0]}.{sys.version_info[1]}"
    options: list[str] = []
    extra: list[str] = []
    if not own:
        options = ["--only-binary=:all:", "--python-version", version]
        options += [part for name in PLATFORMS[target] for part in ("--platform", name)]
        listing = subprocess.run([python, "-c", ONLY_THERE, json.dumps(MARKERS[target])], capture_output=True, text=True, check=True)
        extra = listing.stdout.split()
    system = {"linux": "linux", "windows": "win32", "macos": "darwin"}[target]
    say(f"Downloading the packages for {target} and Python {version} ...")
    pip("download", ["--dest", str(wheels), *options, *torch_source.pip_options(python, system), "-r", CLASSROOM, "flit_core", *extra])
