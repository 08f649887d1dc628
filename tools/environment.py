"""The environment in .venv: made once, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools import torch_source
from tools.say import BINDER, ROOT, Stop, say

CLASSROOM, SITE, TESTS, BENCH = (
    "requirements.txt",
    "course/requirements.txt",
    "tests/requirements.txt",
    "tests/benchmarks/requirements.txt",
)
LOCK = "requirements.lock"  # what the pinned packages bring with them
VENV = ROOT / ".venv"
STAMP, UNFINISHED = VENV / "kit.json", VENV / "unfinished"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
# JupyterLab's question "Would you like to get Jupyter news?" reaches for the network and hides the lesson.
QUIET = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}
}

# `make test` brings nbgrader; its buttons for teachers do not belong into a learner's window.
HIDDEN = {"disabledExtensions": {"@jupyter/nbgrader": True}}


def ensure(requirements: Sequence[str]) -> str:
    """Makes .venv hold these requirement files and fnlib itself, and returns its Python.

    A finished environment has a stamp with a digest of what was installed, so a second call only reads one file.
    An environment that this call began and could not finish is removed; one that stood before stays as it was.

    Raises:
        Stop: with one sentence, where the environment cannot be made.
    """
    wanted = {
        name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest()
        for name in (*requirements, "pyproject.toml")
    }
    if _holds(wanted):
        return str(PYTHON)
    torch_source.refuse_intel_mac()
    with _alone():
        if _holds(wanted):  # another call made it while this one waited
            return str(PYTHON)
        fresh = _create_if_needed()
        try:
            _install(requirements)
            _write_stamp(wanted)
        except BaseException:
            if fresh:
                shutil.rmtree(VENV, ignore_errors=True)
            raise
    return str(PYTHON)


def _stamp() -> dict[str, str]:
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
        return stamp if isinstance(stamp, dict) else {}
    except (OSError, ValueError):
        return {}


def _holds(wanted: dict[str, str]) -> bool:
    stamp = _stamp()
    return (
        stamp.get("root") == str(ROOT)
        and all(stamp.get(k) == v for k, v in wanted.items())
        and _runs()
    )


def _runs() -> bool:
    try:
        supported = "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))"
        return subprocess.run([str(PYTHON), "-c", supported], capture_output=True).returncode == 0
    except OSError:
        return False


def _create_if_needed() -> bool:
    """Makes an empty environment unless a usable one stands; says whether it did."""
    moved = STAMP.exists() and _stamp().get("root") != str(
        ROOT
    )  # its scripts still name the old folder
    if VENV.exists() and _runs() and not UNFINISHED.exists() and not moved:
        return False
    if VENV.exists() and not (STAMP.exists() or UNFINISHED.exists()):
        raise Stop(
            f"{VENV} was made by something else and has no Python 3.11 to 3.14: move it away and call again."
        )
    shutil.rmtree(VENV, ignore_errors=True)
    made = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True)
    if made.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        if "ensurepip" in made.stdout + made.stderr:
            raise Stop(
                "this Python cannot make environments: on Debian and Ubuntu, `apt install python3-venv` brings the missing part."
            )
        raise Stop(
            f"Python could not make {VENV}: {(made.stderr or made.stdout).strip().splitlines()[-1]}"
        )
    UNFINISHED.touch()  # outlives even a power cut, so that the next call begins anew
    return True


def _install(requirements: Sequence[str]) -> None:
    options = torch_source.pip_options(str(PYTHON))
    say(
        f"Installing {', '.join(requirements)} into {VENV.name} (once; about a minute on a fast network) ..."
    )
    files = [part for name in requirements for part in ("-r", name)]
    if "--no-index" not in options and (ROOT / LOCK).exists():  # a stick brings its own versions
        files += ["-c", LOCK]
    pip("install", [*options, *files])
    pip(
        "install", [*options, "--no-deps", "--editable", "."]
    )  # `import fnlib` then works in any folder


def pip(command: str, arguments: Sequence[str]) -> None:
    """Runs the environment's pip, showing what it is at; raises Stop with the cause in one sentence."""
    lines: list[str] = []
    full = [
        str(PYTHON),
        "-m",
        "pip",
        command,
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
        *arguments,
    ]
    with subprocess.Popen(
        full,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.append(line.rstrip())
                if line.startswith("Installing collected"):
                    say(f"  unpacking {line.count(',') + 1} packages")
                elif re.search(r"Downloading .*(MB|GB)\)", line):
                    say("  " + line.strip())
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise Stop(explain(lines))


def explain(lines: Sequence[str]) -> str:
    """One sentence for what stopped pip, from what pip printed."""
    text = "\n".join(lines)
    if re.search(r"No space left|disk full|Errno 28", text, re.IGNORECASE):
        return "the disk is full: free about 3 GB (PyTorch is the large part) and call again."
    if re.search(
        r"NewConnectionError|ConnectionError|ConnectTimeout|ReadTimeout|Max retries|ProxyError|NameResolution",
        text,
    ):
        return f"the packages could not be downloaded: check the network and call again, take a folder made by `make offline`, {BINDER}."
    missing = re.search(r"No matching distribution found for (\S+)", text)
    if missing:
        system = f"Python {sys.version_info[0]}.{sys.version_info[1]} on {sys.platform}"
        return f"there is no {missing.group(1)} for {system}: use Python 3.11 to 3.14 on a 64-bit system, {BINDER}."
    log = Path(tempfile.gettempdir()) / "fnlib-kit-pip.log"
    log.write_text(text, encoding="utf-8")
    errors = [line for line in lines if line.startswith("ERROR")] or list(lines[-1:])
    return f"pip could not install the packages ({' '.join(errors[:1])[:200]}); all it said is in {log}."


def _write_stamp(wanted: dict[str, str]) -> None:
    settings = {
        "share/jupyter/lab/settings/overrides.json": QUIET,
        "etc/jupyter/labconfig/page_config.json": HIDDEN,
    }
    for name, setting in settings.items():
        (VENV / name).parent.mkdir(parents=True, exist_ok=True)
        (VENV / name).write_text(json.dumps(setting), encoding="utf-8")
    STAMP.write_text(json.dumps({**_stamp(), **wanted, "root": str(ROOT)}), encoding="utf-8")
    UNFINISHED.unlink(missing_ok=True)


@contextmanager
def _alone() -> Iterator[None]:
    """Holds the checkout's lock: two calls at once would install over each other."""
    try:
        handle = open(ROOT / ".venv.lock", "w")
    except OSError:
        raise Stop(
            f"{ROOT} cannot be written: copy it to a folder of your own and call again there."
        ) from None
    with handle:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle.fileno(), msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                say("Another call is making the environment: waiting for it ...")
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
