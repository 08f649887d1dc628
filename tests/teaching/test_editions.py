"""Student editions, stored outputs and pages, each made from a small notebook."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course import editions, execute


def _code(source: str, *tags: str, id: str = "cell") -> NotebookNode:
    return new_code_cell(source, id=id, metadata={"tags": list(tags)} if tags else {})


def _solved(solution: str, before: str = "", after: str = "", indent: str = "") -> str:
    lines = [
        before,
        f"{indent}{editions.BEGIN}",
        *(indent + line for line in solution.splitlines()),
        f"{indent}{editions.END}",
        after,
    ]
    return "\n".join(line for line in lines if line.strip())


@pytest.mark.parametrize(
    ("solution", "stub"),
    [
        ("a = 1", "a = ...  # your turn"),
        ("a = 1\nb = 2", "a = ...  # your turn\nb = ..."),
        ("a, b = 1, 2", "a, b = ..., ...  # your turn"),
        ("(a, b) = 1, 2", "a, b = ..., ...  # your turn"),
        ("a: int = 1", "a = ...  # your turn"),
        ("# a comment only", "...  # your turn"),
        ("print(1)", "...  # your turn"),
        ("a.b = 1", "...  # your turn"),
        ("def f(x):\n    y = x\n    return y", "def f(x):  # your turn\n    ..."),
        ("class A(B):\n    x = 1", "class A(B):  # your turn\n    ..."),
        ("### STUB a = 0\n### STUB b = a\na = 1", "a = 0  # your turn\nb = a"),
    ],
)
def test_a_stub_keeps_the_names_that_the_solution_gives(solution: str, stub: str) -> None:
    made = editions.without_solution(_solved(solution, before="x = 0", after="y = 0"))
    assert made == f"x = 0\n{stub}\ny = 0"
    exec(made.replace("(B)", ""), {})  # a stub runs


def test_a_stub_inside_a_function_has_its_indentation() -> None:
    made = editions.without_solution(_solved("return x", before="def f(x):", indent="    "))
    assert made == "def f(x):\n    return ...  # your turn"


@pytest.mark.parametrize(
    "source",
    [
        "### BEGIN SOLUTION\na = 1",
        "### END SOLUTION",
        "### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION",
    ],
)
def test_a_marker_that_stands_alone_is_shown(source: str) -> None:
    with pytest.raises(ValueError, match="in this cell"):
        editions.without_solution(source)


def test_links_lead_to_the_same_files_from_both_folders() -> None:
    text = 'A [word](../glossary.md#ledger), ![alt](../figures/a.svg), <img src="../figures/a.svg">, [next](01_five.ipynb), `../x`'
    made = editions.student(new_notebook(cells=[new_markdown_cell(text)])).cells[0].source
    assert (
        made
        == 'A [word](glossary.md#ledger), ![alt](figures/a.svg), <img src="figures/a.svg">, [next](01_five.ipynb), `../x`'
    )


def test_a_student_edition_has_no_outputs() -> None:
    """A student edition has no outputs, and writing it leaves the source alone."""
    cell = _code(_solved("a = 1"))
    cell.outputs, cell.execution_count = [new_output("stream", text="1")], 3
    complete = new_notebook(cells=[cell])
    made = editions.student(complete).cells[0]
    assert (made.outputs, made.execution_count, made.id) == ([], None, "cell")
    assert complete.cells[0].outputs and editions.BEGIN in complete.cells[0].source


def test_writing_twice_gives_the_same_file() -> None:
    """Writing twice gives the same file, with nothing volatile in it."""
    noisy = new_notebook(
        cells=[
            new_code_cell(
                "1",
                id="a",
                metadata={"tags": ["core"], "collapsed": True, "execution": {"iopub": "now"}},
            )
        ],
        metadata={
            "widgets": {"state": {}},
            "language_info": {"name": "python", "version": "3.9.9"},
            "lesson": {"number": "01"},
        },
    )
    text = editions.dump(noisy)
    assert text == editions.dump(nbformat.reads(text, as_version=4)) and text.endswith("}\n")
    again = nbformat.reads(text, as_version=4)
    assert again.cells[0].metadata == {"tags": ["core"]}
    assert set(again.metadata) == {"kernelspec", "language_info", "lesson"} and "3.9" not in text


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A course of one lesson, in a folder of its own."""
    for name in ("solutions", "shipped"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(editions, "LESSONS", tmp_path)
    monkeypatch.setattr(editions, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(editions, "SOLUTIONS", tmp_path / "solutions")
    monkeypatch.setattr(execute.bank, "write", lambda: None)
    cells = [
        new_markdown_cell("# One?", id="title"),
        _code("import torch\nx = torch.ones(2)", id="make"),
        _code(_solved("y = x + 1", after="print(y)"), execute.CHECKED, id="add"),
        _code(
            "from fnlib import teaching\nteaching.plots.curves({'stock': [2.0, 1.0]})", id="draw"
        ),
    ]
    (tmp_path / "solutions" / "01_one.ipynb").write_text(
        editions.dump(new_notebook(cells=cells)), encoding="utf-8"
    )
    return tmp_path


def test_one_command_runs_stores_and_writes_the_student_edition(
    course: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute.main([]) == 0
    assert "01_one.ipynb:" in capsys.readouterr().out
    _, make, add, draw = editions.read(course / "solutions" / "01_one.ipynb").cells
    assert (add.execution_count, add.outputs[0].text) == (2, "tensor([2., 2.])\n")
    for untagged in (make, draw):
        assert (untagged.execution_count, untagged.outputs) == (None, [])
    assert "y = ...  # your turn" in (course / "01_one.ipynb").read_text(encoding="utf-8")
    assert editions.main(["--check"]) == 0
    before = (course / "solutions" / "01_one.ipynb").read_bytes()
    assert execute.main([str(course / "solutions" / "01_one.ipynb")]) == 0
    assert (course / "solutions" / "01_one.ipynb").read_bytes() == before, (
        "a second run changes no byte"
    )


def test_text_that_the_kernel_sent_in_pieces_is_stored_in_one() -> None:
    cell = _code("...", execute.CHECKED)
    names = ["stdout", "stdout", None, "stdout", "stdout"]
    picture = new_output("display_data")
    cell.outputs = [
        new_output("stream", name=name, text=f"{at}\n") if name else picture
        for at, name in enumerate(names)
    ]
    outputs = execute.stored(new_notebook(cells=[cell])).cells[0].outputs
    assert [output.get("text") for output in outputs] == ["0\n1\n", None, "3\n4\n"]


def test_editions_out_of_step_are_named(course: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert editions.main(["--check"]) == 1
    assert "01_one.ipynb is missing" in capsys.readouterr().out
    editions.main([])
    (course / "01_one.ipynb").write_text("{}", encoding="utf-8")
    (course / "02_two.ipynb").write_text("{}", encoding="utf-8")
    (course / "shipped" / "01_one.ipynb").unlink()
    assert editions.problems() == [
        f"{course.name}/01_one.ipynb differs from what solutions/01_one.ipynb makes",
        f"{course.name}/02_two.ipynb has no complete edition in solutions/",
        "shipped/01_one.ipynb is missing",
    ]


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ([], "nothing would be compared"),
        ([new_output("display_data", {"image/png": "AAAA"})], "draws a picture"),
        (
            [new_output("display_data", {"text/html": '<img src="data:image/png;base64,AA">'})],
            "draws a picture",
        ),
        ([new_output("stream", name="stderr", text="UserWarning")], "wrote to stderr"),
    ],
)
def test_a_tagged_cell_that_cannot_be_compared_is_refused(
    outputs: list[NotebookNode], said: str
) -> None:
    cell = _code("1", execute.CHECKED)
    cell.outputs = outputs
    with pytest.raises(ValueError, match=said):
        execute.stored(new_notebook(cells=[cell]))
