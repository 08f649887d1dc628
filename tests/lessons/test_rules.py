"""Every rule is seen to fail once: a small lesson that keeps all of them, and one way to break it a line."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course.execute import CHECKED
from fnlib import teaching
from tests.lessons import essay
from tests.lessons.notebooks import Lesson
from tests.lessons.rules import LESSONS, RULES, anchors

MORE = "more " * 200  # so that the lesson is as long as it says
CELLS = {
    "title": (
        "core",
        "# 00 · Why?\n\n15 minutes, 9 of them core\n\n## What you can do afterwards\n\n- Given this, you do that.",
    ),
    "setup": (None, teaching.SETUP_CELL),
    "machines": (
        "core",
        "## Two machines\n\n![Left a place, right three values in a row.](../figures/two-machines.svg)\n\n"
        "A [place](../glossary.md#place), [PyTorch](https://docs.pytorch.org/docs/stable/torch.html), "
        '<img src="../figures/places.svg" alt="Three names point to one place.">\n\n## Predict',
    ),
    "ask": (None, 'teaching.predict("00-best")'),
    "run": ("core", "## Run it: stock\n\nThe share is 93 %, 1.5 times the other."),
    "measure": (CHECKED, "share, ratio = 0.93, 1.5\nprint(share, ratio)"),
    "draw": (None, 'teaching.show(figure, alt="It rises.")\nteaching.reveal("00-best")'),
    "look": (
        "core",
        "## Investigate\n\n1. a\n2. b\n3. c\n\n<details>\n<summary>What you'll find</summary>\n\n"
        "**1.** a\n\n**2.** b\n\n**3.** c\n\n</details>\n\n## Modify: keep\n",
    ),
    "keep": (CHECKED, 'teaching.check("00-keep-best", ...)'),
    "make-text": ("extra", "## Decide: this or that\n\n" + MORE + "\n\n## Make: stop"),
    "make": (CHECKED, 'teaching.check("00-early-stop", ...)'),
    "costs": (
        "core",
        "## What each style costs here\n\n**Recap.**\n- a\n- b\n- c\n\n**Further reading.** More.\n\n## Exit question",
    ),
    "exit": (None, 'teaching.predict("00-exit")'),
}


def small() -> Lesson:
    cells = []
    for id, (tag, source) in CELLS.items():
        make = new_markdown_cell if tag in ("core", "extra") else new_code_cell
        cells.append(make(source, id=id, metadata={"tags": [tag]} if tag else {}))
        if id == "setup":
            cells[-1].metadata["jupyter"] = {"source_hidden": True}
        if tag == CHECKED:
            cells[-1].outputs, cells[-1].execution_count = (
                [new_output("stream", text="0.93 1.5\n")],
                3,
            )
    notebook = new_notebook(
        cells=cells, metadata={"lesson": {"number": "00", "minutes": 15, "core": 9}}
    )
    return Lesson("00_why", notebook, LESSONS / "solutions")


def text(id: str, old: str, new: str) -> Callable[[Lesson], None]:
    """Replaces words in one cell."""

    def change(lesson: Lesson) -> None:
        cell = next(cell for cell in lesson.cells if cell.id == id)
        assert old in cell.source
        cell.source = cell.source.replace(old, new)

    return change


def meta(**changes: object) -> Callable[[Lesson], None]:
    return lambda lesson: lesson.notebook.metadata["lesson"].update(changes)


def cell(which: str, /, **changes: object) -> Callable[[Lesson], None]:
    return lambda lesson: next(cell for cell in lesson.cells if cell.id == which).update(changes)


BROKEN: list[tuple[str, Callable[[Lesson], None], str]] = [
    ("title", text("title", "# 00 · Why?", "# Why?"), "not '# Why?'"),
    ("title", text("run", "## Run", "# Run"), "2 headings of level 1"),
    ("title", text("title", "# 00", "Hello\n\n# 00"), "begins with the title"),
    ("heading_levels", text("run", "## Run", "#### Run"), "skipped before 'Run it: stock'"),
    ("section_tags", cell("run", metadata={}), "cell run"),
    ("section_tags", cell("run", metadata={"tags": ["core", "extra"]}), "cell run"),
    (
        "section_order",
        text("costs", "## What each style costs here", "## Run it: functional"),
        "'Run it: functional' comes after 'Make'",
    ),
    ("section_order", text("look", "## Modify: keep", "## Change: keep"), "no section ['Modify']"),
    (
        "section_order",
        text("title", "What you can do afterwards", "Objectives"),
        "no section ['What you can do afterwards']",
    ),
    ("ending", text("costs", "**Recap.**", "Recap"), "no **Recap.**"),
    ("ending", text("costs", "- c\n", ""), "2 lines, not 3"),
    ("ending", text("costs", "**Further reading.**", "More."), "no **Further reading.**"),
    ("ending", text("exit", "00-exit", "01-exit"), "no exit question"),
    ("taught", text("look", "3. c", ""), "questions 1, 2 and 3"),
    ("taught", text("make-text", "## Make", "## Do"), "no '## Make'"),
    ("taught", text("look", "**2.** b", "2 b"), "the answers **1.**, **2.** and **3.**"),
    ("taught", text("look", "</details>", ""), "in <details>"),
    ("taught", text("make-text", "## Decide: ", "## "), "no '## Decide: ...'"),
    ("taught", text("make-text", "this or that", "you\n\nYou may think"), "the old formula"),
    ("size", lambda lesson: lesson.cells.extend([new_markdown_cell("x")] * 13), "26 cells"),
    ("size", text("measure", "print", "\n" * 14 + "print"), "16 lines"),
    ("size", text("measure", "print", "#" * 82 + "print"), "line of 101"),
    (
        "alternative_text",
        text("machines", "Left a place, right three values in a row.", "A picture"),
        "two-machines.svg",
    ),
    ("alternative_text", text("machines", ' alt="Three names point to one place."', ""), "<img"),
    ("alternative_text", text("draw", ', alt="It rises."', ""), "no alt="),
    ("alternative_text", text("draw", "It rises.", ""), "no alt="),
    (
        "plain_file",
        lambda lesson: lesson.notebook.metadata.update(widgets={"state": {}}),
        "widgets",
    ),
    ("plain_file", text("measure", "print", "open('/home/ada/x'); print"), "/home/ada"),
    ("plain_file", text("run", "The share", r"C:\Users\ada: the share"), r"C:\Users"),
    (
        "plain_file",
        cell("measure", outputs=[new_output("stream", text="File /tmp/ipykernel_1/2.py")]),
        "/tmp/ipykernel",
    ),
    ("plain_file", cell("run", attachments={"a.png": {}}), "holds a picture"),
    ("stored_outputs", cell("measure", execution_count=None), "nbval compares nothing"),
    ("stored_outputs", cell("measure", outputs=[]), "stores no text"),
    (
        "stored_outputs",
        cell("ask", outputs=[new_output("stream", text="x")]),
        "not tagged and stores",
    ),
    ("stored_outputs", cell("ask", execution_count=1), "not tagged and stores"),
    ("checks_compared", cell("keep", metadata={}), "cell keep checks an answer"),
    (
        "glossary",
        text("run", "The share", "The ledger. The share"),
        "cell run: 'ledger' is not linked",
    ),
    (
        "glossary",
        text("run", "The share", "Gradients. The share"),
        "'gradient' is not linked where it is first used",
    ),
    (
        "glossary",
        text("machines", "A [place]", "Places, and a [place]"),
        "'place' is not linked where it is first used",
    ),
    (
        "glossary",
        text(
            "run",
            "The share",
            '`value`, "Run it: stock", [a model](https://pytorch.org), it names. The share',
        ),
        "",
    ),
    (
        "glossary",
        text("run", "The share", "[`value`](../glossary.md#value). Values stay. The share"),
        "",
    ),
    (
        "glossary",
        text("title", "you do that", "a ledger tells you"),
        "",
    ),  # the objectives only announce
    ("cell_ids", cell("ask", id="exit"), "two cells are called exit"),
    ("cell_ids", cell("ask", id="8d3c7a0f"), "no short word"),
    ("minutes", meta(number="01"), "say lesson 01"),
    ("minutes", meta(core=10), "10 of 15"),
    ("minutes", meta(minutes=30), "'30 minutes, 9 of them core'"),
    ("minutes", text("make-text", MORE, ""), "words are read at 25 a minute"),
    ("minutes", cell("make-text", metadata={"tags": ["core"]}), "words are core, at most 60 %"),
    *(
        ("short_path", text("title", "- Given", f"Short of time? {said}\n\n- Given"), fault)
        for said, fault in {
            'Skip "Investigate" and stop after "Modify".': "'Investigate' is core",
            'Skip "Decide" and "Decade", stop after "Modify".': "no section is called 'Decade'",
            'Go from "Run it: stock" to "Modify", and stop after it.': "'Go from' is read as",
            'Skip "Decide: this or that" and stop after "Modify".': "",
        }.items()
    ),
    ("set_up", text("setup", "import sys", "import os, sys"), "set-up cell"),
    ("set_up", cell("setup", id="begin"), "set-up cell"),
    ("set_up", cell("setup", metadata={}), "one line of it is in sight"),
    ("keys", text("keep", "00-keep-best", "00-keep"), "no exercise is called 00-keep"),
    ("keys", text("keep", "00-keep-best", "01-blank-ledger"), "00-keep-best is in the table"),
    ("keys", text("draw", "00-best", "00-worst"), "no question is called 00-worst"),
    ("keys", text("draw", '\nteaching.reveal("00-best")', ""), "never answered"),
    ("keys", text("ask", "predict", "reveal"), "00-best is a prediction of this lesson"),
    (
        "keys",
        lambda lesson: lesson.cells.insert(
            2, new_code_cell('teaching.reveal("00-best")', id="early")
        ),
        "before it is asked",
    ),
    ("links", text("machines", "../glossary.md#place", "../glossary.md#planet"), "#planet"),
    (
        "links",
        text("machines", "../figures/two-machines.svg", "../figures/three.svg"),
        "three.svg leads nowhere",
    ),
    (
        "links",
        text("machines", "../figures/two-machines.svg", "figures/two-machines.svg"),
        "leads nowhere",
    ),
    (
        "links",
        text("machines", "https://docs.pytorch.org", "http://docs.pytorch.org"),
        "no address of the web",
    ),
    (
        "links",
        text("machines", "https://docs.pytorch.org", "https://docs"),
        "no address of the web",
    ),
    ("links", text("machines", "../figures/places.svg", "/figures/places.svg"), "leads nowhere"),
    ("measured", text("run", "93 %", "94 %"), "no cell shows 94 %"),
    ("measured", text("run", "1.5 times", "2 times"), "no cell shows 2 times"),
    ("measured", text("run", "1.5 times", "1.6"), "no cell shows 1.6"),
    (
        "measured",
        text("measure", "0.93", "0.92"),
        "",
    ),  # the stored output still shows it: nothing is wrong
    (
        "own_words",
        text("run", "The share", "one two three four five, six seven EIGHT. The share"),
        "one two three four five six",
    ),
    (
        "own_words",
        text("draw", "\n", "  # one two three four five six seven eight\n"),
        "one two three",
    ),
    ("renders_offline", text("run", "The share", "The share $w - l$"), "LaTeX"),
    ("renders_offline", text("draw", "teaching.show", "plt.show()\nteaching.show"), "plt.show"),
]


@pytest.fixture(autouse=True)
def an_essay_of_eight_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In place of the real one, none of whose words may stand here either."""
    file = tmp_path_factory.mktemp("essay") / "hashes.txt"
    file.write_text(
        "\n".join(essay.runs("One two three four five six, seven: eight nine")), encoding="utf-8"
    )
    monkeypatch.setattr(essay, "HASHES", file)


def faults(lesson: Lesson) -> dict[str, list[str]]:
    return {name: found for name, check in RULES.items() if (found := list(check(lesson)))}


def test_the_small_lesson_keeps_every_rule() -> None:
    assert not faults(small())


@pytest.mark.parametrize(
    ("rule", "change", "said"),
    BROKEN,
    ids=[f"{number:02d}-{row[0]}" for number, row in enumerate(BROKEN)],
)
def test_a_broken_rule_is_said(rule: str, change: Callable[[Lesson], None], said: str) -> None:
    lesson = small()
    change(lesson)
    found = list(RULES[rule](lesson))
    assert any(said in fault for fault in found) if said else not found, found


def test_every_rule_is_broken_once() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


def test_the_museum_may_be_longer() -> None:
    lesson = small()
    lesson.cells.extend([new_markdown_cell("x")] * (29 - len(lesson.cells)))
    for name in ("09_hall", "09a_room"):
        assert not list(RULES["size"](Lesson(name, lesson.notebook, lesson.folder)))
    assert list(RULES["size"](Lesson("08_hall", lesson.notebook, lesson.folder)))
    lesson.cells.append(new_markdown_cell("x"))
    for name in ("09_hall", "09a_room"):
        assert list(RULES["size"](Lesson(name, lesson.notebook, lesson.folder)))


def test_quotations_and_code_are_no_shared_words() -> None:
    run = "one two three four five six seven eight"
    assert (
        essay.shared(run)
        and not essay.shared(f"> {run}")
        and not essay.shared(f"```\n{run}\n```")
        and not essay.shared(f"`{run}`")
    )
    assert hashlib.blake2b(run.encode(), digest_size=5).hexdigest() in essay.runs(run)


def test_anchors_are_made_as_jupyter_and_github_make_them() -> None:
    assert {"action-at-a-distance", "state_dict"} <= anchors(LESSONS / "glossary.md")
