"""The set-up cell finds the kit from wherever a notebook was opened, and asks for nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from fnlib import teaching
from fnlib.teaching import notebook

ROOT = Path(__file__).resolve().parents[2]


def _kit(folder: Path) -> Path:
    """A checkout with a space and an accent in its path, and with nothing in it but the package."""
    kit = folder / "mon modèle"
    (kit / "lessons" / "solutions").mkdir(parents=True)
    (kit / "fnlib").symlink_to(ROOT / "fnlib", target_is_directory=True)
    return kit


def _run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-I",
        "-c",
        code,
    ]  # -I: neither this folder nor PYTHONPATH is searched
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("folder", ["lessons", "lessons/solutions", "."])
def test_it_finds_the_kit_in_the_folders_above(folder: str, tmp_path: Path) -> None:
    kit = _kit(tmp_path)
    ran = _run(teaching.SETUP_CELL + "\nprint(sys.path[0])", kit / folder)
    assert ran.returncode == 0, ran.stderr
    ready, first = ran.stdout.splitlines()
    assert ready == f"Ready: PyTorch {torch.__version__.split('+')[0]}, one thread, seed 0."
    assert Path(first) == kit


def test_vs_code_says_where_the_notebook_lies(tmp_path: Path) -> None:
    kit = _kit(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    told = f"__vsc_ipynb_file__ = {str(kit / 'lessons' / '01.ipynb')!r}\n"
    ran = _run(told + teaching.SETUP_CELL + "\nprint(sys.path[0])", elsewhere)
    assert Path(ran.stdout.splitlines()[1]) == kit


def test_the_nearest_kit_comes_before_any_other(tmp_path: Path) -> None:
    outer = _kit(tmp_path)
    inner = _kit(outer / "lessons")
    ran = _run(teaching.SETUP_CELL + "\nprint(sys.path[0])", inner / "lessons")
    assert Path(ran.stdout.splitlines()[1]) == inner


def test_setup_again_starts_the_random_numbers_afresh(capsys: pytest.CaptureFixture[str]) -> None:
    teaching.setup()
    first = torch.rand(3)
    teaching.setup()
    assert torch.equal(first, torch.rand(3))
    teaching.setup(seed=1)
    assert not torch.equal(first, torch.rand(3))
    assert torch.get_num_threads() == 1
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_failed_assert_says_what_it_is_for() -> None:
    """A failed assert says what it is for; other errors stay as they are."""
    cells = [
        "from fnlib import teaching\nteaching.setup()",
        "assert 1 == 2",
        "1 / 0",
        "assert 1 == 2, 'one is not two'",
    ]
    made = new_notebook(cells=[new_code_cell(source) for source in cells])
    NotebookClient(made, allow_errors=True, resources={"metadata": {"path": str(ROOT)}}).execute()
    failed, divided, spoken = (cell.outputs[-1] for cell in made.cells[1:])
    assert (
        failed.ename == "AssertionError"
        and notebook.ASSERTED in failed.traceback[-1] + failed.evalue
    )
    assert divided.ename == "ZeroDivisionError" and notebook.ASSERTED not in "".join(
        divided.traceback + spoken.traceback
    )


def test_another_pytorch_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook, "TRIED_WITH", "1.0")
    teaching.setup()
    assert "The lessons were tried with PyTorch 1.0" in capsys.readouterr().out


def test_it_was_tried_with_the_pinned_pytorch() -> None:
    assert f"torch=={notebook.TRIED_WITH}." in (ROOT / "requirements.txt").read_text(
        encoding="utf-8"
    )


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    code = (
        "import sys\nimport fnlib\nfrom fnlib import teaching\n"
        "teaching.data, teaching.plots, teaching.check, teaching.predict\n"
        "print([name for name in ('matplotlib', 'IPython', 'ipywidgets', 'sklearn') if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert ran.stdout.strip() == "[]", ran.stderr


def test_the_package_alone_has_all_that_a_notebook_asks_for(tmp_path: Path) -> None:
    """As where nbgrader marks: fnlib is installed, and nothing else of the repository is there."""
    installed = tmp_path / "site"
    shutil.copytree(
        ROOT / "fnlib", installed / "fnlib", ignore=shutil.ignore_patterns("__pycache__")
    )
    code = (
        f"import sys\nsys.path[:0] = [{str(installed)!r}]\n"
        "sys.modules['course'] = sys.modules['tests'] = None\n"
        "import fnlib\nfrom fnlib import teaching\n"
        "from fnlib.teaching import exercises, museum, museum_visit, notebook, questions\n"
        "from fnlib.teaching.content.pictures import four_loops, inside\n"
        "assert questions.questions() and exercises.exercises()\n"
        "assert list(notebook.SHIPPED.glob('00_*.ipynb'))\n"
        "for one in museum.EXHIBITS:\n"
        "    museum.function_of(one.code, 'bug'), museum.source_in_fnlib(one.code)\n"
        "run = [museum.function_of('zero_grad_forgotten', part) for part in ('setup', 'bug')]\n"
        "print(*{finding.code for finding in museum_visit.record(*run)[0].findings})\n"
    )
    ran = _run(code, tmp_path)
    assert ran.stdout.strip() == "gradient-used-twice", ran.stderr


def test_the_authors_page_shows_the_set_up_cell() -> None:
    assert teaching.SETUP_CELL in (ROOT / "lessons" / "AUTHORING.md").read_text(encoding="utf-8")


def test_every_public_name_is_there() -> None:
    for name in teaching.__all__:
        assert getattr(teaching, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'twin'"):
        teaching.twin  # noqa: B018


def test_reset_keeps_the_learners_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from course import editions

    for name in ("solutions", "shipped"):
        (tmp_path / name).mkdir()
    for module in (notebook, editions):
        monkeypatch.setattr(module, "LESSONS", tmp_path)
        monkeypatch.setattr(module, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(editions, "SOLUTIONS", tmp_path / "solutions")
    import nbformat

    complete = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("### BEGIN SOLUTION\na = 1\n### END SOLUTION", id="a")]
    )
    (tmp_path / "solutions" / "01_five.ipynb").write_text(editions.dump(complete), encoding="utf-8")
    lesson = editions.write_student(tmp_path / "solutions" / "01_five.ipynb")
    lesson.write_text("what the learner wrote", encoding="utf-8")
    assert notebook.reset("01").read_text(encoding="utf-8") == "what the learner wrote"
    assert "a = ...  # your turn" in lesson.read_text(encoding="utf-8")
    lesson.write_text("once more", encoding="utf-8")
    assert notebook.reset("01").name == "01_my_copy_2.ipynb"
    assert not editions.problems(), "a learner's copy is no lesson"
    with pytest.raises(ValueError, match="There is no lesson '7'. There are: 01"):
        notebook.reset("7")


def test_reset_where_only_the_package_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lesson is put back where the notebook runs."""
    monkeypatch.setattr(notebook, "LESSONS", tmp_path / "none")
    monkeypatch.chdir(tmp_path)
    [shipped] = notebook.SHIPPED.glob("00_*.ipynb")
    (tmp_path / shipped.name).write_text("what the learner wrote", encoding="utf-8")
    assert notebook.reset("00").read_text(encoding="utf-8") == "what the learner wrote"
    assert (tmp_path / shipped.name).read_bytes() == shipped.read_bytes()
