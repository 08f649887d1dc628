"""The project of lesson 16: each bug does harm alone, each cure ends it, and the doctor says what the lesson says."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from course import student
from fnlib.ledger.doctor.script import main
from fnlib.teaching.content.exercises.lesson_16 import (
    BUGS,
    FILES,
    FINDERS,
    KINDS,
    PROJECT,
    copy_with,
    line_of,
    measured,
)

ALL = tuple(BUGS)
EXPERIMENT = PROJECT.parents[4] / "lessons" / "instructor" / "experiment.md"
RESUMED = ("--resume", "last.pt", "--epochs", "1")
NOTICED = (
    "data-changed-in-place",
    "load-without-effect",
    "weight-not-in-optimizer",
)


def copy(folder: Path, *kept: int) -> Path:
    """Write the project with some of its bugs, the others mended."""
    changes = (bug.changes for number, bug in BUGS.items() if number not in kept)
    return copy_with(folder, *itertools.chain.from_iterable(changes))


@contextlib.contextmanager
def forgotten() -> Iterator[None]:
    """Forget the project's modules, whose names are those of many projects."""
    names = [name.removesuffix(".py") for name in FILES]
    for name in names:
        sys.modules.pop(name, None)
    try:
        yield
    finally:
        for name in names:
            sys.modules.pop(name, None)


@contextlib.contextmanager
def imported(folder: Path) -> Iterator[tuple[ModuleType, ModuleType]]:
    """Import the project's data.py and train.py from a folder."""
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    try:
        with forgotten(), torch.random.fork_rng():
            yield importlib.import_module("data"), importlib.import_module("train")
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = before


def doctor(folder: Path, *command: str) -> int:
    """Run the doctor as if in a terminal; the report goes to standard error."""
    with contextlib.chdir(folder), forgotten(), torch.random.fork_rng():
        return main([*command])


def texts(folder: Path) -> tuple[str, ...]:
    return tuple((folder / name).read_text(encoding="utf-8") for name in FILES)


# --- harms and cures -------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ALL)
def test_each_bug_alone_has_its_symptom_alone(number: int, tmp_path: Path) -> None:
    """So the six measures are independent, and five cures leave the sixth symptom alone."""
    assert measured(texts(copy(tmp_path, number)))["symptoms"] == {number}


@pytest.mark.parametrize("number", ALL)
def test_each_cure_alone_ends_its_symptom(number: int, tmp_path: Path) -> None:
    rest = set(ALL) - {number}
    assert measured(texts(copy(tmp_path, *rest)))["symptoms"] == rest


def test_the_project_has_all_six_and_the_mended_one_none(tmp_path: Path) -> None:
    assert measured(texts(PROJECT))["symptoms"] == set(ALL)
    mended = measured(texts(copy(tmp_path)))
    assert mended["symptoms"] == set() and mended["noisy"] and mended["images"] == 600


def _trained(folder: Path, seed: int = 0, epochs: int = 6) -> tuple[Any, list[float], Any, Any]:
    with imported(folder) as (data, train):
        torch.manual_seed(seed)
        training, validation, test = data.load(seed=seed)
        reader = train.Reader()
        optimizer = torch.optim.Adam(reader.parameters(), lr=0.005)
        losses = [train.train_epoch(reader, optimizer, training, 32) for _ in range(epochs)]
        return train, losses, reader, (validation, test)


def test_symptom_1_the_loss_turns_around(tmp_path: Path) -> None:
    """As the colleague says: with 24 epochs it falls, then it climbs. With the cure it doesn't."""
    _, sick, _, _ = _trained(PROJECT, epochs=24)
    _, well, _, _ = _trained(copy(tmp_path), epochs=24)
    lowest = sick.index(min(sick))
    assert 2 < lowest < 18 and sick[-1] > 1.2 * min(sick) and sick[0] > 3 * min(sick)
    assert well[-1] < 0.5 * min(sick)


def test_symptom_2_validation_is_better_than_the_test(tmp_path: Path) -> None:
    """In each of four splits; with the cure, the mean of the gaps is less than half as large."""
    gaps: dict[Path, list[float]] = {}
    for folder, seed in itertools.product((PROJECT, copy(tmp_path)), range(4)):
        train, _, reader, (validation, test) = _trained(folder, seed)
        gap = train.evaluate(reader, validation) - train.evaluate(reader, test)
        gaps.setdefault(folder, []).append(gap)
    sick, well = gaps.values()
    assert min(sick) > 0.02 and sum(well) < sum(sick) / 2


def test_symptom_3_pairs_are_read_far_worse(tmp_path: Path) -> None:
    """And one image alone raises an error; neither happens with the cure."""
    train, _, reader, (_, test) = _trained(PROJECT)
    assert train.evaluate(reader, test, 64) > train.evaluate(reader, test, 2) + 0.15
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        train.evaluate(reader, test, 1)
    train, _, reader, (_, test) = _trained(copy(tmp_path))
    assert train.evaluate(reader, test, 64) == pytest.approx(train.evaluate(reader, test, 1))


def test_the_mended_project_reads_well(tmp_path: Path) -> None:
    """It learns from 150 images and their copies."""
    train, _, reader, (_, test) = _trained(copy(tmp_path))
    assert train.evaluate(reader, test) > 0.82


# --- the doctor ------------------------------------------------------------------------------------

PLAIN = {
    1: "QUESTION data-changed-in-place, data.py:24",
    4: "QUESTION load-without-effect, train.py:",
}


@pytest.mark.parametrize("number", [1, 2, 3, 4, 6])
def test_the_doctor_on_one_bug(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It asks about 1 and 4, and is silent about 2, 3 and 6: the status is 0 for all."""
    status = doctor(copy(tmp_path, number), "--steps", "25", "train.py", "--epochs", "2")
    said = capsys.readouterr().err
    assert status == 0
    wanted = PLAIN.get(number, "nothing found")
    assert wanted in said and ("0 certain, 1 question" in said) is (number in PLAIN)


def test_the_doctor_sees_5_only_if_it_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(tmp_path, 5)
    assert doctor(folder, "--steps", "25", "train.py", "--epochs", "2") == 0
    assert "nothing found" in capsys.readouterr().err
    assert doctor(folder, "train.py", *RESUMED) == 1
    said = capsys.readouterr().err
    assert "1 certain, 0 questions" in said
    lines = (folder / "train.py").read_text(encoding="utf-8").splitlines()
    (shown,) = re.findall(r"train\.py:(\d+)", said)
    assert lines[int(shown) - 1].strip() == "optimizer.step()"


def test_the_mended_project_is_healthy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --strict, so no question either, in a first run and in a resumed one."""
    folder = copy(tmp_path)
    assert doctor(folder, "--strict", "train.py") == 0
    assert doctor(folder, "--strict", "train.py", *RESUMED) == 0
    assert capsys.readouterr().err.count("nothing found") == 2


def test_the_doctor_names_three_of_six(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two questions at status 0, which --strict makes 1, and a certain bug in the resumed run."""
    folder = copy(tmp_path, *ALL)
    assert doctor(folder, "--steps", "20", "train.py") == 0
    assert doctor(folder, "--strict", "--steps", "20", "train.py", "--epochs", "3") == 1
    assert doctor(folder, "train.py", *RESUMED) == 1
    codes = re.findall(r"^(?:CERTAIN|QUESTION) ([a-z-]+)", capsys.readouterr().err, re.M)
    assert set(codes) == set(NOTICED)


REPORTED = {
    "data-changed-in-place": 1,
    "load-without-effect": 4,
    "snapshot-moved": 4,
    "snapshot-shares-memory": 4,
    "weight-not-in-optimizer": 5,
}


def test_a_finder_of_any_run_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Symptom 4 is certain if the recording reaches its load, and the exercise takes both."""
    folder = copy(tmp_path, *ALL)
    seen: dict[int, set[str]] = {}
    for command in (
        ("--steps", "20", "train.py"),
        ("train.py",),
        ("--steps", "200", "train.py"),
        ("train.py", *RESUMED),
    ):
        doctor(folder, *command)
        for sure, code in re.findall(
            r"^(CERTAIN|QUESTION) ([a-z-]+)", capsys.readouterr().err, re.M
        ):
            seen.setdefault(REPORTED[code], set()).add(sure.lower())
    assert seen == {number: set(BUGS[number].finders) for number in (1, 4, 5)}


# --- what is shipped -------------------------------------------------------------------------------


def test_a_bug_is_at_each_line_that_counts() -> None:
    for bug in BUGS.values():
        assert all(line_of(bug.file, text) for text in bug.lines) and set(bug.kinds) <= set(KINDS)
        assert all(any(text in one for one in texts(PROJECT)) for text in bug.near)
    assert len({kind for bug in BUGS.values() for kind in bug.kinds}) == 6 < len(KINDS)
    assert {one for bug in BUGS.values() for one in bug.finders} == set(FINDERS)


def test_each_line_that_a_cure_changes_counts() -> None:
    """Whoever names the line of the lesson's own change gets the point."""
    for bug in BUGS.values():
        lines = {line_of(bug.file, text) for text in bug.lines}
        changed = {line_of(file, old) for file, old, _ in bug.changes if "import" not in old}
        assert changed <= lines


def test_students_get_the_project_without_its_answers(tmp_path: Path) -> None:
    """All of its files are in the students' edition; neither they nor the notebook name a bug."""
    student.write(tmp_path)
    where = tmp_path / PROJECT.relative_to(PROJECT.parents[4])
    assert texts(where) == texts(PROJECT)
    (notebook,) = (tmp_path / "lessons").glob("16_*.ipynb")
    shown = "\n".join([*texts(where), notebook.read_text(encoding="utf-8")])
    for given in ("deepcopy", "images = images +", "(*repeated", "# bug", "BUG", '"data.py", 24'):
        assert given not in shown


def test_the_halves_of_the_experiment() -> None:
    """The page's own code makes them, each with its three symptoms."""
    halves, test = re.findall(r"```python\n(.*?)```", EXPERIMENT.read_text("utf-8"), re.S)
    made: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fnlib.teaching.content.exercises.lesson_16.copy_with", made.setdefault)
        exec(halves.replace("*(change", "[*(change").replace("changes))", "changes)])"), {})
    kept = {
        name: {n for n, bug in BUGS.items() if not set(bug.changes) & set(changes)}
        for name, changes in made.items()
    }
    assert kept == {"project_a": {1, 2, 6}, "project_b": {3, 4, 5}}
    with contextlib.redirect_stdout(None) as _:
        exec(test, said := {})
    assert len(said["divisions"]) == 70 and 0.02 < 2 / 70 < 0.03


def test_the_key_of_the_experiment(tmp_path: Path) -> None:
    """The page's lines are those of the halves, where earlier lines may be mended."""
    row = re.compile(r"^\| ([AB]) \| (\d) \| `(\w+\.py)` \| ([\d, ]+) \|$", re.M)
    key = row.findall(EXPERIMENT.read_text("utf-8"))
    assert [int(number) for _, number, _, _ in key] == [1, 2, 6, 3, 4, 5]
    folders = {"A": copy(tmp_path / "a", 1, 2, 6), "B": copy(tmp_path / "b", 3, 4, 5)}
    for half, number, file, lines in key:
        bug, text = BUGS[int(number)], (folders[half] / file).read_text("utf-8")
        right = sorted(text.partition(line)[0].count("\n") + 1 for line in bug.lines)
        assert file == bug.file and all(line in text for line in bug.lines)
        assert right == [int(line) for line in lines.split(",")], number


def test_the_key_in_the_chapter() -> None:
    """Each line of the chapter's table is one that the exercise takes."""
    text = EXPERIMENT.with_name("lesson_16.md").read_text("utf-8")
    key = re.findall(r"^\| (\d) \| `(\w+\.py)`, line (\d+), ", text, re.M)
    assert [int(number) for number, _, _ in key] == list(BUGS)
    for number, file, line in key:
        bug = BUGS[int(number)]
        assert file == bug.file and int(line) in {line_of(file, text) for text in bug.lines}
