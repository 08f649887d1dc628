"""The doctor's report for programs: as JSON, and as SARIF 2.1.0 for code scanning and editors."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fnlib.ledger.doctor.explain import PAGES, rule
from fnlib.ledger.doctor.report import Report
from fnlib.ledger.entries import Finding
from fnlib.ledger.findings.texts import TEXTS
from fnlib.version import __version__

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_LEVELS = {"certain": "error", "question": "warning"}
FORMATS = ("text", "json", "sarif")


def written(report: Report, form: str, *, root: str, status: int = 0, whole: bool = False) -> str:
    """Write a report in one of the `FORMATS`.

    Args:
        report: the findings, and what was seen.
        form: "text", "json" or "sarif".
        root: folder that paths are relative to, where a file is inside of it.
        status: with which the script itself ended.
        whole: whether the text has every finding in full; the other forms always do.
    """
    if form == "text":
        return f"fnlib doctor: {report.text(whole=whole)}"
    made = as_json(report, root, status) if form == "json" else as_sarif(report, root, status)
    return json.dumps(made, indent=2, ensure_ascii=False)


def as_json(report: Report, root: str, status: int = 0) -> dict[str, Any]:
    """Return a report as plain dicts and lists."""
    seen = report.seen
    return {
        "format": "fnlib-doctor/1",
        "fnlib": __version__,
        "outcome": report.outcome,
        "script_status": status,
        "seen": {
            "models": list(seen.models),
            "optimizers": list(seen.optimizers),
            "others": list(seen.others),
            "steps": seen.steps,
            "backwards": seen.backwards,
            "left_out": list(seen.left_out),
            "little": seen.little,
        },
        "findings": [
            {
                "code": one.code,
                "severity": one.severity,
                "file": _relative(one.file, root),
                "line": one.line,
                "place": one.place,
                "what": one.what,
                "why": one.why,
                "fix": one.fix,
                "link": one.link,
                "page": f"{PAGES}{one.code}.html",
            }
            for one in report
        ],
    }


def as_sarif(report: Report, root: str, status: int = 0) -> dict[str, Any]:
    """Return a report as a SARIF 2.1.0 log: a rule for each code, a result for each finding.

    Reference: OASIS, Static Analysis Results Interchange Format 2.1.0.
    """
    codes = list(dict.fromkeys(one.code for one in report))
    notes = [
        {"level": "warning" if report.seen.little else "note", "message": {"text": why}}
        for why in (f"recorded {report.seen}: {report.outcome}", *report.seen.left_out)
    ]
    driver = {
        "name": "fnlib doctor",
        "version": __version__,
        "informationUri": PAGES,
        "rules": [_rule(code) for code in codes],
    }
    invocation = {
        "executionSuccessful": not report.seen.broken,
        "exitCode": status,
        "toolExecutionNotifications": notes,
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {"SRCROOT": {"uri": Path(root).as_uri().rstrip("/") + "/"}},
        "invocations": [invocation],
        "results": _results(report, codes, root),
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(code: str) -> dict[str, Any]:
    if code not in TEXTS:  # a rule of the caller's own
        return {"id": code}
    one = rule(code)
    fix = "\n".join(f"    {line}" for line in one.fix.splitlines())
    met = f"\n\nSee {one.link}" if one.link else ""
    return {
        "id": code,
        "name": code.title().replace("-", ""),
        "shortDescription": {"text": one.what},
        "fullDescription": {"text": one.why},
        "help": {
            "text": f"{one.why} Write:\n\n{fix}{met}",
            "markdown": f"{one.why} Write:\n\n```python\n{one.fix}\n```{met}",
        },
        "helpUri": one.page,
    }


def _results(report: Sequence[Finding], codes: list[str], root: str) -> list[dict[str, Any]]:
    """Write the findings; equal ones of one file are told apart by their number, not their line."""
    results, met = [], dict[str, int]()
    for one in report:
        file = _relative(one.file, root)
        key = "\n".join((one.code, file, one.place))
        met[key] = met.get(key, 0) + 1
        print_ = hashlib.sha256(f"{key}\n{met[key]}".encode()).hexdigest()[:32]
        result: dict[str, Any] = {
            "ruleId": one.code,
            "ruleIndex": codes.index(one.code),
            "level": _LEVELS[one.severity],
            "message": {"text": f"{one.what} {one.why}\n\nWrite:\n{one.fix}"},
            "partialFingerprints": {"fnlibFinding/v1": print_},
            "properties": {"severity": one.severity, "place": one.place},
        }
        if file and one.line:
            artifact = {"uri": quote(file)}
            if not os.path.isabs(file):
                artifact["uriBaseId"] = "SRCROOT"
            else:
                artifact["uri"] = Path(file).as_uri()
            physical = {"artifactLocation": artifact, "region": {"startLine": one.line}}
            result["locations"] = [{"physicalLocation": physical}]
        results.append(result)
    return results


def _relative(file: str, root: str) -> str:
    """Return a path with forward slashes, relative to the root where the file is inside of it."""
    if not file:
        return ""
    path = Path(root, file)
    try:
        return path.resolve().relative_to(Path(root).resolve()).as_posix()
    except ValueError:  # elsewhere
        return str(path)
