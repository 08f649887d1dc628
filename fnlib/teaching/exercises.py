"""Check what a learner wrote: not attempted, error, not yet, or passed.

An exercise is one row of its lesson's file (``content/exercises/lesson_NN.py``). The row carries the right answers
and the wrong answers that people give, and a test runs all of them, so that no message is ever a guess.
"""

from __future__ import annotations

import dis
import functools
import importlib
import inspect
import textwrap
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from types import CodeType, SimpleNamespace
from typing import Any

from fnlib.show.location import of_a_notebook
from fnlib.teaching import passed, records
from fnlib.teaching.misconceptions import misconception


class Outcome(Enum):
    """The four outcomes of a check, in the words that learners read."""

    NOT_ATTEMPTED = "not attempted"
    ERROR = "error"
    NOT_YET = "not yet"
    PASSED = "passed"


WIDTH = 96  # of a printed message; a longer line is broken in the middle of a word by notebooks


class Unreadable(Exception):
    """An answer that a check cannot judge; its text is one sentence for the learner. Raised by ``Exercise.try_out``."""


_MARK = {Outcome.NOT_ATTEMPTED: "○", Outcome.ERROR: "✗", Outcome.NOT_YET: "△", Outcome.PASSED: "✓"}


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that people give.

    Attributes:
        matches: True for the value that this mistake leads to (the answer after ``Exercise.try_out``).
        slug: the misconception behind it, for teachers, or "" for a slip that has none.
        says: what is right, where to look, one thing to run; the misconception's fact if left out.
        examples: answers as learners write them; each must be recognised as this mistake (tested).
    """

    matches: Callable[[Any], bool]
    slug: str = ""
    says: str = ""
    examples: tuple[Callable[[], Any], ...] = ()

    def __post_init__(self) -> None:
        if not (self.slug or self.says):
            raise ValueError(
                "A mistake needs a misconception's slug, or words of its own in says=."
            )

    @property
    def message(self) -> str:
        """What this exercise says of the answer, or else what is so in general."""
        return self.says or misconception(self.slug).fact


@dataclass(frozen=True)
class Exercise:
    """One blank of a lesson.

    Attributes:
        key: lesson and name, such as "01-blank-ledger".
        objective: the objective of the lesson that it tests, in one line.
        passes: True for a right value.
        because: what the right answer shows, said when it passes.
        hints: from a nudge to nearly the answer; each failed try shows the next.
        try_out: makes a value of the answer, for example by calling it: ``lambda train: train(start)``.
        mistakes: wrong answers that people give, the most special first.
        expects: what kind of answer is wanted, in words, such as "a tensor": said when the check cannot read it.
        right: right answers, one at least (tested).
        so_far: what is right of a wrong value that no mistake fits, in one sentence, or "".
    """

    key: str
    objective: str
    passes: Callable[[Any], bool]
    because: str
    hints: tuple[str, ...]
    expects: str
    right: tuple[Callable[[], Any], ...]
    mistakes: tuple[Mistake, ...] = ()
    try_out: Callable[[Any], Any] = field(default=lambda answer: answer)
    so_far: Callable[[Any], str] = field(default=lambda value: "")


@dataclass(frozen=True)
class Result:
    """What a check found.

    Attributes:
        key: the exercise.
        outcome: one of the four.
        message: what was printed.
        slug: the misconception that the answer shows, or "".
        judged: False if the answer could not be read, such as one with a typo; such a try costs no hint.
    """

    key: str
    outcome: Outcome
    message: str
    slug: str = ""
    judged: bool = True

    @property
    def passed(self) -> bool:
        """True if the answer is right."""
        return self.outcome is Outcome.PASSED

    def _ipython_display_(self) -> None:
        """Show nothing: the message is already printed."""


@functools.lru_cache(maxsize=1)
def exercises() -> dict[str, Exercise]:
    """Load all exercises, in the order of the lessons."""
    rows: list[Exercise] = []
    for path in sorted((records.CONTENT / "exercises").glob("lesson_*.py")):
        # Found by their names, as the TOML files are: a new lesson is a new file.
        content = importlib.import_module(f"fnlib.teaching.content.exercises.{path.stem}")
        rows.extend(content.EXERCISES)
    return records.by("key", rows, "exercises")


def exercise(key: str) -> Exercise:
    """Look an exercise up.

    Raises:
        KeyError: there is none of that key; the message lists those of its lesson.
    """
    return records.look_up(exercises(), key, "exercise")


_tries: Counter[str] = Counter()  # failed tries of this session, so that hints come in steps


def check(key: str, answer: Any) -> Result:
    """Check an answer; print what was found, and return it. Never raises because of an answer.

    Args:
        key: the exercise, such as "01-blank-ledger".
        answer: whatever the learner wrote; ``...`` and ``None`` count as not attempted, as does a function whose body
            is still ``...``.

    Returns:
        A ``Result``, with ``outcome`` and ``passed``.

    Raises:
        KeyError: there is no such exercise.

    Example:
        >>> result = check("00-keep-best", ...)
        ○ 00-keep-best: not attempted. Replace the ... and run this cell again.
    """
    result = judge(exercise(key), answer, tries=_tries[key])
    wrong = result.judged and result.outcome is Outcome.NOT_YET
    _tries[key] = 0 if result.passed else _tries[key] + wrong
    if result.passed:
        passed.note(key)
    print(_wrapped(result.message))
    return result


def hint(key: str, step: int = 1) -> None:
    """Print a hint without a try.

    Args:
        key: the exercise.
        step: 1 is a nudge; the last one is nearly the answer.

    Example:
        >>> hint("00-keep-best")
        Hint 1 of ...
    """
    print(_wrapped(_hint(exercise(key), step - 1)))


def judge(exercise: Exercise, answer: Any, tries: int = 0) -> Result:
    """Judge an answer without printing; ``tries`` failed tries came before."""
    if is_stub(answer):
        missing = "Your answer has no body yet. " if callable(answer) else ""
        return _result(
            exercise, Outcome.NOT_ATTEMPTED, f"{missing}Replace the ... and run this cell again."
        )
    hint = _hint(exercise, tries)
    if wanted := _other_kind(exercise.right[0](), answer):
        text = f"Hand over the {wanted} itself, its name without brackets; you gave {in_words(answer)}."
        return _result(exercise, Outcome.NOT_YET, text, judged=False)
    try:
        value = exercise.try_out(answer)
    except Unreadable as problem:
        return _result(exercise, Outcome.NOT_YET, str(problem), judged=False)
    except Exception as problem:  # the learner's code: whatever it raises is reported, not raised
        text = f"Your answer stopped{_where(problem)} with {type(problem).__name__}: {_first_line(problem)}"
        return _result(exercise, Outcome.ERROR, text, judged=False)
    if is_stub(value):
        if callable(answer) and not any(code_blank(code) for code in _codes(answer)):
            return _result(
                exercise,
                Outcome.NOT_YET,
                "Your code ran and returned None. Is `return` missing, or was what it returns never set?",
                judged=False,
            )
        return _result(
            exercise,
            Outcome.NOT_ATTEMPTED,
            "A part of it is still `...`: replace that, and run this cell again.",
        )
    if _holds(exercise.passes, value):
        return _result(exercise, Outcome.PASSED, exercise.because)
    for mistake in exercise.mistakes:
        if _holds(mistake.matches, value):
            return _result(exercise, Outcome.NOT_YET, f"{mistake.message} {hint}", mistake.slug)
    return _result(exercise, Outcome.NOT_YET, f"{_so_far(exercise, value)} {hint}")


def is_stub(answer: Any) -> bool:
    """True for ``...``, ``None``, a tuple or list of nothing else, and a function or class without a body."""
    if answer is ... or answer is None:
        return True
    if isinstance(answer, (tuple, list)):
        return bool(answer) and all(is_stub(part) for part in answer)
    if isinstance(answer, dict):
        return bool(answer) and all(is_stub(part) for part in answer.values())
    code = getattr(answer, "__code__", None)
    if code is None:
        return False
    idle = {"RESUME", "NOP", "POP_TOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}
    constants = {
        constant for constant in code.co_consts if constant != answer.__doc__
    }  # a docstring is no answer
    return constants <= {None, ...} and all(
        step.opname in idle for step in dis.get_instructions(code)
    )


def _other_kind(model_answer: Any, answer: Any) -> str:
    """ "function" or "class" if that is wanted and something else was given, such as what a call of it returns."""
    if inspect.isclass(model_answer):
        return "" if inspect.isclass(answer) else "class"
    runs = (
        inspect.isroutine(answer)
        or inspect.isclass(answer)
        or isinstance(answer, functools.partial)
    )
    return "" if runs or not callable(model_answer) else "function"


def code_blank(code: CodeType) -> bool:
    """True if a ``...`` stands in the code."""
    return any(constant is ... for constant in code.co_consts)


def names_in(answer: Any) -> set[str]:
    """The names that a learner's code uses, such as "detach": some mistakes are told apart by what was called."""
    return {name for code in _codes(answer) for name in code.co_names}


def _codes(answer: Any) -> Iterator[CodeType]:
    """The code of a function, of what is defined in it, and of the methods of a class."""
    if inspect.isclass(answer):
        for method in vars(answer).values():
            yield from _codes(method)
    waiting = [getattr(answer, "__code__", None)]
    while waiting:
        if isinstance(code := waiting.pop(), CodeType):
            yield code
            waiting.extend(code.co_consts)


def _holds(test: Callable[[Any], bool], value: Any) -> bool:
    """A test that cannot even read the value does not hold: a word where a tensor was wanted, a list too short."""
    try:
        return bool(test(value))
    except Exception:
        return False


def _result(
    exercise: Exercise, outcome: Outcome, text: str, slug: str = "", judged: bool = True
) -> Result:
    return Result(
        exercise.key,
        outcome,
        f"{_MARK[outcome]} {exercise.key}: {outcome.value}. {text}".strip(),
        slug,
        judged,
    )


def _hint(exercise: Exercise, tries: int) -> str:
    step = min(tries, len(exercise.hints) - 1)
    return f"Hint {step + 1} of {len(exercise.hints)}: {exercise.hints[step]}"


def _so_far(exercise: Exercise, value: Any) -> str:
    """What to say of a value that is wrong in no way that people are known to get wrong."""
    try:
        said = exercise.so_far(value)
    except Exception:
        said = ""
    if said:
        return said
    if isinstance(
        value, SimpleNamespace
    ):  # what was seen while the answer ran, for the check alone
        value = getattr(value, "given", ...)
    return f"Wanted {exercise.expects}{'' if value is ... else f', got {in_words(value)}'}."


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _where(problem: Exception) -> str:
    """The line of the learner's own cell in which it happened, if it was in a cell."""
    frames = traceback.extract_tb(problem.__traceback__)
    lines = [frame.lineno for frame in frames if of_a_notebook(frame.filename)]
    return f" in line {lines[-1]}" if lines else ""


def _first_line(problem: Exception) -> str:
    line = (str(problem).strip().splitlines() or ["no message"])[0]
    return line if line.endswith((".", "!", "?")) else line + "."


def in_words(value: Any) -> str:
    """A value in the words of a message, such as "an int, 3" or "a Tensor of shape (2,)"."""
    kind = type(value).__name__
    if kind in ("function", "method", "builtin_function_or_method"):
        return f"a {'method' if 'method' in kind else 'function'} that was not called"
    shape = getattr(value, "shape", None)
    if shape is not None:
        size = f"of shape {tuple(shape)}" if len(shape) else f"with the value {float(value):.4g}"
        return f"a {kind} {size}"
    text = repr(value)
    article = "an" if kind[0].lower() in "aeiou" else "a"
    return (
        f"{article} {kind}, {text}" if len(text) <= 40 and "0x" not in text else f"{article} {kind}"
    )
