"""Lesson 16: the three changes of "Investigate", and what its text claims of the project and of values."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import fnlib
from tests.lessons.tried import Tried, cell, rows

NO_RUN = {"doctor": [('plain = doctor("--steps", "20", "train.py")\nprint(plain.stdout)', "")]}


@pytest.fixture(autouse=True)
def _forget_the_project() -> Iterator[None]:
    """Its modules have the names of many projects, and its folder goes with the notebook."""
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name in ("data", "model", "train"):
        sys.modules.pop(name, None)


def test_16_a_file_without_training_is_status_3() -> None:
    more = 'ran = doctor("data.py")\nprint(ran.stderr, ran.returncode)'
    tried = Tried("16", ("predict", "doctor"), NO_RUN, more)
    assert tried.error is None and "too little to judge" in tried.said
    assert tried.names["ran"].returncode == 3


def test_16_the_batch_matters_in_the_head() -> None:
    more = """
reader.eval()
many, two = test.images[:64], test.images[:2]
whole = torch.allclose(reader(many)[:2], reader(two))
features = torch.allclose(reader.features(many)[:2], reader.features(two))
"""
    tried = Tried("16", ("predict", "ledger"), {}, more)
    assert tried.error is None
    assert (tried.names["whole"], tried.names["features"]) == (False, True)


def test_16_the_noise_stays_in_the_stored_images() -> None:
    more = """
def spread(images):
    before = images.images.std()
    for epoch in range(3):
        list(images.batches(32))
    return before, images.images.std()

noisy, clean = spread(training), spread(validation)
"""
    tried = Tried("16", ("predict", "ledger"), {}, more)
    assert tried.error is None
    (before, after), (still, same) = tried.names["noisy"], tried.names["clean"]
    assert after > 1.02 * before
    torch.testing.assert_close(still, same)


def test_16_the_row_of_the_draw() -> None:
    """Of all rows, one moves something that training needs later; the modes are set again."""
    tried = Tried("16", ("predict", "ledger"), {})
    assert tried.error is None
    ledger, scanner = tried.names["ledger"], tried.names["scanner"]
    drawing = [
        entry.source
        for entry in ledger.walk()
        if any(change.label == "random.torch" for change in entry.changes) and not entry.inside
    ]
    assert drawing == ["some = torch.randperm(len(labels))[:QUICK]"]
    assert len(list(tried.names["reader"].modules())) == 18
    (call,) = rows(ledger)
    assert "evaluate" in call and "model.train()" in Path(scanner.__file__).read_text("utf-8")


def test_16_depth_adds_the_names_of_called_functions() -> None:
    """As the text says: without depth, the write into the stored images isn't in the table."""
    more = """
def writes(**options):
    with fnlib.Ledger(reader=reader, **options) as ledger:
        for batch in training.batches(300):
            pass
    return {change.owner for one in ledger.walk() for change in one.changes if "place" in change.kind}

shallow, deep = writes(), writes(depth=1)
"""
    tried = Tried("16", ("predict", "ledger"), {}, more)
    assert tried.error is None
    assert "images" not in tried.names["shallow"] and "images" in tried.names["deep"]


def test_16_the_ledger_does_not_watch_other_attributes() -> None:
    """As the text says: not what an object of no known kind holds, nor a dropout's rate."""
    more = """
with fnlib.Ledger(reader=reader, depth=1) as ledger:
    reader.head[4].p = 0.9
    training.images.add_(1)
    training.images = training.images + 1
    images = training.images
    images.add_(1)
    reader.head[5].bias.requires_grad_(False)
    reader.train()
changed = [{change.label for change in entry.changes} for entry in ledger.entries]
"""
    tried = Tried("16", ("predict", "ledger"), {}, more)
    assert tried.error is None
    rate, inside, bound, _, written, flag, mode = tried.names["changed"]
    assert rate == inside == bound == set()
    assert "images" in written and flag == {"reader.head.5.bias.requires_grad"}
    assert "reader.training" in mode


def test_16_shows_how_to_look_at_symptoms_4_and_6(tmp_path: Path) -> None:
    """`best.pt` has the last epoch's weights; with ``--validate-every 2``, `last.pt` differs."""
    more = f"""
for folder, every in (("one", "1"), ("two", "2")):
    out = Path({str(tmp_path)!r}) / folder
    out.mkdir()
    scanner.main(["--epochs", "3", "--validate-every", every, "--out", str(out)])
"""
    tried = Tried("16", ("predict", "ledger"), {}, more)
    assert tried.error is None
    best = torch.load(tmp_path / "one" / "best.pt")
    one, two = (torch.load(tmp_path / name / "last.pt")["model"] for name in ("one", "two"))
    assert all(torch.equal(best[name], one[name]) for name in best)
    assert not torch.equal(one["head.5.weight"], two["head.5.weight"])


def test_16_lists_the_files_as_they_are() -> None:
    """The numbers in front of the lines are those of the findings and of the check."""
    tried = Tried("16", ("predict", "files"), {})
    assert tried.error is None
    assert " 24                  images += self.noise * torch.randn(images.shape)" in tried.said
    assert " 33          optimizer.step()" in tried.said


def test_16_values_keep_the_best_and_the_moments_together() -> None:
    """As "What each style costs here" says: no copy, and no optimizer with tensors of its own."""
    factory = fnlib.Sequential(nn.Linear(2, 1), optimizer=fnlib.Adam(lr=0.1))
    parameters = factory(fnlib.Parameters(seed=0)).parameters
    best, kept = parameters, parameters["0.weight"].clone()
    for _ in range(2):
        model = factory(parameters)
        parameters = model.step(model.backward(model(torch.ones(1, 2)).sum()))
    assert torch.equal(best["0.weight"], kept) and not torch.equal(parameters["0.weight"], kept)
    again = factory(parameters)
    after = again.step(again.backward(again(torch.ones(1, 2)).sum()))
    assert not torch.equal(after["0.weight"], parameters["0.weight"])


def test_16_runs_again_from_any_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell once after all that come later, then the lesson again; nbval runs the doctor."""
    calls: list[Path] = []

    def recorded(command: list[str], **options: Any) -> SimpleNamespace:
        calls.append(Path(options["cwd"]))
        return SimpleNamespace(stdout="", stderr="a report", returncode=0)

    monkeypatch.setattr(subprocess, "run", recorded)
    cells = ("predict", "files", "doctor", "report", "resume", "ledger", "whose", "decide", "change",
             "make", "mended", "exit")  # fmt: skip
    tried = Tried("16", (*cells, *reversed(cells[1:]), *cells[1:]), {})
    assert tried.error is None
    assert tried.said.count("✓ 16-whose: passed") == 3
    assert tried.said.count("✓ 16-mended: passed") == 3
    assert len(calls) == 6 and all(folder.name == "scanner" for folder in calls)
    room = Path(tried.names["room"].name)
    assert room.is_dir()
    tried.names["room"].cleanup()
    assert not room.exists()


def test_16_the_doctor_cell_is_the_command_of_the_text() -> None:
    """What the text says is run is what the cell runs."""
    source = cell("16", "doctor")
    assert '"-m", "fnlib", "doctor"' in source and '"--steps", "20", "train.py"' in source
