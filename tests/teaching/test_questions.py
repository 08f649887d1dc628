"""Questions: the answers are run, the distractors are misconceptions, and a card works without an answer."""

from __future__ import annotations

from collections import Counter

import pytest

from course import bank
from course.editions import numbers
from course.questions import questions
from fnlib import teaching
from fnlib.teaching.misconceptions import TABLE
from fnlib.teaching.questions import LETTERS, Asked, Option, Question

ROWS = list(questions().values())


@pytest.mark.parametrize("row", [row for row in ROWS if row.proof], ids=lambda row: row.key)
def test_the_right_answer_is_right(row: Question) -> None:
    alone = row.proof.startswith(("import", "from"))
    exec(row.proof if alone else f"import torch\n{row.code}\n{row.proof}", {})  # noqa: S102  # our own code
    assert "assert" in row.proof or "raise" in row.proof


def test_most_questions_are_proved() -> None:
    assert sum(bool(row.proof) for row in ROWS) >= 0.6 * len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_each_wrong_option_is_answered_and_most_by_name(row: Question) -> None:
    assert 2 <= len(row.options) <= 4
    assert not row.options[row.right].slug, "the right option is no misconception"
    assert row.options[row.right].why
    for option in row.options:
        assert not option.slug or option.slug in TABLE, option.slug
        assert option.reply
    named = [bool(option.slug) for index, option in enumerate(row.options) if index != row.right]
    if row.kind in ("bank", "prerequisite"):
        assert all(named), "each distractor is a misconception, by name"
    assert any(named), "at least one option that a misconception leads to"
    assert len({option.text for option in row.options}) == len(row.options)
    assert row.prompt.count("`") % 2 == 0 and all(
        option.text.count("`") % 2 == 0 for option in row.options
    )


def test_the_bank_covers_every_lesson_and_misconception() -> None:
    """The bank is large and covers every lesson and every misconception."""
    assert sum(row.kind == "bank" for row in ROWS) >= 40
    assert {row.lesson for row in ROWS if row.kind == "bank"} == set(numbers())
    assert {option.slug for row in ROWS for option in row.options} >= set(TABLE), (
        "each misconception is asked about"
    )
    assert sum(row.kind == "prerequisite" for row in ROWS) == 8


def test_right_answers_stand_at_every_letter() -> None:
    letters = Counter(LETTERS[row.right] for row in ROWS if row.kind in ("bank", "prerequisite"))
    assert set(letters) == set(LETTERS)
    assert max(letters.values()) < 0.45 * letters.total(), letters


def test_a_card_works_unanswered_answered_and_revealed() -> None:
    key = "00-best"
    asked = teaching.predict(key)
    assert isinstance(asked, Asked) and "→" not in repr(asked)
    assert "not so" not in repr(asked), "the question does not give the answer away"
    right = LETTERS[asked.question.right]
    assert f"→ {right}" in repr(teaching.reveal(key))
    assert teaching.predict(key, right.lower()).chosen == right
    assert f"You predicted {right}: right." in repr(teaching.reveal(key))
    wrong = next(letter for letter in LETTERS if letter != right)
    teaching.predict(key, wrong)
    assert f"You predicted {wrong}: the right option is {right}." in repr(teaching.reveal(key))
    assert f"You predicted {wrong}: the right option is {right}." in teaching.reveal(key).html


@pytest.mark.parametrize("letter", ["E", "", "AB", 3])
def test_a_letter_that_is_none_is_refused_in_one_sentence(letter: object) -> None:
    with pytest.raises(ValueError, match="This question has the letters A, B, C, D, not"):
        teaching.predict("00-best", letter)  # type: ignore[arg-type]


def test_buttons_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []
    import IPython.display

    monkeypatch.setattr(IPython.display, "display", lambda thing, **_: shown.append(thing))
    teaching.predict("00-best")._ipython_display_()  # type: ignore[attr-defined]
    card, buttons = shown
    assert "text/html" in card  # type: ignore[operator]
    *letters, said = buttons.children  # type: ignore[attr-defined]
    assert [button.description for button in letters] == ["A", "B", "C", "D"]
    letters[2].click()
    assert "You predict <b>C</b>" in said.value
    assert teaching.reveal("00-best").chosen == "C"


@pytest.mark.parametrize("key", ["00-exit", "01-memory"])
def test_a_card_that_no_cell_answers_has_a_button(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exit question and a decision show their answer; a chosen letter looks chosen."""
    shown: list[object] = []
    import IPython.display

    monkeypatch.setattr(IPython.display, "display", lambda thing, **_: shown.append(thing))
    teaching.predict(key)._ipython_display_()  # type: ignore[attr-defined]
    *letters, show, said = shown[1].children  # type: ignore[attr-defined]
    letters[1].click()
    letters[0].click()
    assert [button.icon for button in letters] == ["check", "", "", ""]
    assert "You chose <b>A</b>" in said.value and "✓" not in said.value
    show.click()
    assert said.value == teaching.reveal(key).html and "You chose A" in said.value


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "quiz"},
        {"right": 2},
        {"options": (Option("a", why="x"),)},
        {"options": (Option("a", why="x"), Option("b"))},
    ],
)
def test_a_faulty_row_is_refused_when_it_is_written(wrong: dict[str, object]) -> None:
    row = {
        "key": "99-x",
        "kind": "bank",
        "prompt": "?",
        "options": (Option("a", why="x"), Option("b", why="y")),
        "right": 0,
    }
    Question(**row)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="99-x"):
        Question(**{**row, **wrong})  # type: ignore[arg-type]


def test_the_generated_files_are_committed_as_they_are_made() -> None:
    assert not bank.stale(), "run: python -m course.bank"


def _read_gift(text: str) -> dict[str, tuple[str, list[tuple[bool, str, str]]]]:
    """A reader of GIFT's multiple choice as its documentation describes it, apart from the writer."""
    found = {}
    for block in text.split("\n\n"):
        lines = [
            line for line in block.strip().splitlines() if not line.startswith(("//", "$CATEGORY"))
        ]
        if not lines:
            continue
        hidden = "\n".join(lines)
        for number, sign in enumerate("\\~=#{}:"):
            hidden = hidden.replace("\\" + sign, chr(0xE000 + number))

        def plain(part: str) -> str:
            for number, sign in enumerate("\\~=#{}:"):
                part = part.replace(chr(0xE000 + number), sign)
            return part

        head, _, rest = hidden.partition("{")
        body, closed, after = rest.partition("}")
        assert closed and not after.strip() and "{" not in body, block
        _, name, stem = head.split("::")
        options = []
        for line in body.strip().splitlines():
            assert line.strip()[0] in "=~" and line.count("#") == 1, line
            option, _, reply = line.strip()[1:].partition("#")
            options.append((line.strip()[0] == "=", plain(option), plain(reply)))
        found[plain(name)] = (plain(stem), options)
    return found


def test_a_learning_platform_reads_the_gift_file() -> None:
    read = _read_gift(bank.gift())
    assert list(read) == [row.key for row in ROWS]
    for row in ROWS:
        stem, options = read[row.key]
        assert stem.startswith("[html]<p>") and stem.count("<code>") == stem.count("</code>")
        assert [right for right, _, _ in options] == [
            index == row.right for index in range(len(row.options))
        ]
        assert all(text and reply for _, text, reply in options)


def test_the_same_eight_stand_in_both_pages_in_another_order() -> None:
    def asked(text: str) -> list[str]:
        return [
            line.split(". ", 1)[1] + text.split(line, 1)[1].split("- **A**")[0]
            for line in text.splitlines()
            if line.startswith("## ")
        ]

    before, after = asked(bank.prerequisites()), asked(bank.prerequisites_again())
    assert len(before) == 8 and sorted(before) == sorted(after) and before != after
    assert all(first != second for first, second in zip(before, after, strict=True))
