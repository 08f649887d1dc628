"""`fnlib explain`, and the command line around it."""

from __future__ import annotations

import ast
import tomllib
from typing import Any

import pytest

from fnlib.__main__ import main
from fnlib.ledger.doctor.explain import rule
from fnlib.ledger.findings.texts import TEXTS
from fnlib.teaching.explain import example_of, explanation
from fnlib.teaching.museum import EXHIBITS
from fnlib.version import __version__
from tests.museum.load import ROOT


@pytest.mark.parametrize("code", TEXTS)
def test_every_code_is_explained(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each page says what, why and fix, with an example in each field, and the fix is Python."""
    assert main(["explain", code]) == 0
    said = capsys.readouterr().out
    one = rule(code)
    assert said.startswith(f"{code}: ") and "Why it matters" in said and one.link in said
    assert "{" not in one.what + one.why, (
        "a field without an example: fnlib/ledger/doctor/explain.py"
    )
    ast.parse(one.fix)
    assert max(map(len, said.splitlines())) <= 110 or "http" in said


def test_examples_come_from_the_museum() -> None:
    """A code that an exhibit shows has that exhibit's loop as its example."""
    shown = {one.finding for one in EXHIBITS if one.finding}
    assert {code for code in TEXTS if example_of(code)} >= shown
    assert "+     optimizer.zero_grad()" in explanation("gradient-used-twice")


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["--help"], 0, "usage: fnlib doctor"),
        (["-h"], 0, "usage: fnlib doctor"),
        (["--version"], 0, __version__),
        (["explain"], 0, "snapshot-moved"),
        (["explain", "--help"], 0, "usage: fnlib explain"),
        ([], 2, "usage: fnlib doctor"),
        (["heal"], 2, "there is no command 'heal'"),
        (["explain", "snapshot-move"], 2, "fnlib explain snapshot-moved     # right"),
        (["explain", "xyz"], 2, "no finding has the code 'xyz'"),
        (["doctor", "nowhere.py"], 2, "there is no file nowhere.py"),
    ],
)
def test_the_command_line(words: list[str], status: int, says: str, capsys: Any) -> None:
    """Help goes to standard output with status 0; a wrong call says what is right, with status 2."""
    assert main(words) == status
    output = capsys.readouterr()
    assert says in (output.out if status == 0 else output.err)
    assert not (output.err if status == 0 else output.out)


def test_the_console_script_is_this_main() -> None:
    """`pip install` makes a command `fnlib` of it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"fnlib": "fnlib.__main__:main"}
