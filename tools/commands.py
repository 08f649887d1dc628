"""One function for each command of the kit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from course import lesson_map, links
from tools import checks, lab, offline
from tools.environment import BENCH, CLASSROOM, SITE, TESTS, ensure
from tools.say import ROOT, Stop, say

# What follows each command's name: in capitals the settings, which `make` takes in the same words.
USAGE = {
    "lab": "[PORT=8899] [CUDA=1]",
    "test": "[CUDA=1] [what pytest takes, for example tests/ledger or -k momentum]",
    "quick": "[what pytest takes, for example -k momentum]",
    "bench": "[--quick] [--only NAME ...] [--json FILE]",
    "site": "[--as-stored] [--out FOLDER]",
    "student": "[--out FOLDER]",
    "offline": "[PLATFORM=linux, windows or macos] [PYTHON_VERSION=3.12]",
    "links": "OWNER/REPO TAG",
    "map": "",
}
SETTINGS = {"PORT", "CUDA", "PLATFORM", "PYTHON_VERSION"}


def run(command: str, arguments: Sequence[str]) -> int:
    """Runs one command from the checkout's root and returns its exit status."""
    usage = f"python tools/kit.py {command} {USAGE[command]}".strip()
    if {"-h", "--help", "help"} & set(arguments):
        print(usage)
        return 0
    arguments = _take_settings(arguments, USAGE[command])
    if arguments and command in ("lab", "offline", "map"):  # the others look at theirs themselves
        say(f"{command}: {' '.join(arguments)} is not understood; the whole command is: {usage}")
        return 2
    os.chdir(ROOT)
    # One thread: two kernels with the default thread count slow each other down a hundredfold.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Containers set it; then every process that is started compiles what it imports, PyTorch among it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ.setdefault(
        "PYDEVD_DISABLE_FILE_VALIDATION", "1"
    )  # a debugger's warning on every kernel start
    try:
        if command == "lab":
            return lab.open_lessons(ensure([CLASSROOM]))
        if command == "test":
            return checks.run_all(ensure([CLASSROOM, SITE, TESTS]), arguments)
        if command == "quick":
            return checks.run_all(ensure([CLASSROOM, SITE, TESTS]), [*checks.QUICK, *arguments])
        if command == "bench":
            return _module(ensure([CLASSROOM, BENCH]), "tests.benchmarks.bench", arguments)
        if command == "site":
            return _module(ensure([CLASSROOM, SITE]), "course.site", arguments)
        if command == "student":
            return _module(ensure([CLASSROOM]), "course.student", arguments)
        if command == "offline":
            return offline.write()
        if command == "map":
            return lesson_map.write()
        return links.fill_in(arguments)
    except Stop as stop:
        say(f"{command}: {stop}")
        return 1
    except KeyboardInterrupt:
        say(f"{command}: stopped.")
        return 130


def _take_settings(arguments: Sequence[str], usage: str) -> list[str]:
    """Puts NAME=VALUE into the environment, as make does, and returns what is left."""
    rest = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and name in SETTINGS and f"{name}=" in usage:
            os.environ[name] = value
        else:
            rest.append(argument)
    return rest


def _module(python: str, module: str, arguments: Sequence[str]) -> int:
    return subprocess.call(
        [python, "-m", module, *arguments], env=dict(os.environ, PYTHONPATH=str(ROOT))
    )


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], sys.argv[2:]))
