"""A teacher's slip in a file of content is answered with its file, its record and what to write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fnlib.teaching import misconceptions, museum, questions, records

GOOD = '''
[[question]]
key = "00-first"
kind = "bank"
prompt = """
Two lines
are one sentence."""
code = \'\'\'
a = [1]
b = a
\'\'\'

[[question.option]]
text = "One"
right = true
why = "Yes."

[[question.option]]
text = "Two"
slug = "assignment-copies"

[[question]]
key = "00-second"
kind = "bank"
prompt = "And now?"

[[question.option]]
text = "Yes"
right = true
why = "Yes."

[[question.option]]
text = "No"
why = "No."
'''
SECOND = r'questions/00\.toml, question "00-second"'

# What is changed in the good file, and what the teacher reads.
SLIPS = [
    ("an unclosed quote", ('"And now?"', '"And now?'), r'questions/00\.toml, in or after question "00-second": .*line'),
    ("no equals sign", ("prompt = \"And", "prompt \"And"), r'00\.toml, in or after question "00-second": .*line 25'),
    ("a key twice in a record", ('prompt = "And now?"', 'prompt = "And now?"\nprompt = "So?"'), "in or after question"),
    ("a misspelt field", ("prompt = \"And", "promt = \"And"), SECOND + ': there is no field "promt"; did you mean "prompt"'),
    ("a field of nowhere", ('prompt = "And now?"', 'prompt = "And now?"\nlevel = 3'), SECOND + ': there is no field "level"; there are'),
    ("a missing field", ('prompt = "And now?"\n', ""), SECOND + ': write "prompt"'),
    ("a number for a text", ('"And now?"', "7"), SECOND + ': "prompt" must be text in quotes, not 7'),
    ("a misspelt field of an option", ('why = "No."', 'wy = "No."'), SECOND + ', option 2: there is no field "wy"'),
    ("no reply", ('why = "No."', ""), SECOND + ": .*answer nothing"),
    ("nothing right", ('text = "Yes"\nright = true', 'text = "Yes"'), SECOND + ": write right = true in one option"),
    ("two right", ('text = "No"', 'text = "No"\nright = true'), SECOND + ": .*2 have it"),
    ("right in words", ('text = "Yes"\nright = true', 'text = "Yes"\nright = "yes"'), SECOND + ": write right = true"),
    ("right above the options", ('prompt = "And now?"', 'prompt = "And now?"\nright = 0'), SECOND + ': there is no field "right"'),
    ("another kind", ('key = "00-second"\nkind = "bank"', 'key = "00-second"\nkind = "quiz"'), SECOND + ": .*kind is one of"),
    ("no such misconception", ('"assignment-copies"', '"assignment-copy"'), r'question "00-first": No misconception is called'),
    ("another lesson's key", ("00-second", "01-second"), r'question "01-second": its key begins with 01, so it belongs to 01\.toml'),
    ("one key twice", ("00-second", "00-first"), '"00-first" is there twice'),
    ("a misspelt head", ('[[question]]\nkey = "00-second', '[[qestion]]\nkey = "00-second'), r"with \[\[question\]\], not with 'qestion'"),
    ("no key", ('key = "00-second"\n', "\n"), ': write "key"'),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Content of one lesson, in a folder of its own."""
    (tmp_path / "questions").mkdir()
    monkeypatch.setattr(records, "CONTENT", tmp_path)
    questions.questions.cache_clear()
    yield tmp_path
    questions.questions.cache_clear()


def test_a_good_file_is_read_as_it_is_meant(folder: Path) -> None:
    (folder / "questions" / "00.toml").write_text(GOOD, encoding="utf-8")
    first = questions.question("00-first")
    assert first.prompt == "Two lines are one sentence."
    assert first.code == "a = [1]\nb = a"
    assert first.options[first.right].text == "One"


def test_the_example_for_authors_is_a_question(folder: Path) -> None:
    page = (Path(__file__).parents[2] / "lessons" / "AUTHORING.md").read_text(encoding="utf-8")
    example = page.split("```toml\n")[1].split("```")[0]
    (folder / "questions" / "01.toml").write_text(example, encoding="utf-8")
    row = questions.question("01-name")
    exec(f"import torch\n{row.code}\n{row.proof}", {})  # noqa: S102  # our own code
    assert row.options[row.right].text == "The same tensor"


@pytest.mark.parametrize(
    ("change", "says"), [row[1:] for row in SLIPS], ids=[row[0] for row in SLIPS]
)
def test_a_slip_is_said_with_its_place(folder: Path, change: tuple[str, str], says: str) -> None:
    assert GOOD.count(change[0]) == 1
    (folder / "questions" / "00.toml").write_text(GOOD.replace(*change), encoding="utf-8")
    with pytest.raises(records.ContentError, match=says) as caught:
        questions.questions()
    assert "\n" not in str(caught.value)


EXHIBIT = records.read("museum.toml", "room", "exhibit", "way", "source")["exhibit"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"harm": 3}, r'"harm" must be two numbers, such as \[1, 2\], not 3'),
        ({"harm": [1]}, '"harm" must be two numbers'),
        ({"today": "quiet"}, "\"today\" must be one of 'silent', 'warns', 'raises', not 'quiet'"),
        ({"core": "yes"}, '"core" must be a whole number'),
        ({"sources": "pytorch"}, '"sources" must be a list'),
        ({"room": "Attic"}, 'there is no room "Attic" in this file'),
        ({"way": "none"}, 'there is no way "none"'),
        ({"sources": ["a#1"]}, 'there is no source "a#1"'),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_slip_in_an_exhibit_is_said(changed: dict[str, object], says: str) -> None:
    first = EXHIBIT[0]
    row = records.Record(first.place, first.fields | changed)
    with pytest.raises(records.ContentError, match=f'exhibit "zero_grad_forgotten": {says}'):
        museum._exhibit(row)


def test_a_functional_exhibit_says_what_its_rows_show() -> None:
    row = next(row for row in EXHIBIT if "rows" in row.fields)
    without = {name: value for name, value in row.fields.items() if name != "rows"}
    with pytest.raises(records.ContentError, match="write what its rows show"):
        museum._exhibit(records.Record(row.place, without))
    with pytest.raises(records.ContentError, match='rows: write "absent"'):
        museum._exhibit(
            records.Record(row.place, without | {"rows": {"says": "a", "present": "b"}})
        )


def test_a_slip_in_a_misconception_is_said(folder: Path) -> None:
    (folder / "misconceptions.toml").write_text(
        '[[misconception]]\nslug = "x"\nthink = "a"\nlesson = "00"\n', encoding="utf-8"
    )
    with pytest.raises(records.ContentError, match='misconception "x": write "fact"'):
        [row] = records.read("misconceptions.toml", "misconception")["misconception"]
        row.make(misconceptions.Misconception)
