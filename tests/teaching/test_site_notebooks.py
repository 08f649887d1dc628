"""A notebook on the site: run once, kept until something changes, its faults named."""

from __future__ import annotations

from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course import editions
from course.museum_table import path_of
from course.site import notebooks, recordings
from fnlib.teaching.museum import EXHIBITS, ROOMS, shown


@pytest.fixture
def lesson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(notebooks, "CACHE", tmp_path / "cache")
    notebooks.CACHE.mkdir()
    path = tmp_path / "01_one.ipynb"
    path.write_text(
        editions.dump(new_notebook(cells=[new_code_cell("print(1 + 1)", id="add")])), "utf-8"
    )
    return path


def test_a_notebook_is_run_once_and_then_taken_from_the_cache(
    lesson: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = notebooks._execute(lesson, "code")
    assert first.notebook.cells[0].outputs[0].text == "2\n" and first.seconds > 0
    monkeypatch.setattr(notebooks, "run", None)
    again = notebooks._execute(lesson, "code")
    assert (again.seconds, again.notebook.cells) == (first.seconds, first.notebook.cells)
    assert notebooks._execute(lesson, "other code").failure  # it would have to be run, and can't


def test_a_lesson_that_fails_is_named_with_its_error(lesson: Path) -> None:
    lesson.write_text(
        editions.dump(new_notebook(cells=[new_code_cell("1 / 0", id="boom")])), "utf-8"
    )
    done = notebooks._execute(lesson, "code")
    assert "failed" in done.row
    assert done.faults[0].startswith("01_one.ipynb: ") and "division by zero" in done.faults[0]


def test_the_ledgers_of_a_lesson_are_saved_and_linked(lesson: Path) -> None:
    """Each by its name, from the run and from the cache; other names and private ones are not."""
    source = (
        "import torch, fnlib\nw = torch.ones(2)\nwith fnlib.Ledger(w=w) as ledger:\n    w.mul_(2)"
    )
    cells = [new_code_cell(source, id="watch"), new_code_cell("_hidden = ledger", id="hide")]
    lesson.write_text(editions.dump(new_notebook(cells=cells)), "utf-8")
    done = notebooks._execute(lesson, "code")
    assert list(done.recordings) == ["ledger"]
    assert "w.mul_(2)" in done.recordings["ledger"].read_text("utf-8")
    assert notebooks._execute(lesson, "code").recordings == done.recordings
    page = notebooks.as_page(done.notebook)
    recordings.link_ledgers(page, {"ledger": "../recordings/01_one/ledger.html"})
    assert [cell.cell_type for cell in page.cells] == ["code", "markdown", "code"]
    twice = new_notebook(cells=[new_code_cell(source, id=name) for name in ("first", "last")])
    recordings.link_ledgers(twice, {"ledger": "a.html"})  # the page has the last recording
    assert [cell.cell_type for cell in twice.cells] == ["code", "code", "markdown"]
    assert 'href="../recordings/01_one/ledger.html"' in page.cells[1].source


def test_the_label_of_an_exhibit_links_to_its_recording() -> None:
    """In a room inside of its label; in lesson 09 below the cell that shows the finding."""
    one, core = EXHIBITS[1], next(one for one in EXHIBITS if one.core)
    label = "## 1\n<details><summary>The label</summary>\n\n- Met.\n\n</details>"
    page = new_notebook(
        cells=[
            new_markdown_cell(label, id=f"{one.code.replace('_', '-')}-label"),
            new_code_cell(f'visit.caught("{core.place}", train)', id="two"),
            new_code_cell(f'visit.from_the_museum("{core.place}")', id="three"),
        ]
    )
    recordings.link_exhibits(page, "../")
    assert f"../recordings/{one.code}.html" in page.cells[0].source.partition("</details>")[0]
    assert f"../recordings/{core.code}.html" in page.cells[2].source
    assert f"../recordings/{core.code}.html" in page.cells[4].source
    room = editions.read(path_of(ROOMS[0]))
    recordings.link_exhibits(room, "../")
    linked = [cell.id for cell in room.cells if "../recordings/" in cell.source]
    assert len(linked) == len(shown(ROOMS[0])) and all(key.endswith("-label") for key in linked)


def test_each_fault_of_a_page_is_named() -> None:
    cells = [
        new_markdown_cell('<img src="https://example.org/a.png">'),
        new_code_cell("plot", outputs=[new_output("display_data", {"image/png": "AA"})]),
        new_code_cell("warn", outputs=[new_output("stream", name="stderr", text="careful")]),
    ]
    done = notebooks.Executed(Path("01_one.ipynb"), new_notebook(cells=cells), 21.0, 701.0)
    said = "\n".join(done.faults)
    assert "longer than a lesson may take" in done.row and " s, " not in said
    for fault in (
        "budget is 700 MB",
        "asks the network for https://example.org/a.png",
        "no alternative text: <img",
        "no alternative text: plot",
        "stderr: careful",
    ):
        assert fault in said, fault


def test_a_page_folds_what_is_no_part_of_the_story() -> None:
    """Set-up and solutions are folded, and a widget leaves the sentence that stands for it."""
    cells = [
        new_code_cell("from fnlib import teaching"),
        new_code_cell(
            "def f():\n    ### BEGIN SOLUTION\n    ### STUB return ...\n    return 1\n    ### END SOLUTION"
        ),
        new_code_cell(
            "choose",
            outputs=[new_output("display_data", {notebooks.WIDGET: {}, "text/plain": "[Choose]"})],
        ),
    ]
    made = notebooks.as_page(new_notebook(cells=cells))
    assert ["hide-input" in cell.metadata.get("tags", []) for cell in made.cells] == [
        True,
        True,
        False,
    ]
    assert made.cells[1].source == "def f():\n    return 1\n"
    assert made.cells[2].outputs[0].data == {"text/plain": "[Choose]"}


def test_a_rooms_answers_are_folded_with_their_outputs() -> None:
    cells = [new_code_cell("ready"), new_code_cell("def bug(): ...", id="a-bug")]
    for key in ("a-cured-1", "a-cure", "a-helper-1", "a-fnlib"):
        cells.append(new_code_cell("def cure(): ...", id=key))
        cells[-1].metadata["jupyter"] = {"source_hidden": True, "outputs_hidden": True}
    made = notebooks.as_page(new_notebook(cells=cells)).cells
    assert ["hide-cell" in cell.metadata["tags"] for cell in made] == [False, False, *[True] * 4]
    shown = [cell.metadata["mystnb"]["code_prompt_show"] for cell in made[2:]]
    assert shown == ["Show the cure"] * 2 + ["Show the same task in fnlib"] * 2


def test_an_answer_that_a_button_shows_is_folded_on_the_page() -> None:
    """A prediction, which a later cell answers, stays open."""
    cells = [
        new_code_cell("ready"),
        *(new_code_cell(f'teaching.predict("{key}")') for key in ("01-after-backward", "01-exit")),
    ]
    made = notebooks.as_page(new_notebook(cells=cells))
    assert [len(cell.outputs) for cell in made.cells] == [0, 0, 1]
    folded = made.cells[2].outputs[0].data["text/html"]
    assert folded.startswith("<details><summary>Show the answer</summary>") and "✓" in folded


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('<script src="https://a.org/x.js"></script>', ["https://a.org/x.js"]),
        (
            "<script type='module'>import m from 'https://a.org/m.mjs'</script>",
            ["https://a.org/m.mjs"],
        ),
        ('<link rel="stylesheet" href="https://a.org/x.css">', ["https://a.org/x.css"]),
        ("<style>body{background:url(https://a.org/x.png)}</style>", ["https://a.org/x.png"]),
        ('<a href="https://a.org">a link waits for a click</a>', []),
        ('<img src="data:image/png;base64,AA">', []),
    ],
)
def test_what_a_browser_would_load_by_itself(text: str, found: list[str]) -> None:
    assert notebooks.requests(text) == found
