"""Check what a learner wrote: not attempted, error, not yet, or passed.

An exercise is one row of a lesson's table (``fnlib/teaching/tables/lesson_NN.py``). The row carries the right answers
and the wrong answers that people give, and a test runs all of them, so that no message is ever a guess.
"""

from __future__ import annotations

import dis
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from fnlib.teaching.misconceptions import misconception


class Outcome(Enum):
    """The four outcomes of a check, in the words that learners read."""

    NOT_ATTEMPTED = "not attempted"
    ERROR = "error"
    NOT_YET = "not yet"
    PASSED = "passed"


_MARK = {Outcome.NOT_ATTEMPTED: "○", Outcome.ERROR: "✗", Outcome.NOT_YET: "△", Outcome.PASSED: "✓"}


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that people give.

    Attributes:
        matches: True for the value that this mistake leads to (the answer after ``Exercise.try_out``).
        slug: the misconception behind it, or "" for a slip that has none.
        says: what to tell the learner beyond the misconception; needed where there is none.
        examples: answers as learners write them; each must be recognised as this mistake (tested).
    """

    matches: Callable[[Any], bool]
    slug: str = ""
    says: str = ""
    examples: tuple[Callable[[], Any], ...] = ()

    def __post_init__(self) -> None:
        if not (self.slug or self.says):
            raise ValueError("A mistake needs a misconception's slug, or words of its own in says=.")

    @property
    def message(self) -> str:
        """The misconception's two sentences, and what this exercise adds."""
        belief = str(misconception(self.slug)) if self.slug else ""
        return f"{belief} {self.says}".strip()


@dataclass(frozen=True)
class Exercise:
    """One blank of a lesson.

    Attributes:
        key: lesson and name, such as "01-blank-ledger".
        objective: the objective of the lesson that it tests, in one line.
        passes: True for a right value.
        because: what the right answer shows, said when it passes.
        hints: from a nudge to nearly the answer; each failed try shows one more.
        try_out: makes a value of the answer, for example by calling it: ``lambda train: train(start)``.
        mistakes: wrong answers that people give, the most special first.
        expects: what kind of answer is wanted, in words, such as "a tensor": said when the check cannot read it.
        right: right answers, one at least (tested).
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


@dataclass(frozen=True)
class Result:
    """What a check found.

    Attributes:
        key: the exercise.
        outcome: one of the four.
        message: what was printed.
        slug: the misconception that the answer shows, or "".
    """

    key: str
    outcome: Outcome
    message: str
    slug: str = ""

    @property
    def passed(self) -> bool:
        """True if the answer is right."""
        return self.outcome is Outcome.PASSED

    def _ipython_display_(self) -> None:
        """Show nothing: the message is already printed."""


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
    from fnlib.teaching.tables import exercise

    result = judge(exercise(key), answer, tries=_tries[key])
    _tries[key] = 0 if result.passed else _tries[key] + (result.outcome is not Outcome.NOT_ATTEMPTED)
    print(result.message)
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
    from fnlib.teaching.tables import exercise

    print(_hint(exercise(key), step - 1))


def judge(exercise: Exercise, answer: Any, tries: int = 0) -> Result:
    """Judge an answer without printing; ``tries`` failed tries came before."""
    if is_stub(answer):
        missing = "Your answer has no body yet. " if callable(answer) else ""
        return _result(exercise, Outcome.NOT_ATTEMPTED, f"{missing}Replace the ... and run this cell again.")
    try:
        value = exercise.try_out(answer)
        if is_stub(value):
            return _result(exercise, Outcome.NOT_ATTEMPTED, "Your code gives nothing back so far. Replace the ... in it.")
    except Exception as problem:  # the learner's code: whatever it raises is reported, not raised
        text = f"Your answer stopped with {type(problem).__name__}: {_first_line(problem)} {_hint(exercise, tries)}"
        return _result(exercise, Outcome.ERROR, text)
    if _holds(exercise.passes, value):
        return _result(exercise, Outcome.PASSED, exercise.because)
    for mistake in exercise.mistakes:
        if _holds(mistake.matches, value):
            return _result(exercise, Outcome.NOT_YET, f"{mistake.message} {_hint(exercise, tries)}", mistake.slug)
    wanted = f"Wanted: {exercise.expects}; you gave {_in_words(value)}."
    return _result(exercise, Outcome.NOT_YET, f"{wanted} {_hint(exercise, tries)}")


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
    constants = {constant for constant in code.co_consts if not isinstance(constant, str)}  # a docstring is no answer
    return constants <= {None, ...} and all(step.opname in idle for step in dis.get_instructions(code))


def _holds(test: Callable[[Any], bool], value: Any) -> bool:
    """A test that cannot even read the value does not hold: a word where a tensor was wanted, a list too short."""
    try:
        return bool(test(value))
    except Exception:
        return False


def _result(exercise: Exercise, outcome: Outcome, text: str, slug: str = "") -> Result:
    return Result(exercise.key, outcome, f"{_MARK[outcome]} {exercise.key}: {outcome.value}. {text}".strip(), slug)


def _hint(exercise: Exercise, tries: int) -> str:
    step = min(tries, len(exercise.hints) - 1)
    return f"Hint {step + 1} of {len(exercise.hints)}: {exercise.hints[step]}"


def _first_line(problem: Exception) -> str:
    line = (str(problem).strip().splitlines() or ["no message"])[0]
    return line if line.endswith((".", "!", "?")) else line + "."


def _in_words(value: Any) -> str:
    kind = type(value).__name__
    shape = getattr(value, "shape", None)
    if shape is not None:
        size = f"of shape {tuple(shape)}" if len(shape) else f"with the value {float(value):.4g}"
        return f"a {kind} {size}"
    text = repr(value)
    article = "an" if kind[0] in "aeiou" else "a"
    return f"{article} {kind}, {text}" if len(text) <= 40 and "0x" not in text else f"{article} {kind}"
