"""Write the students' edition: a folder without answers, for a JupyterHub, a download page or a branch.

    python -m course.student                    writes build/student
    python -m course.student --out FOLDER

It has the notebooks with blanks, the rooms, the glossary, the figures and `fnlib` itself. The complete lessons, the
instructor's guide and the question bank stay out. What a lesson says after an answer is in `fnlib` all the same, as in
every copy of the course: whoever looks for it finds it, so marks that count need another task.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from course import editions
from fnlib.teaching.notebook import LESSONS, ROOT

OUT = ROOT / "build" / "student"
README = """# Who owns the state, and who changed it?

Open `lessons/` and begin with 00. Read [eight questions](lessons/prerequisites.md) first; the
[glossary](lessons/glossary.md) explains every word.

    python -m venv .venv
    .venv/bin/python -m pip install -r requirements.txt
    .venv/bin/python -m jupyterlab lessons
"""


def write(folder: Path) -> list[Path]:
    """Write the edition anew.

    Args:
        folder: is emptied first, its `.git` excepted, so that it can be a branch of its own.

    Returns:
        The notebooks in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if old.name != ".git":
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    lessons = folder / "lessons"
    lessons.mkdir()
    for source in editions.sources():
        shutil.copy(LESSONS / source.name, lessons)
    for name in ("glossary.md", "prerequisites.md", "prerequisites_again.md", "LICENSE.md"):
        shutil.copy(LESSONS / name, lessons)
    without = shutil.ignore_patterns("*.py", "__pycache__", ".ipynb_checkpoints", "*_my_copy_*")
    for name in ("figures", "museum"):
        shutil.copytree(LESSONS / name, lessons / name, ignore=without)
    shutil.copytree(ROOT / "fnlib", folder / "fnlib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("requirements.txt", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    (folder / "README.md").write_text(README, encoding="utf-8", newline="\n")
    return sorted(lessons.rglob("*.ipynb"))


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m course.student", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write to")
    folder = parser.parse_args(arguments).out
    print(f"{len(write(folder))} notebooks without answers in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
