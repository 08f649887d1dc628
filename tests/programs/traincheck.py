"""Run TrainCheck's silent errors under the doctor: published scripts on a CPU, and twins of our own.

    python -m tests.programs traincheck FOLDER

FOLDER holds a clone of OrderLab/TrainCheck-Evaluation-Workloads; `traincheck.toml` describes the cases. Each
runs with its fault and without it. An error is found if the doctor names it by the code and at the line that the case
expects, and says nothing like it of the correct script.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.programs import runner

HERE = Path(__file__).parent
REPOSITORY = "OrderLab/TrainCheck-Evaluation-Workloads"
SCRIPTS = "silent-issue-detection/bug-reprod-scripts"


@dataclass
class Verdict:
    """What the doctor said of a case with its fault, and without it."""

    name: str
    found: str  # "certain", "question", "no", or "" where the case is out of reach
    faulty: list[str]
    fixed: list[str]
    note: str = ""


def judge(case: dict[str, Any], folder: Path, python: Path, reports: Path | None) -> Verdict:
    """Run a case with its fault and without it."""
    rows, sources = [], []
    for version in ("bug", "fixed"):
        program = {"name": f"{case['name']}, {version}", "command": case[version]}
        program |= {key: case[key] for key in ("edits", "environment", "cold") if key in case}
        if case["how"] == "script":
            program |= {"repository": REPOSITORY, "root": f"{SCRIPTS}/{case['folder']}"}
            source = folder / REPOSITORY.split("/")[1] / program["root"]
        else:
            source = HERE / "twins"
        row = runner.run(program, folder, python, [], reports, own=HERE / "twins")
        if row is None:
            return Verdict(case["name"], "", [], [], f"{REPOSITORY} is not in {folder}")
        rows.append(row)
        sources.append((source / case[version][0]).read_text().splitlines())
    bug, fixed = rows
    found = "no"
    for said in bug.findings:
        severity, code, line = re.match(r"(\w+) ([\w-]+), .*?:(\d+), ", said).groups()
        right = case.get("at", "") in sources[0][int(line) - 1]
        again = any(f" {code}, " in other for other in fixed.findings)
        if code == case["code"] and right and not again and found != "certain":
            found = severity.lower()
    troubles = [one.note for one in rows if one.note] + ["lost" for one in rows if one.lost]
    return Verdict(case["name"], found, bug.findings, fixed.findings, "; ".join(troubles))


def table(folder: Path, names: list[str], python: Path, reports: Path | None) -> int:
    """Print a row for each case, and the sums; returns 1 if a correct script has a certain finding."""
    cases = tomllib.loads((HERE / "traincheck.toml").read_text())["case"]
    reached = [case for case in cases if not case["how"].startswith("out")]
    verdicts = []
    for case in reached:
        if names and not any(name in case["name"] for name in names):
            continue
        one = judge(case, folder, python, reports)
        verdicts.append(one)
        said = "; ".join(map(shortened, one.faulty)) or "nothing"
        quiet = "; ".join(map(shortened, one.fixed)) or "nothing"
        print(
            f"| {one.name} | {case['error']} | {case['how']} | {one.found} | {said} | {quiet} "
            f"| {case['theirs']} |{' ' + one.note if one.note else ''}",
            flush=True,
        )
    found = [one for one in verdicts if one.found in ("certain", "question")]
    print(f"{len(found)} of {len(verdicts)} found, {len(cases) - len(reached)} out of reach")
    return int(any(said.startswith("CERTAIN") for one in verdicts for said in one.fixed))


def shortened(said: str) -> str:
    """Leave out the folder of a finding's file.

    >>> shortened("QUESTION graph-kept, /tmp/x/main.py:7, losses")
    'QUESTION graph-kept, main.py:7, losses'
    """
    return re.sub(r", \S*/", ", ", said, count=1)
