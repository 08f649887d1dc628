"""The name of a test fits into a line of the report; its sentence is in the docstring."""

from __future__ import annotations

import ast
from pathlib import Path

from tools.say import ROOT

LONGEST = 60  # characters


def long_names(path: Path) -> list[str]:
    """Return the tests of a file whose names are too long."""
    tests = [
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")
    ]
    return [name for name in tests if len(name) > LONGEST]


def test_names_of_tests_are_short() -> None:
    found = {path.name: long_names(path) for path in sorted((ROOT / "tests").rglob("test_*.py"))}
    assert len(found) > 50 and not {path: names for path, names in found.items() if names}


def test_a_long_name_is_found(tmp_path: Path) -> None:
    module = tmp_path / "test_sample.py"
    just_right, too_long = (f"test_{'x' * (n - 5)}" for n in (LONGEST, LONGEST + 1))
    module.write_text(
        f"def {just_right}(): ...\nclass TestIt:\n    async def {too_long}(self): ...\n"
    )
    assert long_names(module) == [too_long]
