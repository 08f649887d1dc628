"""What learners typed into the checks of lesson 16, and what they read; see `test_answers`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fnlib.teaching.content.exercises.lesson_16 import BUGS, copy_with, line_of, solved
from fnlib.teaching.exercises import Outcome
from tests.teaching.test_answers import ERROR, NOT_YET, PASSED, _judged

SLICE = line_of("data.py", "images = self.images[start")
SPLIT = line_of("data.py", "valid, train = order")
EVAL = line_of("train.py", "model.eval()")
NORM = line_of("model.py", "nn.BatchNorm2d(")
LOADED = line_of("train.py", "model.load_state_dict(best)")
STEP = line_of("train.py", "optimizer.step()")
QUICK = line_of("train.py", "quick=True)")
RESTORED = line_of("train.py", "model, start = restore(")
SEED = line_of("train.py", "torch.manual_seed(0)")

WHOSE: list[tuple[Any, Outcome, str]] = [
    (solved(), PASSED, "20 points or more"),
    ({1: ("data.py", SLICE, "alias", "question")}, PASSED, ""),
    ({2: ("data.py", SPLIT, "leak", "reading")}, PASSED, ""),
    *(
        (
            {2: ..., 3: (..., ..., ..., "reading"), number: (file, line, kind, finder)},
            NOT_YET,
            "17 of 24",
        )
        for number, file, line, kind, finder in (
            (1, "data.py", 19, "changed data", "question"),
            (4, "train.py", 76, "alias", "question"),
            (4, "train.py", 76, "alias", "certain"),
            (5, "train.py", 39, "other tensors", "certain"),
            (5, "train.py", 44, "other tensors", "certain"),
            (5, "train.py", 61, "other tensors", "certain"),
            (5, "train.py", 62, "other tensors", "certain"),
            (6, "train.py", QUICK, "random numbers", "ledger"),
        )
    ),
    (
        {2: ..., 3: (..., ..., ..., "reading"), 4: ("train.py", 76, "alias", "ledger")},
        NOT_YET,
        "16 of 24 points. To look at again: 2: file, line, kind, who finds it; 3: file, line, kind; 4: who",
    ),
    ({2: ("data.py", 40, "leak", "reading")}, PASSED, ""),
    ({2: ("data.py", 48, "leak", "reading")}, PASSED, ""),
    ({2: ..., 6: ("train.py", ..., "random numbers", "ledger")}, NOT_YET, "19 of 24 points"),
    ({6: ("train.py", 20, None, ...)}, PASSED, "20 points or more"),
    ({6: (..., 20, "mode", "ledger"), 4: [...]}, NOT_YET, "Answer 4 has the form"),
    ({6: (..., "20", "mode", "ledger")}, NOT_YET, "Its line is a number"),
    ({5: ["train.py", RESTORED, "other tensors", "certain"]}, PASSED, ""),
    ({3: ("scanner/model.py", NORM + 14, "mode", "ledger")}, PASSED, "20 points or more"),
    ({4: ..., 3: ("model.py", NORM, "mode", "question")}, NOT_YET, "17 of 24 points"),
    ({2: ..., 3: ...}, NOT_YET, "16 of 24 points. To look at again: 2: file, line, kind, who"),
    (
        {2: ..., 3: ("train.py", EVAL, "mode", "reading")},
        NOT_YET,
        f"Symptom 3, train.py:{EVAL}: evaluation mode is set; which layer doesn't listen?",
    ),
    (
        {2: ..., 3: ("model.py", NORM, "mode", "reading")},
        NOT_YET,
        "this layer has running statistics",
    ),
    (
        {2: ..., 6: ("train.py", SEED, "random numbers", "reading")},
        NOT_YET,
        "18 of 24 points. To look at again: 2: file, line, kind, who finds it; 6: line, who finds",
    ),
    (
        {
            2: ...,
            4: ("train.py", LOADED, "alias", "certain"),
            5: ("train.py", STEP, "gradient", "question"),
        },
        NOT_YET,
        "you named the lines of the findings, where the harm shows",
    ),
    (
        {2: ..., 4: ("train.py", LOADED, "alias", "question"), 6: ...},
        NOT_YET,
        "this is where it shows; which line makes `best`?",
    ),
    (dict.fromkeys(BUGS, ("train.py", 1, "mode", "reading")), NOT_YET, "5 of 24 points"),
    (dict.fromkeys(BUGS, ...), Outcome.NOT_ATTEMPTED, "Replace the ..."),
    (dict.fromkeys(BUGS, (..., ..., ..., ...)), Outcome.NOT_ATTEMPTED, "Replace the ..."),
    ({1: "data.py:24"}, NOT_YET, "You gave a str, 'data.py:24'."),
    ({1: ("data.py", "24", "changed data", "question")}, NOT_YET, "Its line is a number"),
    ({1: ("data.py", 24, "in place", "question")}, NOT_YET, "'in place' is no kind. Choose one"),
    ({1: ("data.py", 24, "changed data", "doctor")}, NOT_YET, "'doctor' finds nothing. Choose"),
    ({1: ("dat.py", 24, "changed data", "question")}, NOT_YET, "is none of data.py, model.py"),
]


@pytest.mark.parametrize(("answer", "outcome", "said"), WHOSE)
def test_whose(answer: dict[int, Any], outcome: Outcome, said: str) -> None:
    """Answers with one or two of the six changed."""
    _judged("16-whose", solved() | answer, outcome, said)


def test_whose_takes_no_list() -> None:
    _judged("16-whose", [("data.py", 24, "leak", "reading")], NOT_YET, "Hand over the dictionary")


# --- 16-mended ------------------------------------------------------------------------------------

CURES = {number: bug.changes for number, bug in BUGS.items()}
NOISE = "images += self.noise * torch.randn(images.shape)"
GENERATOR = "torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))"
CLONED = "{name: value.clone() for name, value in model.state_dict().items()}"
RELOADED = """model, start = restore(options.resume, optimizer)
        optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)
        optimizer.load_state_dict(torch.load(options.resume)["optimizer"])"""


BUILT_LATER = (
    ("train.py", "    optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)\n", ""),
    ("train.py", "def restore(path, optimizer)", "def restore(path)"),
    ("train.py", '    optimizer.load_state_dict(checkpoint["optimizer"])\n', ""),
    ("train.py", '    return model, checkpoint["epoch"]', "    return model, checkpoint"),
    ("train.py", "    start = 0\n    if options", "    checkpoint = None\n    if options"),
    ("train.py", "model, start = restore(options.resume, optimizer)", "model, checkpoint = restore(options.resume)"),
    (
        "train.py",
        "\n    best, best_accuracy = None",
        """
    optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)
    start = 0
    if checkpoint:
        optimizer.load_state_dict(checkpoint["optimizer"])
        start = checkpoint["epoch"]
    best, best_accuracy = None""",
    ),
)  # fmt: skip


def _mend(**others: Any) -> Callable[[Path], None]:
    """All cures, with others for some symptoms: `s3=()` leaves symptom 3 as it is."""

    def mend(folder: Path) -> None:
        for number, changes in CURES.items():
            for file, old, new in others.get(f"s{number}", changes):
                path = folder / file
                path.write_text(path.read_text("utf-8").replace(old, new), encoding="utf-8")

    return mend


def _returns_the_folder(folder: Path) -> Path:
    _mend()(folder)
    return folder


def _typo(folder: Path) -> None:
    path = folder / "data.py"
    path.write_text(path.read_text("utf-8").replace("def load", "def lod"), encoding="utf-8")


def _not_yet(folder: Path) -> None: ...


def _swap(file: str, old: str, new: str) -> tuple[tuple[str, str, str], ...]:
    return ((file, old, new),)


MENDED: list[tuple[Any, Outcome, str]] = [
    (_mend(), PASSED, "all six are gone"),
    (_returns_the_folder, PASSED, ""),
    (_mend(s1=_swap("data.py", "batches(size):", "")), NOT_YET, "Still there: 1."),
    (_mend(s1=_swap("data.py", NOISE, f"images.add_({NOISE[10:]})")), NOT_YET, "Still there: 1."),
    (
        _mend(s1=_swap("data.py", "self.images[start : start + size]", "self.images[start : start + size].clone()")),
        PASSED,
        "",
    ),
    (_mend(s1=_swap("data.py", "self.images[start", "self.images.detach()[start")), NOT_YET, "Still there: 1."),
    (_mend(s3=()), NOT_YET, "5 of 6 bugs are gone. Still there: 3."),
    (_mend(s3=_swap("model.py", "            nn.BatchNorm1d(hidden, track_running_stats=False),\n", "")), PASSED, ""),
    (_mend(s4=_swap("train.py", "dict(model.state_dict())", CLONED)), PASSED, ""),
    (_mend(s4=_swap("train.py", "dict(model", "copy.copy(model")), ERROR, "NameError: name 'copy'"),
    (_mend(s5=_swap("train.py", "model, start = restore(options.resume, optimizer)", RELOADED)), PASSED, ""),
    (_mend(s5=BUILT_LATER), PASSED, ""),
    (_mend(s6=_swap("train.py", "torch.randperm(len(labels))", GENERATOR)), PASSED, ""),
    (_mend(s6=_swap("train.py", ", quick=True", "")), PASSED, ""),
    (_mend(s2=(), s5=()), NOT_YET, "4 of 6 bugs are gone. Still there: 2, 5."),
    (lambda folder: str(folder), NOT_YET, "This is the project as it was"),
    (_typo, ERROR, "ImportError: cannot import name 'load'"),
    (_not_yet, Outcome.NOT_ATTEMPTED, "Your answer has no body yet"),
    ("nowhere", NOT_YET, "The folder has no data.py, model.py, train.py."),
    (6, NOT_YET, "Hand over `mend`, or a folder; you gave an int, 6."),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "outcome", "said"), MENDED)
def test_mended(answer: Any, outcome: Outcome, said: str) -> None:
    """Functions that mend a copy of the project, or mean to."""
    _judged("16-mended", answer, outcome, said)


def test_a_folder_edited_by_hand_is_taken(tmp_path: Path) -> None:
    """With files that PyCharm or Jupyter left there, too."""
    folder = copy_with(tmp_path, *(change for changes in CURES.values() for change in changes))
    (folder / ".ipynb_checkpoints").mkdir()
    _judged("16-mended", folder, PASSED, "all six are gone")
    _judged("16-mended", str(folder), PASSED, "all six are gone")
