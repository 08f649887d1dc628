"""Every row of every table: right answers pass, stubs are not attempted, each wrong answer gets its own message."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from course.editions import numbers
from fnlib import teaching
from fnlib.teaching.content.exercises import lesson_01
from fnlib.teaching.exercises import (
    Exercise,
    Mistake,
    Outcome,
    Unreadable,
    exercises,
    is_stub,
    judge,
)
from fnlib.teaching.misconceptions import TABLE

ROWS = list(exercises().values())
keys = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
# A wrong answer where a check has no row of mistakes, because it names what is wrong by itself.
WRONG = {
    "01-blank-ledger": lambda: lesson_01.LEDGER | {"optimizer.step()": ("weights", "model")},
}


def _named(value: object) -> str:
    """The same on every run: the repr of a function or object holds an address."""
    return getattr(value, "__name__", None) or (
        type(value).__name__ if " at 0x" in repr(value) else repr(value)
    )


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
@pytest.mark.parametrize(
    "stub",
    [..., None, (..., ...), [None], {"a": ...}, _body_is_missing, _returns_a_stub],
    ids=_named,
)
def test_a_stub_is_not_attempted(row: Exercise, stub: object) -> None:
    assert judge(row, stub).outcome is Outcome.NOT_ATTEMPTED


@keys
def test_each_wrong_answer_is_answered_by_name(row: Exercise) -> None:
    assert row.mistakes or row.so_far(row.try_out(row.right[0]())), "say how people get it wrong"
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
@pytest.mark.parametrize(
    "answer",
    ["a word", 7, 1.5, [], {}, (), object(), torch.zeros(2), lambda: 1 / 0, int],
    ids=_named,
)
def test_no_answer_makes_a_check_raise(row: Exercise, answer: object) -> None:
    result = judge(row, answer)
    assert "Traceback" not in result.message and len(result.message) < 800


@keys
def test_hints_come_in_steps_and_the_objective_has_a_standard(row: Exercise) -> None:
    assert len(row.hints) >= 2
    wrong = next((one for mistake in row.mistakes for one in mistake.examples), WRONG.get(row.key))
    assert wrong is not None, "a wrong answer"
    messages = [judge(row, wrong(), tries=tries).message for tries in range(len(row.hints) + 2)]
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
    said = {
        answer: judge(_row(), answer)
        for answer in (lambda n: n * 2, _body_is_missing, lambda n: n / 0, lambda n: n, lambda n: 9)
    }
    assert [result.message for result in said.values()] == [
        "✓ 99-double: passed. 2 + 2 is 4.",
        "○ 99-double: not attempted. Your answer has no body yet. Replace the ... and run this cell again.",
        "✗ 99-double: error. Your answer stopped with ZeroDivisionError: division by zero.",
        "△ 99-double: not yet. That is the number itself. Hint 1 of 2: look",
        "△ 99-double: not yet. Wanted a number, got an int, 9. Hint 1 of 2: look",
    ]


def test_a_value_in_place_of_the_function_is_said_so() -> None:
    """`check("99-double", double(2))` for `check("99-double", double)`: the commonest slip of all."""
    said = judge(_row(), 4)
    assert said.outcome is Outcome.NOT_YET
    assert (
        "Hand over the function itself, its name without brackets; you gave an int, 4."
        in said.message
    )


def test_a_forgotten_return_is_no_blank() -> None:
    def forgets(n: int) -> None:
        n * 2  # noqa: B018  # no return

    assert (
        judge(_row(), forgets).outcome is Outcome.NOT_YET
        and "Is `return` missing" in judge(_row(), forgets).message
    )
    half = judge(_row(), lambda n: ... if n else 0)
    assert half.outcome is Outcome.NOT_ATTEMPTED and "A part of it is still `...`" in half.message


def test_what_the_check_saw_stays_with_the_check() -> None:
    """A value that no mistake fits is said in the learner's terms, or by what is right of it."""
    seen = {
        "try_out": lambda double: SimpleNamespace(given=double(2), right=0),
        "passes": lambda seen: False,
        "mistakes": (),
    }
    assert "Wanted a number, got an int, 9." in judge(_row(**seen), lambda n: 9).message
    assert (
        "half of it" in judge(_row(**seen, so_far=lambda seen: "half of it"), lambda n: 9).message
    )
    for row in ROWS:
        for answer in (lambda *a, **k: 3, lambda *a, **k: torch.ones(()), lambda *a, **k: [1]):
            assert "SimpleNamespace" not in judge(row, answer).message


def test_an_answer_that_cannot_be_read_says_why() -> None:
    def cannot(answer: object) -> None:
        raise Unreadable("Two words are wanted.")

    assert judge(_row(try_out=cannot), lambda n: 9).message.startswith(
        "△ 99-double: not yet. Two words are wanted."
    )


def test_what_cannot_be_judged_costs_no_hint() -> None:
    """A typo, a call in place of a function and an unknown word are no tries."""
    key = "00-keep-best"
    wrong = exercises()[key].mistakes[0].examples[0]()
    slips = (lambda model: nothing_of_this_name, 7, lambda model: [model].clear())  # type: ignore[name-defined]  # noqa: F821
    assert "Hint 1 of" in teaching.check(key, wrong).message
    for slip in slips:
        result = teaching.check(key, slip)
        assert "Hint" not in result.message and not result.judged
    assert "Hint 2 of" in teaching.check(key, wrong).message
    assert teaching.check(key, exercises()[key].right[0]()).passed


def test_an_error_in_a_cell_says_its_line() -> None:
    names: dict[str, Any] = {}
    exec(
        compile("def double(n):\n    m = n\n    return m / 0", "<ipython-input-3-ab>", "exec"),
        names,
    )  # noqa: S102
    assert "stopped in line 3 with ZeroDivisionError" in judge(_row(), names["double"]).message


@pytest.mark.parametrize("cells", [("moved", "model"), "weights", 3], ids=repr)
def test_a_blank_ledger_takes_its_own_words_only(cells: Any) -> None:
    row, right = exercises()["01-blank-ledger"], lesson_01.LEDGER
    said = judge(row, right | {"optimizer.step()": cells}).message
    assert "Choose one of: " in said or "takes two words" in said
    assert judge(row, right | {"loss_a.backward()": ("Gradient", "model")}).passed
    everything = judge(row, dict.fromkeys(right, ("gradients", "model"))).message
    assert "6 of 10 cells" in everything and "`output = model(feature)`" in everything


@pytest.mark.parametrize(
    ("key", "answer", "said"),
    [
        ("04-clip", lambda model, loss: torch.nn.utils.clip_grad_norm_(model.parameters, 1.0), "writes into .grad"),
        ("05-which", "ABCD", "The answer is a dict"),
        ("05-which", {"A": "loop"}, '"loop" is none of the four: stock'),
        ("05-which", {"A": "stock"}, "Give one loop for each of the letters"),
        ("00-early-stop", lambda model, train_one_epoch, score, epochs: 3, "Return the weights alone"),
        ("07-no-trace", lambda model, feature: "six", "Return the model's output, a tensor; you gave a str, 'six'"),
        ("08-reach", lambda network, *others: [network], "The network still has its first weights"),
        ("08-reach", lambda n, o, loss, p, r: loss(n(p[0][0])[0], p[0][1]).item().backward(), "A plain number has no `backward`"),
    ],
)  # fmt: skip
def test_what_learners_typed(key: str, answer: object, said: str) -> None:
    result = judge(exercises()[key], answer)
    assert result.outcome is Outcome.NOT_YET and said in result.message


def test_check_prints_what_it_returns_and_gives_the_next_hint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    key = ROWS[0].key
    wrong = ROWS[0].mistakes[0].examples[0]()
    messages = [teaching.check(key, wrong).message for _ in range(2)]
    printed = capsys.readouterr().out
    assert (
        printed.split() == " ".join(messages).split() and max(map(len, printed.splitlines())) <= 96
    ), "broken between words"
    assert ROWS[0].hints[0] in messages[0] and ROWS[0].hints[1] in messages[1]
    assert teaching.check(key, ROWS[0].right[0]()).passed
    assert ROWS[0].hints[0] in teaching.check(key, wrong).message, (
        "after a right answer hints start again"
    )


def test_an_unknown_key_names_the_known_ones() -> None:
    with pytest.raises(
        KeyError, match="No exercise is called '00-nothing'. There are: 00-keep-best"
    ):
        teaching.check("00-nothing", 1)


@pytest.mark.parametrize(
    ("answer", "stub"),
    [
        (..., True),
        (None, True),
        ((1, ...), False),
        ((), False),
        ({}, False),
        (0, False),
        (False, False),
        ("", False),
        (lambda: None, True),
        (lambda x: x, False),
        (_body_is_missing, True),
        (print, False),
        (torch.zeros(1), False),
    ],
)
def test_what_counts_as_a_stub(answer: object, stub: bool) -> None:
    assert is_stub(answer) is stub


def test_a_mistake_says_something() -> None:
    with pytest.raises(ValueError, match="needs a misconception"):
        Mistake(matches=lambda value: True)


def test_every_misconception_has_a_fact_that_stands_alone() -> None:
    """A learner reads the fact without the belief; some lesson shows it."""
    for slug, row in TABLE.items():
        assert row.slug == slug
        assert (
            not row.think[0].isspace()
            and not row.think.endswith(".")
            and (row.fact[0].isupper() or row.fact[0] == "`")
            and row.fact.endswith(".")
        )
        assert row.lesson in set(numbers())
    with pytest.raises(KeyError, match="There are: assignment-copies"):
        teaching.misconception("nothing")
