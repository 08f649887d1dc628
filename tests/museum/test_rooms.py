"""The rooms of the museum, and its two tables: made from the one table of exhibits, complete, and able to fail."""

from __future__ import annotations

import dataclasses
import re

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from course import rooms as museum_rooms
from course.editions import read
from course.execute import CHECKED
from course.museum_table import (
    BEGIN,
    END,
    counts,
    in_readme,
    markdown,
    path_of,
)
from fnlib.ledger.doctor.script import main as doctor
from fnlib.teaching import museum_visit
from fnlib.teaching.content.exhibits import in_fnlib
from fnlib.teaching.museum import EXHIBITS, ROOMS, exhibit, shown
from tests.museum.load import ROOT, load

README = (ROOT / "README.md").read_text(encoding="utf-8")
each_room = pytest.mark.parametrize("room", ROOMS)


def test_everything_that_is_made_from_the_table_is_in_step() -> None:
    assert not museum_rooms.stale(), "run: python -m course.rooms"


def test_what_is_out_of_step_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(museum_rooms, "in_readme", lambda text: text + "!")
    monkeypatch.setattr(
        museum_rooms, "notebook", lambda room: new_notebook(cells=[new_markdown_cell(room)])
    )
    assert museum_rooms.stale() == [*(path_of(room).name for room in ROOMS), "README.md"]
    assert museum_rooms.main(["--check"]) == 1


@each_room
def test_a_room_shows_each_exhibit_with_all_its_parts(room: str) -> None:
    cells = {cell.id: cell for cell in read(path_of(room)).cells}
    for one in shown(room):
        code = one.code.replace("_", "-")
        label = cells[code].source
        assert (
            label.startswith(f"## {one.place} · {one.task}")
            and museum_rooms.SAID[one.today] in label
        )
        label = cells[f"{code}-label"].source
        assert one.title in label and label.startswith("<details>")
        assert all(link in label for link, _ in one.links)
        assert "def setup" in "".join(
            cell.source for key, cell in cells.items() if key.startswith(f"{code}-parts")
        )
        written, cured = cells[f"{code}-bug"], cells[f"{code}-cure"]
        fnlib = cells.get(
            f"{code}-fnlib", cured
        )  # a task that stands further up already is done in the cell of the cure
        assert (
            "def bug(" in written.source
            and f'visit.as_written("{one.place}", setup, bug)' in written.source
        )
        assert "def cure(" in cured.source and f'visit.in_fnlib("{one.place}"' in fnlib.source
        said = cured.outputs[0].text
        assert (
            f"\nAs written: {'It raises' if one.today == 'raises' else 'It runs to the end'}"
            in said
            and "\nCured:      It runs" in said
        )
        assert " line  statement" in said and (
            one.harm is None or re.search(r"as written \S+, cured \S+\n", said)
        )
        assert one.finding in said
        assert one.note in " ".join(said.split()), "the note that the rows need"
        assert re.search("^In fnlib it ", fnlib.outputs[0].text, re.MULTILINE)


@each_room
def test_a_room_shows_a_loop_before_its_answers(room: str) -> None:
    """Heading, code and symptom are open; label, cure and `fnlib` come after them, folded."""
    cells = read(path_of(room)).cells[3:]
    answers = False
    for cell in cells:
        if cell.source.startswith("## "):
            answers = False
        elif cell.id.endswith("-label"):
            answers = True
        else:
            folded = {"source_hidden": True, "outputs_hidden": True}
            assert (cell.metadata.get("jupyter") == folded) == answers, cell.id


@each_room
def test_a_label_does_not_repeat_its_title(room: str) -> None:
    for one in shown(room):
        cells = {cell.id: cell.source for cell in read(path_of(room)).cells}
        title, said = cells[f"{one.code.replace('_', '-')}-label"].split("**")[1:3]
        plain, said = (each.replace("`", "").lower() for each in (title, said.strip()))
        assert not said.startswith(" ".join(plain.split()[:3]).rstrip(".")), (title, said)


@each_room
def test_a_room_names_each_of_its_exhibits_in_the_lesson(room: str) -> None:
    title = next(cell.source for cell in read(path_of(room)).cells if cell.id == "title")
    said = next((line for line in title.splitlines() if "in the lesson itself: " in line), "")
    core = [one.title for one in EXHIBITS if one.room == room and one.core]
    assert bool(said) == bool(core) and all(each in said for each in core)
    assert said.startswith(("", "One exhibit ", "Two exhibits ")[len(core)])


@each_room
def test_a_room_keeps_to_the_size_of_a_lesson(room: str) -> None:
    cells = read(path_of(room)).cells
    assert len(cells) <= 33  # five exhibits of six cells, and what every notebook begins with
    for cell in cells:
        if cell.cell_type == "code" and cell.id != "setup":
            assert (
                len(cell.source.splitlines()) <= 15
                and max(map(len, cell.source.splitlines())) <= 100
            ), cell.source
            assert (
                bool(cell.outputs)
                == (cell.execution_count is not None)
                == (CHECKED in cell.metadata.get("tags", []))
            )
        for output in cell.get("outputs", ()):
            assert not re.search(r"/tmp/|ipykernel|0x[0-9a-f]{6}", output.text), (
                "what changes from run to run"
            )


def test_a_room_says_that_it_borrows_only_if_it_does() -> None:
    """A name that an exhibit takes from an earlier one is told apart from one that it defines itself."""
    earlier, borrows, defines = (
        [new_code_cell(source)]
        for source in (
            "def helper():\n    return 1",
            "helper()",
            "def helper():\n    return 2\n\nhelper()",
        )
    )
    assert museum_rooms._lean_on_others([earlier, borrows])
    assert not museum_rooms._lean_on_others([earlier, defines])


def test_every_exhibit_hangs_in_one_place() -> None:
    hung = [one for room in ROOMS for one in shown(room)] + [one for one in EXHIBITS if one.core]
    assert sorted(one.code for one in hung) == sorted(one.code for one in EXHIBITS)
    assert len({one.place for one in EXHIBITS}) == len(EXHIBITS)
    assert all(exhibit(one.place) is exhibit(one.code) is one for one in EXHIBITS)


def test_the_lesson_shows_its_six() -> None:
    text = museum_rooms.LESSON.read_text(encoding="utf-8")
    for one in EXHIBITS:
        if one.core:
            calls = (f'caught(\\"{one.place}\\"', f'from_the_museum(\\"{one.place}\\"')
            assert any(call in text for call in calls), one.code
            assert any(link in text for link, _ in one.links), one.code


def test_the_lesson_quotes_the_doctor_word_for_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    script = "fnlib/teaching/content/exhibits/bugs/zero_grad_forgotten.py"
    assert doctor([script]) == 1
    cell = next(cell for cell in read(museum_rooms.LESSON).cells if cell.id == "doctor")
    assert (
        f"```text\n$ python -m fnlib doctor {script}\n{capsys.readouterr().err}```" in cell.source
    )


def test_the_tables() -> None:
    full = markdown().splitlines()
    assert len(full) == len(EXHIBITS) + len(ROOMS) + 2
    assert all(row.count("|") == 7 for row in full)
    assert counts()[1] >= 20 and str(counts()[1]) in README.split(BEGIN)[1]
    with pytest.raises(ValueError, match="once each"):
        in_readme(README.replace(END, ""))


def test_a_room_fails_when_the_ledger_misses_its_bug() -> None:
    module = load(exhibit("zero_grad_forgotten").file)
    with pytest.raises(AssertionError, match="the ledger found"):
        museum_visit.cured("zero_grad_forgotten", module.setup, module.cure, module.cure)
    with pytest.raises(AssertionError, match="not in order"):
        museum_visit.cured("zero_grad_forgotten", module.setup, module.bug, module.bug)


def test_an_error_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Of an error that a loop raises, its text is below the table and no part of it is in a row."""
    module = load(exhibit("gan_step_between_backwards").file)
    museum_visit.cured("gan_step_between_backwards", module.setup, module.bug, module.cure)
    said = capsys.readouterr().out
    assert "anomaly detection" not in said and said.count("modified by an inplace") == 1


def test_lists_in_a_list_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    museum_visit.in_fnlib("tie_lost_in_assign", in_fnlib.tie_is_taken_as_it_is)
    assert "gives [embed.weight], [embed.weight, decode.weight]\n" in capsys.readouterr().out


def test_a_room_fails_when_pytorch_is_louder_than_the_table_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module, one = (
        load(exhibit("scheduler_before_optimizer").file),
        exhibit("scheduler_before_optimizer"),
    )
    monkeypatch.setattr(
        museum_visit, "exhibit", lambda code: dataclasses.replace(one, today="silent")
    )
    with pytest.raises(AssertionError, match="PyTorch is 'silent' here, and it 'warns'"):
        museum_visit.cured(one.code, module.setup, module.bug, module.cure)


def test_a_room_fails_when_fnlib_contradicts_the_table() -> None:
    """A room fails when `fnlib` does something else than the table says."""
    with pytest.raises(AssertionError, match="says that this is refused"):
        museum_visit.in_fnlib("loss_made_of_numbers", lambda: None)


def test_what_is_said_of_rows_is_held_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(one.rows is not None for one in EXHIBITS if one.functional)
    one = exhibit("old_state_returned")
    module = load(one.file)
    for wrong in ({"present": "no such word"}, {"absent": "weights"}):
        rows = dataclasses.replace(one.rows, **wrong)
        monkeypatch.setattr(
            museum_visit, "exhibit", lambda code, rows=rows: dataclasses.replace(one, rows=rows)
        )
        with pytest.raises(AssertionError, match="do not show what is said"):
            museum_visit.cured("old_state_returned", module.setup, module.bug, module.cure)
