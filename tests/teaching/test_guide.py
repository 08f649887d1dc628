"""The instructor's guide keeps step with the lessons: minutes, questions, links, and a chapter for each."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from course import bank, guide
from course.editions import SOLUTIONS, numbers
from course.questions import questions
from fnlib.teaching.exercises import exercises

FOLDER = SOLUTIONS.parent / "instructor"
CHAPTERS = sorted(FOLDER.glob("lesson_*.md"))
PAGES = [FOLDER / "guide.md", *CHAPTERS]
SECTIONS = ("Timing", "On the board", "Step by step", "Questions, and the wrong answers to expect", "Where to break", "Short of time",
            "What tends to go wrong")  # fmt: skip


def minutes(text: str) -> tuple[int, int]:
    """What the rows of the table of minutes add up to: (core, extra)."""
    table = text.split("## Timing")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (\d*) \| (\d*) \|$", table, re.M)
    return sum(int(core or 0) for _, core, _ in rows), sum(int(extra or 0) for _, _, extra in rows)


def anchors(page: Path) -> set[str]:
    """The anchors of a Markdown page's headings, as GitHub makes them."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S), re.M
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_lesson_has_a_chapter_and_the_guide_leads_to_it() -> None:
    lessons = numbers()
    assert [path.name for path in CHAPTERS] == [f"lesson_{number}.md" for number in lessons]
    text = (FOLDER / "guide.md").read_text(encoding="utf-8")
    assert all(f"](lesson_{number}.md)" in text for number in lessons)


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_a_chapter_has_all_its_parts_and_they_say_something(page: Path) -> None:
    parts = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.M)[1:]
    assert tuple(part.splitlines()[0] for part in parts) == SECTIONS
    assert all(len(part.split()) > 12 for part in parts)


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_the_minutes_add_up_to_those_of_the_notebook(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    core, extra = minutes(text)
    head = re.search(r"^(\d+) minutes, (\d+) of them core", text, re.M)
    assert head is not None and (core + extra, core) == (int(head[1]), int(head[2]))
    assert f"| **together** | **{core}** | **{extra}** |" in text
    for notebook in SOLUTIONS.glob(f"{page.stem[-2:]}_*.ipynb"):
        lesson = json.loads(notebook.read_text(encoding="utf-8"))["metadata"]["lesson"]
        assert (core + extra, core) == (lesson["minutes"], lesson["core"])


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_the_table_of_minutes_names_every_section(page: Path) -> None:
    """The table of minutes names every section of the notebook."""
    table = page.read_text(encoding="utf-8").split("## Timing")[1].split("\n## ")[0]
    (notebook,) = SOLUTIONS.glob(f"{page.stem[-2:]}_*.ipynb")
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    named = [
        name
        for name in re.findall(r"^## (.+)$", text, re.M)
        if not name.startswith("You may think")
    ]
    assert (
        len(named) > 7
        and [name for name in named if name.replace("Exit", "exit") not in table] == []
    )


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_the_steps_take_the_minutes_of_the_table(page: Path) -> None:
    """Each step says its minutes, so every section that has minutes has a step."""
    text = page.read_text(encoding="utf-8")
    steps = text.split("## Step by step")[1].split("\n## ")[0].split("\n### ")[0]
    said = re.findall(r"^(\d+)\. \*\*\((\d+) min(, extra)?\) ", steps, re.M)
    numbers_of_steps = re.findall(r"^(\d+)\. ", steps, re.M)
    assert [number for number, _, _ in said] == numbers_of_steps
    assert numbers_of_steps == [str(number) for number in range(1, len(said) + 1)]
    core = sum(int(most) for _, most, extra in said if not extra)
    assert (core, sum(int(most) for _, most, _ in said) - core) == minutes(text)


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_a_chapter_has_the_title_of_its_lesson(page: Path) -> None:
    """So has its row in the guide."""
    number = page.stem[-2:]
    (notebook,) = SOLUTIONS.glob(f"{number}_*.ipynb")
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    title = re.findall(r"^# (.+)$", text, re.M)[0]
    assert page.read_text(encoding="utf-8").startswith(f"# Lesson {title}\n")
    assert f"| [{title}]({page.name}) |" in (FOLDER / "guide.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "page",
    [page for page in CHAPTERS if page.stem != "lesson_09"],  # the museum has exhibits instead
    ids=lambda page: page.stem,
)
def test_the_questions_of_investigate_have_their_answers(page: Path) -> None:
    """That they are true: tests/lessons/test_investigate.py."""
    steps = page.read_text(encoding="utf-8").split("## Step by step")[1].split("\n## ")[0]
    assert re.findall(r"^(\d)\. ", steps.split("### What Investigate shows\n")[1], re.M) == [
        "1",
        "2",
        "3",
    ]


def test_the_one_hour_path_takes_an_hour() -> None:
    path = (
        (FOLDER / "guide.md")
        .read_text(encoding="utf-8")
        .split("## The one-hour path")[1]
        .split("\n## ")[0]
    )
    begins = [int(minute) for minute in re.findall(r"^\| (\d+) \|", path, re.M)]
    assert begins[0] == 0 and begins[-1] == 60 and begins == sorted(set(begins))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_question_and_exercise_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"`(\d\d-[a-z][a-z-]*)`", page.read_text(encoding="utf-8")))
    assert named <= questions().keys() | exercises().keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        where, _, anchor = unquote(target).partition("#")
        other = (page.parent / where).resolve() if where else page
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), target


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_the_wrong_answers_are_those_of_the_tables(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == guide.chapter(page.stem[-2:])
    assert f"instructor/{page.name}" in bank.FILES


def test_each_wrong_option_is_answered() -> None:
    text = guide.answers("01")
    for row in questions().values():
        if row.lesson == "01" and row.kind in ("predict", "exit"):
            assert f"`{row.key}`" in text
            assert all(option.text in text for option in row.options)
    assert not re.search(r"\| *\|\n", text)


def test_a_chapter_without_its_marks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "instructor").mkdir()
    (tmp_path / "instructor" / "lesson_01.md").write_text("# no marks\n", encoding="utf-8")
    monkeypatch.setattr(guide, "LESSONS", tmp_path)
    with pytest.raises(ValueError, match="lesson_01.md needs .* once each"):
        guide.chapter("01")
