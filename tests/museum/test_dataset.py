"""The museum as a data set: valid, complete, runnable, and with ids that stay."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from course import dataset
from fnlib.ledger.doctor.script import main as doctor
from fnlib.teaching.museum import EXHIBITS, exhibit
from tests.museum.load import CORRECT, ROOT

IDS = (Path(__file__).parent / "ids.txt").read_text(encoding="utf-8").split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "museum"
    assert dataset.write(path) == len(EXHIBITS)
    return path


@pytest.fixture(scope="module")
def made(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "museum.json").read_text(encoding="utf-8"))


def check(made: dict[str, Any]) -> None:
    schema = json.loads(dataset.SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(made)


def test_it_keeps_to_its_schema(folder: Path, made: dict[str, Any]) -> None:
    """The records are valid, and the schema travels with them."""
    check(made)
    assert (folder / "museum.schema.json").read_bytes() == dataset.SCHEMA.read_bytes()
    assert (folder / "LICENSE").exists() and (folder / "LICENSE-texts.md").exists()


@pytest.mark.parametrize(
    ("field", "value"), [("id", "With Space"), ("pytorch", "loud"), ("harm", 3), ("extra", 1)]
)
def test_the_schema_sees_a_fault(made: dict[str, Any], field: str, value: object) -> None:
    """The check itself: a wrong value, or a field that nobody has described."""
    wrong = json.loads(json.dumps(made))
    wrong["exhibits"][0][field] = value
    with pytest.raises(jsonschema.ValidationError):
        check(wrong)


def test_ids_stay() -> None:
    """Every id that was ever published is there; a new exhibit is added to the list."""
    assert IDS == sorted(set(IDS)) and {one.code for one in EXHIBITS} == {*IDS}


def test_every_file_is_there(folder: Path, made: dict[str, Any]) -> None:
    """Each record has its scripts; lines are those of the bug; no script gives its bug away."""
    for one in made["exhibits"]:
        bug, cure = ((folder / one[part]).read_text(encoding="utf-8") for part in ("bug", "cure"))
        names = {getattr(node, "name", "") for node in ast.parse(bug).body}
        assert "bug" in names and not names & {"cure", "harm"}
        assert ast.get_docstring(ast.parse(bug)) is None and bug != cure
        assert all(0 < line <= len(bug.splitlines()) for line in one["lines"])
    assert len(made["correct"]) == len(CORRECT)
    assert all((folder / path).exists() for path in made["correct"])


RUN = ["zero_grad_forgotten", "best_state_dict", "total_loss_keeps_graphs"]


@pytest.mark.parametrize("code", [one for one in RUN if one in IDS])
def test_scripts_run_and_are_found(code: str, folder: Path, tmp_path: Path) -> None:
    """The doctor finds the code of the record in the bug, and nothing in the cure."""
    output = tmp_path / "out.json"
    for part, codes in (("bug", {exhibit(code).finding}), ("cure", set())):
        doctor(["--format", "json", "--output", str(output), str(folder / part / f"{code}.py")])
        assert {one["code"] for one in json.loads(output.read_text())["findings"]} == codes


def test_the_page_is_true(folder: Path, made: dict[str, Any], tmp_path: Path) -> None:
    """The program of docs/dataset.md counts stock bugs, cures and programs; here one or two of each."""
    text = (ROOT / "docs" / "dataset.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    styles = [one["style"] for one in made["exhibits"]]
    assert f"{styles.count('stock')} loops" in text and f"{styles.count('functional')} are" in text
    few = [one for one in made["exhibits"] if one["style"] == "functional" or one["id"] in RUN[:2]]
    few[0] = few[0] | {"finding": "another-code"}
    museum = {"exhibits": few, "correct": ["correct/mlp_classifier.py"]}
    (tmp_path / "build").mkdir()
    shutil.copytree(folder, tmp_path / "build" / "museum")
    (tmp_path / "build" / "museum" / "museum.json").write_text(json.dumps(museum), "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
    )
    assert done.stdout.splitlines() == [
        "1 of 2 bugs found",
        "reported as faulty: 0 cures, 0 of 1 programs",
    ], done.stderr


def test_a_full_folder_is_left_alone(folder: Path) -> None:
    """The command writes into a new folder only."""
    done = subprocess.run(
        [sys.executable, "-m", "course.dataset", str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode != 0 and "is not empty" in done.stderr
