"""Lesson 16, "Whose bug is it?": its exercises, and how each symptom of the project is measured."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

from fnlib.teaching import records
from fnlib.teaching.exercises import Exercise, Mistake, Unreadable, in_words

PROJECT = records.CONTENT / "exhibits" / "scanner"
FILES = ("data.py", "model.py", "train.py")
KINDS = (
    "alias",
    "batch statistics",
    "changed data",
    "gradient",
    "graph",
    "leak",
    "mode",
    "other tensors",
    "random numbers",
    "rate",
)
FINDERS = ("certain", "question", "ledger", "reading")
_SHOWS = "this is where it shows"
ENOUGH = 20  # points, of four for each of six bugs


@dataclass(frozen=True)
class Bug:
    """A bug of the project.

    Attributes:
        file: where it is.
        lines: what each line contains at which it can be mended.
        kinds: the words that say what goes wrong.
        finders: the first of FINDERS that points at it, in one run of the doctor or in another.
        changes: a cure, as (file, old text, new text).
        near: lines that are often named instead -> what to look at.
    """

    file: str
    lines: tuple[str, ...]
    kinds: tuple[str, ...]
    finders: tuple[str, ...]
    changes: tuple[tuple[str, str, str], ...]
    near: Mapping[str, str]


BUGS = {
    1: Bug(
        "data.py",
        ("self.images, self.labels = self", "images = self.images[start", "images += self.noise"),
        ("changed data", "alias"),
        ("question",),
        (("data.py", "images += self.noise", "images = images + self.noise"),),
        {"optimizer.zero_grad()": "the gradients are cleared before the next backward."},
    ),
    2: Bug(
        "data.py",
        (
            "test, rest = order",
            "order = torch.randperm(len(labels), generator=generator)\n    count",
            "valid, train = order",
            "Digits(images[train]",
            "images, labels = repeated(",
        ),
        ("leak",),
        ("reading",),
        (
            ("data.py", "= repeated(images[rest], labels[rest])", "= images[rest], labels[rest]"),
            (
                "data.py",
                "Digits(images[train], labels[train],",
                "Digits(*repeated(images[train], labels[train]),",
            ),
        ),
        {"some = torch.randperm": "`best.pt` is validated on all images, not on some."},
    ),
    3: Bug(
        "model.py",
        ("nn.BatchNorm1d(",),
        ("batch statistics",),
        ("reading",),
        (("model.py", ", track_running_stats=False", ""),),
        {
            "model.eval()": "evaluation mode is set; which layer doesn't listen?",
            "nn.BatchNorm2d(": "this layer has running statistics: print its buffers.",
            "images.split(batch_size)": "cutting a set into batches is fine if images don't affect each other.",
        },
    ),
    4: Bug(
        "train.py",
        ("best, best_accuracy = dict(",),
        ("alias",),
        ("question", "certain"),  # which of them depends on the run
        (
            ("train.py", "dict(model.state_dict())", "copy.deepcopy(model.state_dict())"),
            ("train.py", "import argparse\n", "import argparse\nimport copy\n"),
        ),
        {"model.load_state_dict(best)": f"{_SHOWS}; which line makes `best`?"},
    ),
    5: Bug(
        "train.py",
        (
            "model = Reader()\n    optimizer",
            "optimizer = torch.optim.Adam(",
            "def restore(",
            "return model, check",
            "optimizer.load_state_dict(",
            "model, start = restore(",
            "model = Reader()\n    model.load",
        ),
        ("other tensors",),
        ("certain",),
        (
            ("train.py", "restore(path, optimizer)", "restore(path, model, optimizer)"),
            ("train.py", "    model = Reader()\n    model.load", "    model.load"),
            (
                "train.py",
                "restore(options.resume, optimizer)",
                "restore(options.resume, model, optimizer)",
            ),
        ),
        {"optimizer.step()": f"{_SHOWS}; whose tensors does this optimizer hold?"},
    ),
    6: Bug(
        "train.py",
        ("quick=True)", "some = torch.randperm"),
        ("random numbers",),
        ("ledger",),
        (
            (
                "train.py",
                "torch.randperm(len(labels))[",
                "torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[",
            ),
        ),
        {"torch.manual_seed(0)": "one seed at the start is right; who draws after it?"},
    ),
}


def line_of(file: str, text: str) -> int:
    """The number of the line of the project at which a text begins."""
    before, found, _ = (PROJECT / file).read_text(encoding="utf-8").partition(text)
    if not found:
        raise LookupError(f"{file} has no {text!r}")
    return before.count("\n") + 1


# --- 16-whose: file, line, kind, finder ------------------------------------------------------------

_PARTS = ("file", "line", "kind", "who finds it")


def _points(answers: Any) -> Any:
    """Give each answer a point for file, line, kind and finder."""
    if not isinstance(answers, Mapping):
        raise Unreadable(f"Hand over the dictionary `answers`; you gave {in_words(answers)}.")
    wrong: dict[int, list[str]] = {}
    near, shown = "", set()
    for number, bug in BUGS.items():
        given = answers.get(number, ...)
        if _open(given):
            wrong[number] = list(_PARTS)
            continue
        file, line, kind, finder = _read(number, given)
        same = file == bug.file
        lines = {line_of(bug.file, text) for text in bug.lines}
        right = (same, same and line in lines, kind in bug.kinds, finder in bug.finders)
        wrong[number] = [part for part, good in zip(_PARTS, right, strict=True) if not good]
        hint = _near(number, file, line)
        near = near or hint
        if _SHOWS in hint:
            shown.add(number)
    points = sum(len(_PARTS) - len(parts) for parts in wrong.values())
    return SimpleNamespace(given=answers, points=points, wrong=wrong, near=near, shown=shown)


def _open(part: Any) -> bool:
    """Say whether an answer, or a part of one, is still to be written."""
    return part is None or part is ...


def _read(number: int, given: Any) -> tuple[Any, ...]:
    """Return an answer's four parts, each readable or still open."""
    shape = f'Answer {number} has the form ("file.py", line, "kind", "who finds it").'
    if not isinstance(given, tuple | list) or len(given) != len(_PARTS):
        raise Unreadable(f"{shape} You gave {in_words(given)}.")
    file, line, kind, finder = given
    if not _open(line) and (not isinstance(line, int) or isinstance(line, bool)):
        raise Unreadable(f"{shape} Its line is a number; you gave {in_words(line)}.")
    if not _open(kind) and kind not in KINDS:
        raise Unreadable(
            f"Answer {number}: {kind!r} is no kind. Choose one of: {', '.join(KINDS)}."
        )
    if not _open(finder) and finder not in FINDERS:
        words = ", ".join(FINDERS)
        raise Unreadable(f"Answer {number}: {finder!r} finds nothing. Choose one of: {words}.")
    if _open(file):
        return file, line, kind, finder
    if not isinstance(file, str) or os.path.basename(file) not in FILES:
        raise Unreadable(f"Answer {number}: {in_words(file)} is none of {', '.join(FILES)}.")
    return os.path.basename(file), line, kind, finder


def _near(number: int, file: Any, line: Any) -> str:
    """What to look at if a line is often named instead of the right one."""
    for text, says in BUGS[number].near.items():
        for name in FILES:
            with contextlib.suppress(LookupError):
                if (name, line_of(name, text)) == (file, line):
                    return f"Symptom {number}, {file}:{line}: {says}"
    return ""


def _scored(seen: Any) -> str:
    rest = "; ".join(
        f"{number}: {', '.join(parts)}" for number, parts in seen.wrong.items() if parts
    )
    return f"{seen.points} of 24 points. To look at again: {rest}. {seen.near}".strip()


def solved() -> dict[int, tuple[str, int, str, str]]:
    """The six answers, as a learner writes them."""
    return {
        number: (bug.file, line_of(bug.file, bug.lines[-1]), bug.kinds[0], bug.finders[0])
        for number, bug in BUGS.items()
    }


def _findings() -> dict[int, Any]:
    """Answers that take the doctor's lines for the causes, and leave symptom 2 open."""
    lines = {4: "model.load_state_dict(best)", 5: "optimizer.step()"}
    shown = {
        n: ("train.py", line_of("train.py", text), "mode", "certain") for n, text in lines.items()
    }
    return solved() | shown | {2: ...}


# --- 16-mended: six symptoms, measured -------------------------------------------------------------


def _mended(answer: Any) -> Any:
    """Measure the symptoms of a folder, or of a copy of the project that a function has changed."""
    if callable(answer):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            if answer(copy_with(folder)) is ...:
                return None
            return SimpleNamespace(given=answer, **measured(_texts(folder)))
    if not isinstance(answer, str | os.PathLike):
        raise Unreadable(f"Hand over `mend`, or a folder; you gave {in_words(answer)}.")
    return SimpleNamespace(given=answer, **measured(_texts(answer)))


def _texts(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    missing = [name for name in FILES if not Path(folder, name).is_file()]
    if missing:
        raise Unreadable(f"The folder has no {', '.join(missing)}.")
    return tuple(Path(folder, name).read_text(encoding="utf-8") for name in FILES)


@functools.lru_cache(maxsize=32)
def measured(texts: tuple[str, ...]) -> dict[str, Any]:
    """Run a project and measure which symptoms it has.

    Args:
        texts: of data.py, model.py and train.py.

    Returns:
        ``symptoms``, the numbers of those that it has; ``images``, how many there are to train on;
        ``noisy``, whether they get noise; ``steps``, how many a resumed Adam has taken.
    """
    with torch.random.fork_rng(), _imported(texts) as (data, model, train):
        train_set, valid_set, _ = data.load()
        images, copies = train_set.images.clone(), _in_both(train_set, valid_set)
        energy, lowest = _passes(train_set)
        resumed, steps = _resume(model, train)
        harms = {
            1: energy[2] > 1.03 * energy[0],
            2: copies > 0,
            3: _depends_on_the_batch(model.Reader, images[:64]),
            4: _keeps_another(train),
            5: not resumed,
            6: _depends_on_looking(train),
        }
    symptoms = {number for number, harm in harms.items() if harm}
    return {
        "symptoms": symptoms, "images": len(images), "noisy": lowest < images.min().item(), "steps": steps,
        "validated": len(valid_set.labels),
    }  # fmt: skip


@contextlib.contextmanager
def _imported(texts: tuple[str, ...]) -> Iterator[list[ModuleType]]:
    """Import the three files under their own names, and forget them afterwards."""
    names = [name.removesuffix(".py") for name in FILES]
    before = {name: sys.modules.get(name) for name in names}
    try:
        for name, text in zip(names, texts, strict=True):
            sys.modules[name] = ModuleType(name)
            exec(compile(text, f"{name}.py", "exec"), sys.modules[name].__dict__)
        with contextlib.redirect_stdout(io.StringIO()):
            yield [sys.modules[name] for name in names]
    finally:
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


def _in_both(train: Any, valid: Any) -> int:
    """Count the validation images that are training images, too."""
    known = {image.numpy().tobytes() for image in train.images}
    return sum(image.numpy().tobytes() in known for image in valid.images)


def _passes(digits: Any) -> tuple[list[float], float]:
    """Go through the images three times; return the mean energy of each pass, and the lowest pixel."""
    torch.manual_seed(0)
    energy, lowest = [], 0.0
    for _ in range(3):
        passed = torch.cat([images for images, _ in digits.batches(32)])
        energy.append(passed.square().mean().item())
        lowest = min(lowest, passed.min().item())
    return energy, lowest


def _depends_on_the_batch(build: Any, images: torch.Tensor) -> bool:
    """Compare scores in one batch with scores in pairs."""
    torch.manual_seed(0)
    reader = build().eval()
    with torch.no_grad():
        pairs = torch.cat([reader(part) for part in images.split(2)])
        return not torch.allclose(reader(images), pairs, atol=1e-3)


def _run(train: Any, *arguments: str) -> tuple[Any, Any]:
    """Run the project's ``main``; return what it saved as last.pt and best.pt."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as out:
        train.main([*arguments, "--out", out])
        return tuple(torch.load(Path(out, name)) for name in ("last.pt", "best.pt"))


def _keeps_another(train: Any) -> bool:
    """Let the first of two epochs score best; compare what is kept with its weights."""
    evaluate, seen = train.evaluate, []

    def scored(model: Any, *arguments: Any, **options: Any) -> float:
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return 0.9 if len(seen) == 1 else 0.5

    train.evaluate = scored
    try:
        _, best = _run(train, "--epochs", "2")
    finally:
        train.evaluate = evaluate
    return not all(torch.equal(seen[0][name], best[name]) for name in seen[0])


def _resume(model: Any, train: Any) -> tuple[bool, int]:
    """Resume after an epoch; say whether the weights move, and how many steps Adam has taken."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as out:
        train.main(["--epochs", "1", "--out", out])
        first = torch.load(Path(out, "last.pt"))
        train.main(["--resume", str(Path(out, "last.pt")), "--epochs", "1", "--out", out])
        second = torch.load(Path(out, "last.pt"))
    weights = [name for name, _ in model.Reader().named_parameters()]
    moved = any(not torch.equal(first["model"][name], second["model"][name]) for name in weights)
    before, after = (
        next(iter(one["optimizer"]["state"].values()))["step"].item() for one in (first, second)
    )
    return moved, int(after) - int(before)


def _depends_on_looking(train: Any) -> bool:
    """Validate after each epoch, then after each second one; compare the last weights."""
    often, _ = _run(train, "--epochs", "2")
    seldom, _ = _run(train, "--epochs", "2", "--validate-every", "2")
    pairs = ((often["model"][name], seldom["model"][name]) for name in often["model"])
    return not all(torch.equal(one, other) for one, other in pairs)


def copy_with(folder: str | Path, *changes: tuple[str, str, str]) -> Path:
    """Write the project into a folder, with changes of its text.

    Args:
        folder: is made if it isn't there.
        changes: (file, old, new), each old text once in its file.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    texts = {name: (PROJECT / name).read_text(encoding="utf-8") for name in FILES}
    for file, old, new in changes:
        if texts[file].count(old) != 1:
            raise LookupError(f"{file} has {old!r} {texts[file].count(old)} times")
        texts[file] = texts[file].replace(old, new)
    for name, text in texts.items():
        Path(folder, name).write_text(text, encoding="utf-8")
    return Path(folder)


_folders: list[tempfile.TemporaryDirectory[str]] = []  # they live as long as the process


def _copy(*left_out: int, more: tuple[tuple[str, str, str], ...] = ()) -> Path:
    """The mended project with some bugs left in, or with other changes."""
    _folders.append(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
    kept = [bug.changes for number, bug in BUGS.items() if number not in left_out]
    return copy_with(_folders[-1].name, *(change for changes in kept for change in changes), *more)


def _mend(folder: Path) -> None:
    """Mend the project in a folder, as a learner does."""
    for file, old, new in (change for bug in BUGS.values() for change in bug.changes):
        text = (folder / file).read_text(encoding="utf-8")
        (folder / file).write_text(text.replace(old, new), encoding="utf-8")


def _still(seen: Any) -> str:
    listed = ", ".join(map(str, sorted(seen.symptoms)))
    return f"{6 - len(seen.symptoms)} of 6 bugs are gone. Still there: {listed}."


EXERCISES = (
    Exercise(
        key="16-whose",
        objective="Given a project and six symptoms, the learner names file, line, kind and finder of each bug, for 20 of 24 points.",
        expects='a dict: symptom -> ("file.py", line, "kind", "who finds it")',
        try_out=_points,
        passes=lambda seen: seen.points >= ENOUGH,
        so_far=_scored,
        because="That's 20 points or more. You'll see whether each line is the right one when you mend it.",
        hints=(
            "Begin with the findings: each names a file and a line, and the bug is there or on the way there.",
            "For the others, follow the symptom: which lines run only with the option that it mentions?",
            "Ask of each object how many names it has, and of each draw which generator it moves.",
        ),
        right=(
            solved,
            lambda: (
                solved()
                | {
                    1: (
                        "data.py",
                        line_of("data.py", "images = self.images[start"),
                        "alias",
                        "question",
                    )
                }
            ),
        ),
        mistakes=(
            Mistake(
                matches=lambda seen: seen.shown == {4, 5},
                says="For symptoms 4 and 5 you named the lines of the findings, where the harm shows. Which line made the object that's wrong there? That's the one to change.",
                examples=(lambda: _findings(),),
            ),
        ),
    ),
    Exercise(
        key="16-mended",
        objective="Given the project, the learner mends it so that none of the six bugs is left.",
        expects="a function that changes the files in a folder, or the folder",
        try_out=_mended,
        passes=lambda seen: (
            not seen.symptoms
            and seen.noisy
            and seen.images >= 300
            and seen.validated >= 20
            and seen.steps > 0
        ),
        so_far=_still,
        because="We ran your copy and looked for each bug: all six are gone, and copies and noise are still there.",
        hints=(
            "One symptom at a time: change its line, then run this cell again.",
            "Symptom 5 takes three places: the function, the line in it, and its call. Symptom 2 takes two.",
            "Symptom 6 needs a generator of its own; symptom 4 needs other memory; symptom 2 needs another order of two statements.",
        ),
        right=(_copy, lambda: str(_copy()), lambda: _mend),
        mistakes=(
            Mistake(
                matches=lambda seen: not seen.noisy,
                says="The images get no noise any more. It was wanted: only the stored images should stay as they are. Look at what `images` is before the noise is added.",
                examples=(lambda: _copy(1, more=(("data.py", "noise=0.1", "noise=0.0"),)),),
            ),
            Mistake(
                matches=lambda seen: seen.images < 300,
                says="There are no copies to train on any more. They were wanted: print `len(train.labels)` before and after your change, and look at when the copies are made.",
                examples=(lambda: _copy(2, more=(("data.py", "COPIES = 4", "COPIES = 1"),)),),
            ),
            Mistake(
                matches=lambda seen: seen.symptoms == {1, 2, 3, 4, 5, 6},
                says="This is the project as it was: all six bugs are there. Print one of the files in this folder and look for your change.",
                examples=(lambda: _copy(*BUGS),),
            ),
            Mistake(
                matches=lambda seen: seen.symptoms == {4},
                slug="state-dict-is-snapshot",
                says="Five bugs are gone. `best` is a dictionary of its own now, and its tensors are still the model's: compare their `data_ptr()`.",
                examples=(
                    lambda: _copy(4),
                    lambda: _copy(
                        4,
                        more=(("train.py", "dict(model.state_dict())", "{**model.state_dict()}"),),
                    ),
                ),
            ),
            Mistake(
                matches=lambda seen: seen.symptoms == {6},
                slug="seed-is-position",
                says="Five bugs are gone. A look at the validation images still draws from, or resets, the generator that training uses: print `torch.get_rng_state().sum()` before and after.",
                examples=(
                    lambda: _copy(6),
                    lambda: _copy(
                        6,
                        more=(
                            (
                                "train.py",
                                "        some =",
                                "        torch.manual_seed(0)\n        some =",
                            ),
                        ),
                    ),
                ),
            ),
            Mistake(
                matches=lambda seen: not seen.symptoms and seen.steps <= 0,
                slug="weights-are-everything",
                says='All six bugs are gone, but a resumed Adam now starts from zero: print `optimizer.state_dict()["state"]` after the resume.',
                examples=(
                    lambda: _copy(
                        5,
                        more=(
                            (
                                "train.py",
                                "        model, start = restore(options.resume, optimizer)",
                                "        model, start = restore(options.resume, optimizer)\n        optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)",
                            ),
                        ),
                    ),
                ),
            ),
        ),
    ),
)
