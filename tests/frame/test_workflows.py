"""The workflows for forks: well formed, safe by a linter's measure, and made of the commands that the README names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools.say import ROOT

WORKFLOWS = ROOT / ".github" / "workflows"
SCHEMA = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]


def zizmor(place: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("zizmor")
    return subprocess.run(
        [str(program), "--offline", "--no-config", str(place)], capture_output=True, text=True
    )


def test_the_workflows_are_well_formed() -> None:
    done = subprocess.run(
        [*SCHEMA, *map(str, WORKFLOWS.glob("*.yml"))], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_security_linter_finds_nothing() -> None:
    done = zizmor(WORKFLOWS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("was", "becomes"),
    [("runs-on:", "run-on:"), ("permissions:\n  contents: read", "permissions: write-all")],
)
def test_the_linters_see_a_fault(tmp_path: Path, was: str, becomes: str) -> None:
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    text = (WORKFLOWS / "tests.yml").read_text()
    assert was in text
    (folder / "tests.yml").write_text(text.replace(was, becomes))
    schema = subprocess.run([*SCHEMA, str(folder / "tests.yml")], capture_output=True, text=True)
    assert schema.returncode != 0 or zizmor(folder).returncode != 0


def test_they_cover_the_systems_by_the_readmes_commands() -> None:
    """The workflows cover all three systems and call the commands of the README."""
    text, readme = (
        (WORKFLOWS / "tests.yml").read_text(),
        (ROOT / "README.md").read_text(encoding="utf-8"),
    )
    for part in (
        "ubuntu-latest",
        "macos-latest",
        "windows-latest",
        "schedule:",
        "pull_request:",
        "newest",
    ):
        assert part in text
    for command, named in (("python tools/kit.py test", "make test"), ("make site", "make site")):
        assert f"run: {command}" in text and named in readme
