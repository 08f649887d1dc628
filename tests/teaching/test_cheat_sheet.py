"""The cheat sheet's lines run, and its columns do the same."""

from __future__ import annotations

import functools
import html
import importlib.util
import re
import warnings
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch

from course.cheat_sheet import cheat_sheet
from course.site import cheat_sheet as page
from fnlib.teaching.records import ContentError

COLUMNS, ROWS = cheat_sheet()
WIDTH = 52  # characters that a line has room for
NEEDS = {"jax": ("jax", "optax")}


def missing(column: str) -> str:
    """What isn't installed, or ""."""
    return " and ".join(
        name for name in NEEDS.get(column, ()) if importlib.util.find_spec(name) is None
    )


def given(column: str) -> dict[str, Any]:
    """What the page says is given, and nothing else."""
    made: dict[str, Any] = {}
    exec(next(one.given for one in COLUMNS if one.key == column), made)  # noqa: S102  # our own code
    made["path"] = str(Path(mkdtemp()) / "kept")
    listed = set(re.findall(r"\w+", " ".join(re.findall("<code>(.*?)</code>", page.NOTE))))
    return {name: value for name, value in made.items() if name in listed}


@functools.cache
def ran(column: str, *, proved: bool) -> tuple[dict[str, Exception], dict[str, Any]]:
    """Run a column from top to bottom; return what went wrong in which row, and the proofs' variables.

    The proofs have variables of their own, so that the next line sees what the page shows alone.
    """
    wrong: dict[str, Exception] = {}
    seen: dict[str, Any] = {}
    state = torch.get_rng_state()
    torch.compiler.reset()
    torch.compiler.set_stance("default", force_backend="eager")  # it needs no C++ compiler
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch's compiler
            names = given(column)
            for row in ROWS:
                try:
                    exec(row.cells[column].code, names)  # noqa: S102
                    if proved:
                        seen.update(names)
                        with torch.random.fork_rng():
                            exec(row.cells[column].proof, seen)  # noqa: S102
                except Exception as problem:
                    wrong[row.key] = problem
    finally:
        torch.compiler.set_stance("default")
        torch.set_rng_state(state)
    return wrong, seen


@pytest.mark.parametrize("row", [row.key for row in ROWS])
@pytest.mark.parametrize("column", [column.key for column in COLUMNS])
def test_each_line_runs(column: str, row: str) -> None:
    """With what the page says is given, and no line that the page doesn't show."""
    if absent := missing(column):
        pytest.skip(f"{absent} isn't installed; course/requirements.txt has it")
    wrong, _ = ran(column, proved=False)
    if row in wrong:
        raise wrong[row]


@pytest.mark.parametrize("row", [row.key for row in ROWS])
@pytest.mark.parametrize("column", [column.key for column in COLUMNS])
def test_each_line_does_its_task(column: str, row: str) -> None:
    if absent := missing(column):
        pytest.skip(f"{absent} isn't installed; course/requirements.txt has it")
    wrong, _ = ran(column, proved=True)
    if row in wrong:
        raise wrong[row]


@pytest.mark.parametrize("column", [column.key for column in COLUMNS[1:]])
def test_the_columns_take_the_same_steps(column: str) -> None:
    """From the same weights, on the same batches; `fnlib` has the bits of stock."""
    if absent := missing(column):
        pytest.skip(f"{absent} isn't installed; course/requirements.txt has it")
    stock, other = (ran(one, proved=True)[1]["weights"] for one in ("stock", column))
    assert stock.keys() == other.keys()
    for name in stock:
        assert torch.allclose(stock[name], other[name], atol=1e-6)
        assert column != "fnlib" or torch.equal(stock[name], other[name])


@pytest.mark.parametrize("row", [row.key for row in ROWS])
def test_each_line_has_room(row: str) -> None:
    (cells,) = (one.cells for one in ROWS if one.key == row)
    for column, cell in cells.items():
        for line in cell.code.splitlines():
            assert len(line) <= WIDTH, f"{column}: {line}"
        assert cell.proof, f"{column} proves nothing"


def test_a_row_without_a_column_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cheat_sheet.toml").write_text(
        '[[column]]\nkey = "stock"\ntitle = "stock"\n[[row]]\nkey = "loss"\ntask = "loss"\n'
    )
    monkeypatch.setattr("course.cheat_sheet.COURSE", tmp_path)
    with pytest.raises(ContentError, match=r'cheat_sheet.toml, row "loss": write \[row.stock\]'):
        cheat_sheet.__wrapped__()


def test_the_sheet_is_one_page_of_a4_across(tmp_path: Path) -> None:
    """Printed as its command prints it; the site shows the same table."""
    pytest.importorskip("playwright")
    target = tmp_path / "sheet.pdf"
    try:
        page.print_sheet(target)
    except RuntimeError as problem:
        pytest.skip(str(problem))
    text = target.read_bytes()
    assert len(re.findall(rb"/Type\s*/Page\b", text)) == 1
    width, height = re.findall(rb"/MediaBox\s*\[\s*0 0 ([\d.]+) ([\d.]+)\s*\]", text)[0]
    assert (round(float(width)), round(float(height))) == (842, 595)


def test_page_and_sheet_have_every_line() -> None:
    for text in (page.page("# Cheat sheet\n"), page.sheet()):
        shown = html.unescape(text)
        for row in ROWS:
            assert row.task[1:] in shown and all(cell.code in shown for cell in row.cells.values())
