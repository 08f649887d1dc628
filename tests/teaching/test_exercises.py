"""Every row of every table: right answers pass, stubs are not attempted, each wrong answer gets its own message."""
from __future__ import annotations

from typing import Any

import pytest
import torch

from fnlib import teaching
from fnlib.teaching.exercises import Exercise, Mistake, Outcome, is_stub, judge
from fnlib.teaching.misconceptions import TABLE
from fnlib.teaching.tables import exercises

ROWS = list(exercises().values())
keys = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)


def _named(value: object) -> str:
    """The same on every run: the repr of a function or object holds an address."""
    return getattr(value, "__name__", None) or (type(value).__name__ if " at 0x" in repr(value) else repr(value))


def _body_is_missing(*arguments: Any) -> Any:
    """What a stub looks like as it is shipped."""
    ...  # your turn


def _returns_a_stub(*arguments: Any) -> Any:
    return ...


@keys
def test_right_answers_pass(row: Exercise) -> None:
    assert row.right, "a row without a right answer tests nothing"
    for make in row.right:
        result = judge(row, make())
        assert result.passed, result.message
        assert row.because in result.message


@keys
@pytest.mark.parametrize("stub", [..., None, (..., ...), [None], {"a": ...}, _body_is_missing, _returns_a_stub], ids=_named)
def test_a_stub_is_not_attempted(row: Exercise, stub: object) -> None:
    assert judge(row, stub).outcome is Outcome.NOT_ATTEMPTED


@keys
def test_each_wrong_answer_is_answered_by_name(row: Exercise) -> None:
    assert row.mistakes, "people get everything wrong in some way: list how"
    said = set()
    for mistake in row.mistakes:
        assert mistake.examples, f"no example for {mistake.message}"
        assert not mistake.slug or mistake.slug in TABLE
        for make in mistake.examples:
            result = judge(row, make())
            assert result.outcome is Outcome.NOT_YET, result.message
            assert result.slug == mistake.slug and mistake.message in result.message, result.message
        said.add(mistake.message)
    assert len(said) == len(row.mistakes), "two mistakes get one answer"


@keys
@pytest.mark.parametrize("answer", ["a word", 7, 1.5, [], {}, (), object(), torch.zeros(2), lambda: 1 / 0, int], ids=_named)
def test_no_answer_makes_a_check_raise(row: Exercise, answer: object) -> None:
    result = judge(row, answer)
    assert "Traceback" not in result.message and len(result.message) < 800


@keys
def test_hints_come_in_steps_and_the_objective_has_a_standard(row: Exercise) -> None:
    assert len(row.hints) >= 2
    messages = [judge(row, "a word", tries=tries).message for tries in range(len(row.hints) + 2)]
    for step, wanted in enumerate(row.hints):
        assert wanted in messages[step]
    assert messages[-1] == messages[-2], "the last hint stays"
    assert row.objective.startswith("Given "), "given ..., the learner does ..., to this standard"


def _row(**changes: Any) -> Exercise:
    plain = {
        "key": "99-double",
        "objective": "Given a number, the learner doubles it.",
        "passes": lambda value: value == 4,
        "because": "2 + 2 is 4.",
        "hints": ("look", "closer"),
        "expects": "a number",
        "right": (lambda: lambda n: n * 2,),
        "try_out": lambda double: double(2),
        "mistakes": (Mistake(matches=lambda value: value == 2, says="That is the number itself."),),
    }
    return Exercise(**{**plain, **changes})


def test_the_four_outcomes_in_words() -> None:
    said = {answer: judge(_row(), answer) for answer in (lambda n: n * 2, _body_is_missing, lambda n: n / 0, lambda n: n, lambda n: 9)}
    assert [result.message for result in said.values()] == [
        "✓ 99-double: passed. 2 + 2 is 4.",
        "○ 99-double: not attempted. Your answer has no body yet. Replace the ... and run this cell again.",
        "✗ 99-double: error. Your answer stopped with ZeroDivisionError: division by zero. Hint 1 of 2: look",
        "△ 99-double: not yet. That is the number itself. Hint 1 of 2: look",
        "△ 99-double: not yet. Wanted: a number; you gave an int, 9. Hint 1 of 2: look",
    ]


def test_check_prints_what_it_returns_and_gives_the_next_hint(capsys: pytest.CaptureFixture[str]) -> None:
    key = ROWS[0].key
    messages = [teaching.check(key, "a word").message for _ in range(2)]
    assert capsys.readouterr().out.splitlines() == messages
    assert ROWS[0].hints[0] in messages[0] and ROWS[0].hints[1] in messages[1]
    assert teaching.check(key, ROWS[0].right[0]()).passed
    assert ROWS[0].hints[0] in teaching.check(key, "a word").message, "after a right answer hints start again"


def test_an_unknown_key_names_the_known_ones() -> None:
    with pytest.raises(KeyError, match="No exercise is called '00-nothing'. There are: 00-keep-best"):
        teaching.check("00-nothing", 1)


@pytest.mark.parametrize(
    ("answer", "stub"),
    [
        (..., True), (None, True), ((1, ...), False), ((), False), ({}, False), (0, False), (False, False), ("", False),
        (lambda: None, True), (lambda x: x, False), (_body_is_missing, True), (print, False), (torch.zeros(1), False),
    ],
)
def test_what_counts_as_a_stub(answer: object, stub: bool) -> None:
    assert is_stub(answer) is stub


def test_a_mistake_says_something() -> None:
    with pytest.raises(ValueError, match="needs a misconception"):
        Mistake(matches=lambda value: True)


def test_every_misconception_reads_as_two_sentences_and_is_shown_somewhere() -> None:
    for slug, row in TABLE.items():
        assert row.slug == slug
        assert not row.think[0].isspace() and not row.think.endswith(".") and not row.fact.endswith(".")
        assert row.lesson in {f"{number:02d}" for number in range(10)}
    with pytest.raises(KeyError, match="There are: assignment-copies"):
        teaching.misconception("nothing")
