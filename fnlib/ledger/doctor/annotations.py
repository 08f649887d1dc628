"""``python -m fnlib.ledger.doctor.annotations FILE``: a SARIF file as GitHub's annotations.

The Action runs this. Each result becomes a workflow command, which GitHub shows at its line.
"""

from __future__ import annotations

import json
import sys
from typing import Any
from urllib.parse import unquote

_COMMANDS = {"error": "error", "warning": "warning"}
_ESCAPES = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_IN_A_PROPERTY = {":": "%3A", ",": "%2C"}


def commands(log: dict[str, Any]) -> list[str]:
    """Return a workflow command for each result of a SARIF log.

    Reference: GitHub Docs, "Workflow commands for GitHub Actions", setting an error message.

    Example:
        >>> place = {"artifactLocation": {"uri": "train.py"}, "region": {"startLine": 7}}
        >>> one = {"ruleId": "graph-kept", "level": "error", "message": {"text": "It grows."}}
        >>> commands({"runs": [{"results": [one | {"locations": [{"physicalLocation": place}]}]}]})
        ['::error file=train.py,line=7,title=graph-kept::It grows.']
    """
    lines = []
    for run in log["runs"]:
        for one in run["results"]:
            command = _COMMANDS.get(one.get("level", "warning"), "notice")
            properties = {}
            for location in one.get("locations", [])[:1]:
                physical = location["physicalLocation"]
                properties["file"] = unquote(physical["artifactLocation"]["uri"])
                properties["line"] = str(physical["region"]["startLine"])
            properties["title"] = one["ruleId"]
            said = ",".join(
                f"{name}={_escaped(value, _ESCAPES | _IN_A_PROPERTY)}"
                for name, value in properties.items()
            )
            lines.append(f"::{command} {said}::{_escaped(one['message']['text'], _ESCAPES)}")
    return lines


def _escaped(text: str, escapes: dict[str, str]) -> str:
    """Escape what would end the command; the percent sign first, as the others become one."""
    for letter, code in escapes.items():
        text = text.replace(letter, code)
    return text


def main(arguments: list[str]) -> int:
    """Print the annotations of the SARIF files that are named."""
    for file in arguments:
        with open(file, encoding="utf-8") as log:
            print(*commands(json.load(log)), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
