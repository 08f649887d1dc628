"""What students get: notebooks without answers that find everything they show, and hand-outs of one page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from course import editions, nbgrader, student
from course.site import handouts


def dead_links(folder: Path) -> list[str]:
    """Relative links and pictures of the notebooks in a folder that lead nowhere; other lessons are not looked for."""
    dead = []
    for path in folder.rglob("*.ipynb"):
        for cell in editions.read(path).cells:
            if cell.cell_type != "markdown":
                continue
            for link in re.findall(
                r"(?:\]\(|(?:src|href)=\")(?!https?:|#)([^)\"\s#]+)", cell.source
            ):
                if not link.endswith(".ipynb") and not (path.parent / link).exists():
                    dead.append(f"{path.name}: {link}")
    return dead


def test_the_students_folder_has_no_answers(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "old.txt").touch()
    made = student.write(tmp_path)
    assert (tmp_path / ".git").is_dir() and not (tmp_path / "old.txt").exists()
    assert len(made) == len(editions.sources()) + len(editions.rooms())
    names = {path.name for path in tmp_path.rglob("*")}
    assert not names & {"solutions", "instructor", "question_bank.md", "guide.md"}
    texts = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.toml")]
    assert texts and not any('kind = "bank"' in text for text in texts)
    for path in made:
        assert editions.BEGIN not in path.read_text(encoding="utf-8")
    assert not dead_links(tmp_path / "lessons")


def test_an_nbgrader_course_has_its_figures_and_its_glossary(tmp_path: Path) -> None:
    nbgrader.write(tmp_path)
    assert not dead_links(tmp_path)
    (tmp_path / "source/lesson_01/glossary.md").unlink()
    assert dead_links(tmp_path)


def test_a_hand_out_fits_on_a_page(tmp_path: Path) -> None:
    handouts.write(tmp_path)
    made = sorted(tmp_path.glob("handout_*.md"))
    assert len(made) == len(editions.sources())
    for path in made:
        text = path.read_text(encoding="utf-8")
        assert 100 < len(text.split()) < 420, path.name
        assert "](" not in text and "## Recap" in text


def test_a_lesson_without_a_recap_is_named() -> None:
    notebook = editions.read(editions.sources()[0])
    notebook.cells = [cell for cell in notebook.cells if "Recap" not in cell.source]
    with pytest.raises(ValueError, match="00 · x: nothing"):
        handouts.page("00 · x", notebook)
