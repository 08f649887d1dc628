"""Run one public program plain and under the doctor, in a copy of its repository, with stand-in data."""

from __future__ import annotations

import difflib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
VENV = ROOT / "build" / "programs" / "venv"
# What a program doesn't need to run, and is large.
LEFT_OUT = (".git", "assets", "docs", "*.gif", "*.ipynb", "trace_*", "learning_curves", "cloud")
# What no two runs of one program share: times, rates, version numbers, temporary paths.
VARIES = r"\d+(\.\d+)?\s*(ms|s|sec|seconds|it/s|s/it|min)\b|ms/batch\s+[\d.]+|SPS: \d+|/tmp/\S+|\d+:\d\d(:\d\d)?"


@dataclass
class Outcome:
    """One run: its output, exit status, and processor seconds."""

    output: str
    status: int
    seconds: float
    errors: str


@dataclass
class Row:
    """What the table says of one program."""

    name: str
    same_output: bool
    status: tuple[int, int]
    seconds: tuple[float, float]
    steps: int | None
    lost: bool
    findings: list[str] = field(default_factory=list)
    note: str = ""


def prepare() -> None:
    """Make the programs' environment and put the stand-in data into it."""
    subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    pip = [str(VENV / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(HERE / "requirements.txt")], check=True)
    subprocess.run([*pip, "--no-deps", "torchvision==0.28.0"], check=True)


def stand_in(python: Path) -> None:
    """Copy the stand-in data to where libraries are, so that no tool takes it for the program."""
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True)
    packages = Path(found.stdout.strip())
    shutil.copy(HERE / "stand_in.py", packages / "fnlib_stand_in.py")
    (packages / "fnlib_stand_in.pth").write_text("import fnlib_stand_in\n")
    shutil.copytree(HERE / "modules", packages, dirs_exist_ok=True)


def run(
    program: dict[str, Any],
    folder: Path,
    python: Path,
    doctor: list[str],
    reports: Path | None = None,
    own: Path = HERE / "own",
) -> Row | None:
    """Run one program plain and under the doctor; None where its repository is not there."""
    source = folder / program["repository"].split("/")[1] if "repository" in program else own
    source = source / program.get("root", ".")
    if not source.is_dir():
        return None
    runs = []
    for prefix in ([], ["-m", "fnlib", "doctor", *doctor]):
        with tempfile.TemporaryDirectory() as place:
            copy = Path(place) / "program"
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
            runs.append(execute(program, copy, python, prefix))
    plain, watched = runs
    varies = re.compile("|".join([VARIES, *program.get("varies", [])]), re.MULTILINE)
    report = watched.errors
    if reports is not None:
        _keep(reports / re.sub(r"\W+", "_", program["name"]), plain, watched, varies)
    seen = re.search(r"(\d+) (?:optimizer )?steps?", report)
    return Row(
        name=program["name"],
        same_output=varies.sub("*", plain.output) == varies.sub("*", watched.output),
        status=(plain.status, watched.status),
        seconds=(plain.seconds, watched.seconds),
        steps=int(seen.group(1)) if seen else None,
        lost="broke off" in report or "stopped recording before" in report,
        findings=re.findall(r"^(?:CERTAIN|QUESTION) .*", report, re.MULTILINE),
        note="" if plain.status == 0 else (plain.errors.strip().splitlines() or ["late"])[-1][:90],
    )


def _keep(place: Path, plain: Outcome, watched: Outcome, varies: re.Pattern[str]) -> None:
    """Write the report, and what the two outputs do not share, for whoever judges the findings."""
    place.parent.mkdir(parents=True, exist_ok=True)
    one, other = (varies.sub("*", run.output).splitlines(True) for run in (plain, watched))
    place.with_suffix(".diff").write_text("".join(difflib.unified_diff(one, other)))
    place.with_suffix(".txt").write_text(watched.errors)


def execute(program: dict[str, Any], copy: Path, python: Path, prefix: list[str]) -> Outcome:
    """Run a program in a copy of its repository, its constants edited."""
    place = copy / program.get("folder", ".")
    for edit in program.get("edits", []):
        paths = [path for path in place.glob(edit["file"]) if edit["old"] in path.read_text()]
        if not paths:
            raise SystemExit(f"{program['name']}: {edit['old']!r} is not in {edit['file']}")
        for path in paths:
            path.write_text(path.read_text().replace(edit["old"], edit["new"]))
    for name in program.get("folders", []):
        (place / name).mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            [str(kit), *(str(copy / p) for p in program.get("path", []))]
        ),
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "agg",
        "HF_HUB_OFFLINE": "1",
        "PYTHONHASHSEED": "0",
        **{key: str(value) for key, value in program.get("environment", {}).items()},
    }
    for before in program.get("before", []):
        subprocess.run(
            [python, *(one.format(here=HERE) for one in before)],
            cwd=place,
            env=environment,
            check=True,
            capture_output=True,
        )
    if _warm is not None and not program.get("cold"):
        return _served(_warm, place, environment, prefix, program)
    started = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        done = subprocess.run(
            [str(python), *prefix, *program["command"]],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            timeout=program.get("timeout", 300),
        )
        output, errors, status = done.stdout, done.stderr, done.returncode
    except subprocess.TimeoutExpired as late:
        output = (late.stdout or b"").decode(errors="replace")
        errors, status = (late.stderr or b"").decode(errors="replace"), -1
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = ended.ru_utime + ended.ru_stime - started.ru_utime - started.ru_stime
    return Outcome(output, status, seconds, errors)


kit = ROOT  # the tree whose `fnlib` is asked
_warm: subprocess.Popen[str] | None = None


def warm_up(python: Path, tree: Path) -> None:
    """Start the process that serves all further runs with the `fnlib` of a tree."""
    global _warm, kit
    kit = tree.resolve()
    environment = {**os.environ, "PYTHONPATH": str(kit), "OMP_NUM_THREADS": "1"}
    environment |= {"PYTHONHASHSEED": "0", "MPLBACKEND": "agg"}
    _warm = subprocess.Popen(
        [python, HERE / "warm.py"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _served(
    server: subprocess.Popen[str],
    place: Path,
    environment: dict[str, str],
    prefix: list[str],
    program: dict[str, Any],
) -> Outcome:
    assert server.stdin is not None and server.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder, "output"), Path(folder, "errors")
        job = {
            "folder": str(place),
            "environment": environment,
            "arguments": [*prefix, *program["command"]],
            "script": len(prefix),
            "seconds": program.get("timeout", 300),
            "output": str(output),
            "errors": str(errors),
        }
        print(json.dumps(job), file=server.stdin, flush=True)
        done = json.loads(server.stdout.readline())
        return Outcome(
            output.read_text(errors="replace"),
            done["status"],
            done["seconds"],
            errors.read_text(errors="replace"),
        )


def line(row: Row) -> str:
    """Write a row of the table as Markdown."""
    output = "same" if row.same_output else "**differs**"
    said = "; ".join(row.findings) or "nothing"
    lost = " **recording lost**" if row.lost else ""
    return (
        f"| {row.name} | {output}, {row.status[0]} -> {row.status[1]} | {row.seconds[0]:.1f} -> "
        f"{row.seconds[1]:.1f} | {row.steps or ''} | {said}{lost} {row.note} |"
    )
