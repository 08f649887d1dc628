"""The GitHub Action of the doctor: its steps are run here by hand, on a pull request with a planted bug."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.frame.test_workflows import zizmor
from tools.say import ROOT

ACTION = ROOT / ".github" / "actions" / "doctor" / "action.yml"
SCHEMA = ["--builtin-schema", "vendor.github-actions"]
HEALTHY = """import copy, sys
import torch

model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(int(sys.argv[1])):
    optimizer.zero_grad()
    loss = model(torch.ones(4, 2)).square().mean()
    loss.backward()
    optimizer.step()
print("trained", sys.argv[1:])
"""
BEST = {"planted": "model.state_dict()", "cured": "copy.deepcopy(model.state_dict())"}

bash = pytest.mark.skipif(shutil.which("bash") is None, reason="the Action's steps are bash")


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pull_request(folder: Path, best: str) -> list[int]:
    """Make a repository with a branch that restores the best model; return the lines that it adds."""
    (folder / "src").mkdir(parents=True)
    file = folder / "src" / "train.py"
    file.write_text(HEALTHY)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "Train")
    git(folder, "switch", "-qc", "best")
    text = HEALTHY.replace(
        "    optimizer.step()\n",
        f"    optimizer.step()\n    if step == 1:\n        best = {best}\n",
    )
    file.write_text(text.replace("print(", "model.load_state_dict(best)\nprint("))
    git(folder, "commit", "-qam", "Restore the best model")
    lines, added = 0, []
    for line in git(folder, "diff", "-U0", "main", "best").splitlines():
        if found := re.match(r"@@ -\S+ \+(\d+)", line):
            lines = int(found[1])
        elif line.startswith("+") and not line.startswith("+++"):
            added.append(lines)
            lines += 1
    return added


def filled(text: str, values: dict[str, str]) -> str:
    """Fill in ${{ expressions }}, as GitHub does before a step runs."""
    return re.sub(r"\$\{\{ (.+?) \}\}", lambda found: values[found[1]], text)


def holds(condition: str, values: dict[str, str]) -> bool:
    """Evaluate the two forms of a condition that the Action uses."""
    left, operator, right = re.fullmatch(r"(\S+) (==|!=) '(.*)'", condition).groups()  # type: ignore[union-attr]
    return (values[left] == right) == (operator == "==")


def run_steps(folder: Path, given: dict[str, str]) -> tuple[int, str]:
    """Run the Action's steps with bash, as a runner would; return the last status and the log."""
    action: dict[str, Any] = yaml.safe_load(ACTION.read_text())
    inputs = {name: one.get("default", "") for name, one in action["inputs"].items()}
    values = {f"inputs.{name}": value for name, value in (inputs | given).items()}
    log, output = "", folder.parent / "output"
    output.write_text("")
    for step in action["runs"]["steps"]:
        if "if" in step and not holds(step["if"], values):
            continue
        variables = {name: filled(text, values) for name, text in step["env"].items()}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {"GITHUB_OUTPUT": str(output), "PATH": path, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=folder, env={**os.environ, **own, **variables}, capture_output=True, text=True,
        )  # fmt: skip
        log += done.stdout + done.stderr
        for line in output.read_text().splitlines():
            name, _, value = line.partition("=")
            values[f"steps.{step.get('id')}.outputs.{name}"] = value
        output.write_text("")
        if done.returncode:
            return done.returncode, log
    return 0, log


@bash
@pytest.mark.long
def test_a_planted_bug_is_annotated_at_its_line(tmp_path: Path) -> None:
    """The annotation is at a line that the pull request adds, and the check fails."""
    added = pull_request(tmp_path / "repository", BEST["planted"])
    given = {"script": "src/train.py", "arguments": "4 --dry-run", "install": ""}
    status, log = run_steps(tmp_path / "repository", given)
    assert status == 1 and "trained ['4', '--dry-run']" in log
    (command,) = re.findall(r"^::error file=(\S+?),line=(\d+),title=(\S+?)::", log, re.MULTILINE)
    assert command[0] == "src/train.py" and command[2] == "snapshot-moved"
    assert int(command[1]) == added[-1], (command, added)


@bash
@pytest.mark.long
@pytest.mark.parametrize(
    ("best", "given", "status", "says"),
    [
        (BEST["cured"], {}, 0, "nothing found"),
        (BEST["planted"], {"steps": "1", "arguments": "40"}, 0, "what ran after 1 optimizer steps"),
        (BEST["planted"], {"arguments": "none"}, 1, "ValueError"),
        (BEST["cured"], {"script": "src/nowhere.py"}, 2, "there is no file src/nowhere.py"),
        (BEST["cured"], {"sarif": "no/folder/a.sarif"}, 2, "there is no folder"),
    ],
    ids=["cured", "few steps", "the script fails", "no script", "no folder"],
)
def test_other_pull_requests(
    best: str, given: dict[str, str], status: int, says: str, tmp_path: Path
) -> None:
    """A healthy script passes; what keeps the doctor from working fails the check and says why."""
    pull_request(tmp_path / "repository", best)
    given = {"script": "src/train.py", "arguments": "4", "install": "", **given}
    result, log = run_steps(tmp_path / "repository", given)
    report = tmp_path / "repository" / "fnlib-doctor.sarif"
    assert result == status, log
    assert says in log + (report.read_text() if report.exists() else "")


def test_the_action_is_well_formed() -> None:
    """By the schema of GitHub, and by a linter that knows what makes an action unsafe."""
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *SCHEMA, str(ACTION)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    done = zizmor(ACTION)
    assert done.returncode == 0, done.stdout + done.stderr
