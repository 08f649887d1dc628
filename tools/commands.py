"""One function for each command of the kit."""
from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from tools import checks, lab, lesson_map, links, offline
from tools.environment import BENCH, CLASSROOM, TESTS, ensure
from tools.say import ROOT, Stop, say


def run(command: str, arguments: Sequence[str]) -> int:
    """Runs one command from the checkout's root and returns its exit status."""
    os.chdir(ROOT)
    # One thread: two kernels with the default thread count slow each other down a hundredfold.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # a debugger's warning on every kernel start
    try:
        if command == "lab":
            return lab.open_lessons(ensure([CLASSROOM]))
        if command == "test":
            return checks.run_all(ensure([CLASSROOM, TESTS]), arguments)
        if command == "bench":
            return _module(ensure([CLASSROOM, BENCH]), "tests.benchmarks.bench", arguments)
        if command == "lessons":
            return _module(ensure([CLASSROOM]), "fnlib.teaching.pages", arguments)
        if command == "offline":
            return offline.write(arguments)
        if command == "map":
            return lesson_map.write()
        return links.fill_in(arguments)
    except Stop as stop:
        say(f"{command}: {stop}")
        return 1
    except KeyboardInterrupt:
        say(f"{command}: stopped.")
        return 130


def _module(python: str, module: str, arguments: Sequence[str]) -> int:
    return subprocess.call([python, "-m", module, *arguments], env=dict(os.environ, PYTHONPATH=str(ROOT)))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], sys.argv[2:]))
