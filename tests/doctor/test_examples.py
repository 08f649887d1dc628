"""The examples of the docs run, where the trainer that they are about is installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from tests.museum.load import ROOT

NEEDS = {"test_lightning.py": ["lightning"], "test_hf_trainer.py": ["transformers", "accelerate"]}


def test_every_example_is_tried() -> None:
    """A new example has its row in the table."""
    assert {path.name for path in (ROOT / "docs" / "examples").glob("*.py")} == set(NEEDS)


@pytest.mark.long
@pytest.mark.parametrize("name", NEEDS)
def test_an_example_runs(name: str, tmp_path: object) -> None:
    """As a reader would run it: pytest with the plugin, in a process of its own."""
    missing = [one for one in NEEDS[name] if importlib.util.find_spec(one) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} is not among the kit's own requirements")
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    example = str(ROOT / "docs" / "examples" / name)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "fnlib.pytest_plugin", "-c", os.devnull]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), "-p", "no:cacheprovider", example],
        capture_output=True, text=True, cwd=str(tmp_path), env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
