"""The lock file: it has every pinned package in the pinned version, and leaves PyTorch to the system."""

from __future__ import annotations

import re

import pytest

from tools import environment
from tools.say import ROOT


def pins(name: str) -> dict[str, str]:
    """Package and version of each pinned line of a file."""
    lines = re.findall(
        r"^([\w.-]+)==([^\s;]+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE
    )
    return {re.sub(r"[-_.]+", "-", package).lower(): version for package, version in lines}


@pytest.mark.parametrize("name", [environment.CLASSROOM, environment.SITE, environment.TESTS])
def test_a_pinned_package_has_one_version(name: str) -> None:
    locked = pins(environment.LOCK)
    wanted = {package: version for package, version in pins(name).items() if package != "torch"}
    assert wanted and wanted.items() <= locked.items()


def test_the_lock_leaves_the_build_of_pytorch_open() -> None:
    locked = pins(environment.LOCK)
    assert len(locked) > 150
    assert not [package for package in locked if re.match("torch$|nvidia|cuda|triton", package)]


def test_an_installation_keeps_to_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(
        environment, "pip", lambda command, arguments: calls.append(list(arguments))
    )
    for options, held in (([], True), (["--no-index"], False)):
        monkeypatch.setattr(environment.torch_source, "pip_options", lambda python, o=options: o)
        environment._install(["requirements.txt"])
        assert (environment.LOCK in calls[-2]) is held
