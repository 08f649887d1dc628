"""Every test there is, in the order in which a fault is found soonest."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tools.say import ROOT, say

# One more than the two cores of a small machine: a test that waits for a server, a kernel or a page leaves one free.
WORKERS = ["-n", "3"]

# The flags and their reasons: --nbval-current-env, or nbval asks each notebook for the kernel it was saved with;
# --dist loadfile, or the workers get single cells of one notebook; a cell that hangs ends after 120 s and not 2,000;
# tests.forked_kernels, or each of 87 kernels imports PyTorch and its kin anew, two to four seconds of a processor.
NBVAL = [
    "-p",
    "tests.forked_kernels",
    "--nbval",
    "--nbval-current-env",
    "--nbval-cell-timeout",
    "120",
    "--nbval-kernel-startup-timeout",
    "120",
    "--nbval-sanitize-with",
    "tests/nbval_sanitize.cfg",
    *WORKERS,
    "--dist",
    "loadfile",
    "--no-loadscope-reorder",
    # the settings in pyproject.toml are for tests in Python files
    "-o",
    "addopts=--import-mode=importlib",
    "-o",
    "filterwarnings=",
]

REST = ["tests", "fnlib", "course", "--ignore", "tests/browser"]
# They are run first, or the other workers wait at the end while one is at one of them.
LONGEST_NOTEBOOKS = ("13", "16", "15", "12", "04")

# A minute on two cores: what a change of the package breaks first. The marker is in pyproject.toml.
QUICK = [
    "-n",
    "2",
    "--dist",
    "worksteal",
    "-m",
    "not long",
    "tests/core",
    "tests/ledger",
    "tests/doctor",
]


def run_all(python: str, arguments: Sequence[str] = ()) -> int:
    """Runs every stage, also after one failed, and prints one line for each at the end.

    Args:
        python: the environment's interpreter.
        arguments: passed to the pytest run over Python files, for example `-k ledger`; the other stages are then left out.

    Returns:
        0 if every stage passed, else 1.
    """
    pytest = [python, "-m", "pytest"]
    stages: dict[str, list[str]] = {}
    if not arguments:
        stages["pip check"] = [python, "-m", "pip", "check"]
        stages["ruff"] = [python, "-m", "ruff", "check", "."]
        stages["format"] = [python, "-m", "ruff", "format", "--check", "."]
        stages["mypy"] = [python, "-m", "mypy", "fnlib", "course", "tools"]
    # Each file on one worker: tests of a file share what they start. tests/conftest.py puts the long files first.
    stages["pytest"] = [
        *pytest,
        *WORKERS,
        "--dist",
        "loadfile",
        "--no-loadscope-reorder",
        "--durations",
        "10",
        *(arguments or REST),
    ]
    if not arguments:  # apart: the browser's driver leaves an event loop running in its process, and other tests run one of their own
        # tests/browser/conftest.py shares the lessons out one by one: a file a worker would leave the others idle
        stages["browser"] = [*pytest, *WORKERS, "--durations", "10", "tests/browser"]
    if not arguments and any((ROOT / "lessons").rglob("*.ipynb")):
        stages["notebooks"] = [*pytest, *NBVAL, *_notebooks("lessons")]
        # the complete notebooks again, rounded as another processor might: their outputs hold there too
        complete = _notebooks("lessons/solutions", "lessons/museum")
        stages["processor"] = [*pytest, *NBVAL, *complete]
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        here, elsewhere = Path(folder, "here"), Path(folder, "elsewhere")
        for stage, command in stages.items():
            say(f"\n== {stage}: {' '.join(command[1:])}")
            settings = _other_processor(elsewhere) if stage == "processor" else _settings(here)
            results[stage] = _run(command, settings)
    say("")
    for stage, (status, seconds, last) in results.items():
        say(f"{'ok    ' if status == 0 else 'FAILED'} {stage:10} {seconds:5.0f} s  {last}")
    return int(any(status for status, _, _ in results.values()))


def _notebooks(*folders: str) -> list[str]:
    """The notebooks in these folders, those that take longest first."""
    paths = [
        path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.ipynb")
    ]
    shown = [path for path in paths if not any(part.startswith(".") for part in path.parts)]
    shown.sort(key=lambda path: (path.name[:2] not in LONGEST_NOTEBOOKS, path))
    return [path.as_posix() for path in shown]


def _settings(ipython: Path) -> dict[str, str]:
    """The environment of every stage: no colours in what is compared, fnlib importable in kernels, no network in them."""
    profile = ipython / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "ipython_kernel_config.py").write_text(
        'c.InteractiveShell.colors = "nocolor"\n', encoding="utf-8"
    )
    (profile / "startup").mkdir(exist_ok=True)
    (profile / "startup" / "00-no-network.py").write_text(NO_NETWORK, encoding="utf-8")
    # warnings about configuration folders do not belong to a lesson's output
    return dict(
        os.environ,
        IPYTHONDIR=str(ipython),
        TMPDIR=str(ipython),  # a kernel that is killed leaves what it wrote there
        PYTHONPATH=str(ROOT),
        JUPYTER_PLATFORM_DIRS="1",
        FNLIB_PROGRESS="off",  # an exercise that a test passes is not a learner's
        MPLBACKEND="agg",
    )


def _other_processor(ipython: Path) -> dict[str, str]:
    """Make every kernel round as another processor might, with the other settings as they are."""
    settings = _settings(ipython)
    # a folder of that name, or the ledger takes the file for the user's and records its lines
    packages = ipython / "site-packages"
    packages.mkdir(exist_ok=True)
    shutil.copy(ROOT / "tests" / "processor" / "other_processor.py", packages)
    (ipython / "profile_default" / "startup" / "01-other-processor.py").write_text(
        "__import__('other_processor').switch_on()\n", encoding="utf-8"
    )
    return settings | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(packages)])}


# Run at the start of every kernel that nbval starts: a lesson that fetches something fails, wherever it is tested.
NO_NETWORK = """\
import sys

def _no_network(event, arguments):
    here = (None, "", "localhost", "127.0.0.1", "::1", b"localhost", b"127.0.0.1")
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if host not in here:
        raise ConnectionRefusedError(f"The lessons are tested with the network cut, and this asks for {host}.")

sys.addaudithook(_no_network)
"""


def _run(command: Sequence[str], environment: dict[str, str]) -> tuple[int, float, str]:
    start, last = time.monotonic(), ""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    return process.returncode, time.monotonic() - start, last.strip("= ")
