"""The essay's five-line loop: the exact table, wherever the loop stands."""

from __future__ import annotations

import contextlib
import runpy
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from fnlib.ledger import Ledger
from fnlib.ledger.views.rows import cells_of, rows_of
from fnlib.show.table import wrapped

SETUP = """
import torch
from torch import nn
from fnlib.ledger import Ledger

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10), nn.LogSoftmax(dim=1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
criterion = nn.NLLLoss()
training_data = [(torch.randn(32, 128), torch.randint(0, 10, (32,))) for _ in range(3)]
"""

BODY = """\
for feature, label in training_data:
    optimizer.zero_grad()
    output = model(feature)
    loss = criterion(output, label)
    loss.backward()
    optimizer.step()
"""

# Line numbers are those of the loop's place in its file.
TABLE = """\
Ledger of model, optimizer; 3 iterations folded, ledger.iteration(1) opens one
  line  statement                               what it changed     how
{0:6}  for feature, label in training_data:    feature, label      bound
{1:6}      optimizer.zero_grad()             ! model: 4 gradients  removed (iterations 2-3)
{2:6}      output = model(feature)             output              bound, graph built
{3:6}      loss = criterion(output, label)     loss                bound, graph built
{4:6}      loss.backward()                   ! model: 4 gradients  created
                                                loss                graph freed
{5:6}      optimizer.step()                  ! model: 4 weights    changed in place
! the statement does not name the owner of what it changes: action at a distance
3 of 5 statements act at a distance; 12 values overwritten; 4 names rebound
not counted: the graph behind a loss is used up"""

SECOND = """\
iteration 2 of 3
  line  statement                               what it changed     how
{0:6}  for feature, label in training_data:    feature, label      rebound
{1:6}      optimizer.zero_grad()             ! model: 4 gradients  removed
{2:6}      output = model(feature)             output              rebound, graph built
{3:6}      loss = criterion(output, label)     loss                rebound, graph built
{4:6}      loss.backward()                   ! model: 4 gradients  created
                                                loss                graph freed
{5:6}      optimizer.step()                  ! model: 4 weights    changed in place
! the statement does not name the owner of what it changes: action at a distance
3 of 5 statements act at a distance; 4 values overwritten; 2 names rebound
not counted: the graph behind a loss is used up"""


def expected(table: str, first: int) -> str:
    return table.format(*range(first, first + 6))


def with_ledger(body: str) -> str:
    return "with Ledger(model=model, optimizer=optimizer) as ledger:\n" + textwrap.indent(
        body, "    "
    )


def run_file(path: Path, source: str) -> Ledger:
    path.write_text(source)
    return runpy.run_path(str(path))["ledger"]


def line_of(source: str, text: str) -> int:
    return next(number for number, line in enumerate(source.splitlines(), 1) if text in line)


def test_at_module_level(tmp_path: Path) -> None:
    source = SETUP + with_ledger(BODY)
    ledger = run_file(tmp_path / "loop.py", source)
    first = line_of(source, "for feature")
    assert str(ledger) == expected(TABLE, first)
    assert str(ledger.iteration(2)) == expected(SECOND, first)


def test_in_a_function(tmp_path: Path) -> None:
    function = "def train():\n" + textwrap.indent(with_ledger(BODY) + "\nreturn ledger", "    ")
    source = SETUP + function + "\nledger = train()\n"
    ledger = run_file(tmp_path / "loop.py", source)
    assert str(ledger) == expected(TABLE, line_of(source, "for feature"))


def test_in_a_method_of_a_class(tmp_path: Path) -> None:
    method = "class Trainer:\n    def train(self):\n" + textwrap.indent(
        with_ledger(BODY) + "\nreturn ledger", " " * 8
    )
    source = SETUP + method + "\nledger = Trainer().train()\n"
    ledger = run_file(tmp_path / "loop.py", source)
    assert str(ledger) == expected(TABLE, line_of(source, "for feature"))


def test_in_nested_loops(tmp_path: Path) -> None:
    source = SETUP + with_ledger("for epoch in range(2):\n" + textwrap.indent(BODY, "    "))
    ledger = run_file(tmp_path / "loop.py", source)
    first = line_of(source, "for epoch")
    assert str(ledger) == (
        f"""\
Ledger of model, optimizer; 6 iterations folded, ledger.iteration(1) opens one
  line  statement                                   what it changed     how
{first:6}  for epoch in range(2):                      epoch               bound
{first + 1:6}      for feature, label in training_data:    feature, label      bound
{first + 2:6}          optimizer.zero_grad()             ! model: 4 gradients  removed (5 of 6 times)
{first + 3:6}          output = model(feature)             output              bound, graph built
{first + 4:6}          loss = criterion(output, label)     loss                bound, graph built
{first + 5:6}          loss.backward()                   ! model: 4 gradients  created
                                                    loss                graph freed
{first + 6:6}          optimizer.step()                  ! model: 4 weights    changed in place
! the statement does not name the owner of what it changes: action at a distance
3 of 5 statements act at a distance; 24 values overwritten; 10 names rebound
not counted: the graph behind a loss is used up"""
    )
    bodies = [entry.iterations for entry in ledger.entries if entry.source == "loss.backward()"]
    assert bodies == [
        ((first, epoch), (first + 1, batch)) for epoch in (1, 2) for batch in (1, 2, 3)
    ]
    assert str(ledger.iteration(5)).splitlines()[0] == "iteration 5 of 6"
    assert len(ledger.iteration(2, line=first).entries) == 3 * 6 + 1


def test_one_iteration_recorded_inside_of_the_loop(tmp_path: Path) -> None:
    lines = BODY.splitlines()
    source = (
        SETUP
        + lines[0]
        + "\n"
        + textwrap.indent(with_ledger(textwrap.dedent("\n".join(lines[1:]))), "    ")
        + "\n"
    )
    ledger = run_file(tmp_path / "loop.py", source)
    assert ledger.iterations == 0 and [entry.iteration for entry in ledger.entries] == [None] * 5
    assert (
        str(ledger.counts)
        == "3 of 5 statements act at a distance; 4 values overwritten; 2 names rebound"
    )


def shell() -> object:
    from IPython.core.interactiveshell import InteractiveShell

    InteractiveShell.clear_instance()
    return InteractiveShell.instance()


def test_in_a_notebook_cell() -> None:
    ipython = shell()
    ipython.run_cell(SETUP).raise_error()
    ipython.run_cell(with_ledger(BODY)).raise_error()
    assert str(ipython.user_ns["ledger"]) == expected(TABLE, 2)
    assert str(ipython.user_ns["ledger"].iteration(2)) == expected(SECOND, 2)


def test_in_a_notebook_cell_that_defines_and_calls_a_function() -> None:
    ipython = shell()
    ipython.run_cell(SETUP).raise_error()
    ipython.run_cell(
        "def train():\n"
        + textwrap.indent(with_ledger(BODY) + "return ledger", "    ")
        + "\nledger = train()"
    ).raise_error()
    assert str(ipython.user_ns["ledger"]) == expected(TABLE, 3)


def test_it_fits_100_columns_whatever_the_code_looks_like() -> None:
    a_model_with_a_name_that_is_much_longer_than_any_line_of_a_table_could_ever_show = (
        nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    )
    optimizer = torch.optim.Adam(
        a_model_with_a_name_that_is_much_longer_than_any_line_of_a_table_could_ever_show.parameters()
    )
    with Ledger(
        a_rather_long_name_for_a_model=a_model_with_a_name_that_is_much_longer_than_any_line_of_a_table_could_ever_show
    ) as ledger:
        for _ in range(2):
            (
                optimizer.zero_grad(),
                a_model_with_a_name_that_is_much_longer_than_any_line_of_a_table_could_ever_show(
                    torch.randn(4, 2)
                )
                .sum()
                .backward(),
            )
            optimizer.step()
    assert max(map(len, str(ledger).splitlines())) <= 100


def test_a_title_of_many_names_goes_on_in_the_next_line() -> None:
    weights = {f"critic_of_agent_{number}": torch.ones(1) for number in range(8)}
    with Ledger(**weights) as ledger:
        for _ in range(2):
            weights["critic_of_agent_0"].add_(1)
    shown = str(ledger)
    assert max(
        map(len, shown.splitlines())
    ) <= 100 and "critic_of_agent_7; 2 iterations folded" in " ".join(shown.split())


def test_a_shared_gradient_has_a_name_that_can_be_typed() -> None:
    """A module has no attribute `grad`: one gradient is its weight's, several are those of the module."""
    head = nn.Linear(2, 1)
    single = nn.Linear(2, 1, bias=False)
    with Ledger(
        model=nn.Sequential(head), head=head, other=nn.Sequential(single), single=single
    ) as ledger:
        single(torch.ones(2)).sum().backward()
        head(torch.ones(2)).sum().backward()
    cells = [f"{cell.what} {cell.done}" for row in rows_of(ledger.entries) for cell in row.cells]
    said = " / ".join(cells)
    assert "single.weight.grad shares its memory" in said, said
    assert "gradients of head share their memory" in said, said


def test_a_name_of_a_called_loop_shares_one_at_a_time() -> None:
    """A called function's loop binds its name to one weight after the other; a dictionary has all."""
    model = nn.Linear(2, 2)
    best = model.state_dict()

    def halve() -> None:
        for weight in model.parameters():
            weight.data.mul_(0.5)

    with Ledger(depth=1) as ledger:
        halve()
        del best
        halve()
    shown = [" ".join(f"{cell.what} {cell.how}".split()) for cell in cells_of(ledger.entries[0])]
    assert shown == ["model: 2 weights changed in place; best and weight share their memory"]
    shown = [" ".join(f"{cell.what} {cell.how}".split()) for cell in cells_of(ledger.entries[2])]
    assert shown == ["model: 2 weights changed in place; weight shares their memory, one at a time"]


def test_a_loop_over_the_weights_takes_a_row_a_statement() -> None:
    """A loop over the weights takes one row for each statement, not for each weight."""
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(6)))
    with Ledger(model=model) as ledger:
        for weight in model.parameters():
            weight.requires_grad_(False)
        for weight in [layer.weight for layer in model]:
            weight.data.mul_(2)
    cells = [f"{cell.what} {cell.done}" for row in rows_of(ledger.entries) for cell in row.cells]
    assert [cell for cell in cells if cell.startswith("model")] == [
        "model: requires_grad True to False (12) changed in place (one at a time)",
        "model: 6 weights changed in place; weight shares its memory (one at a time)",
    ]
    assert (
        ledger.entries[1].changes[0].label == "model.0.weight.requires_grad"
    )  # nothing is lost, and it is one place with two names
    assert ledger.counts.overwritten == 12 + 6


def test_a_flag_that_comes_back_says_what_it_was_in_between() -> None:
    model = nn.Dropout()

    @contextlib.contextmanager
    def evaluating(model: nn.Module) -> Iterator[None]:
        model.eval()
        yield
        model.train()

    with Ledger(model=model) as ledger:
        for _ in range(2):
            with evaluating(model):
                len("")
    assert "model: training True, False, True" in str(ledger), str(ledger)
    assert "True, False, True" in ledger._repr_html_()


def test_the_dict_holds_all_of_it_and_is_json(tmp_path: Path) -> None:
    import json

    ledger = run_file(tmp_path / "loop.py", SETUP + with_ledger(BODY))
    found = json.loads(json.dumps(ledger.to_dict(), allow_nan=False))
    assert found["watched"] == ["model", "optimizer"]
    assert found["counts"] == {"at_a_distance": 3, "statements": 5, "overwritten": 12, "rebound": 4}
    assert len(found["entries"]) == 3 * 6
    step = found["entries"][5]["changes"][0]
    assert (step["owner"], step["place"], step["state"], step["kind"], step["named"]) == (
        "model", "0.weight", "weight", "changed in place", False,
    )  # fmt: skip
    assert step["moved"] == pytest.approx(
        0.01 * found["entries"][4]["changes"][0]["after"]["norm"], rel=1e-4
    )
    assert {alias["names"][0] for alias in found["aliases"]} == {
        "model.0.weight",
        "model.0.bias",
        "model.2.weight",
        "model.2.bias",
    }


def test_long_statements_wrap_and_stay_distinct() -> None:
    """Long statements wrap into the next line and can be told apart."""
    model = nn.Linear(2, 2)
    with Ledger(model=model) as ledger:
        # fmt: off
        smoothed_training_loss = nn.functional.smooth_l1_loss(model(torch.ones(1, 2)), torch.zeros(1, 2), reduction="sum")
        smoothed_validation_loss = nn.functional.smooth_l1_loss(model(torch.ones(1, 2)), torch.zeros(1, 2), reduction="mean")
        # fmt: on
    shown = str(ledger)
    assert smoothed_training_loss is not None and smoothed_validation_loss is not None
    assert shown.count("smooth_l1_loss(model(") == 2, shown
    assert max(map(len, shown.splitlines())) <= 100


def test_long_places_go_on_in_the_next_line() -> None:
    encoder_of_the_left_image = nn.Sequential(
        *(nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1)) for _ in range(3))
    )
    with Ledger(encoder_of_the_left_image=encoder_of_the_left_image) as ledger:
        encoder_of_the_left_image[1][1].running_mean.add_(1)
        encoder_of_the_left_image[2][1].running_mean.add_(1)
    shown = str(ledger)
    for number in (1, 2):
        assert f"encoder_of_the_left_image.{number}.1" in shown, shown
    assert shown.count(" .running_mean") == 2 and max(map(len, shown.splitlines())) <= 100


def test_sentences_below_and_calls_deep_within_fit_too() -> None:
    model = nn.Linear(2, 2)

    def deeper(left: int) -> None:
        if left:
            deeper(left - 1)
        else:
            model.weight.data.add_(1)

    with Ledger(model=model, depth=40) as ledger:
        deeper(30)
        exec(
            "model(torch.rand(2, 2)).sum().backward(); import random; random.random()",
            {"model": model, "torch": torch},
        )
    shown = str(ledger)
    assert max(map(len, shown.splitlines())) <= 100
    assert "30> deeper(left - 1)" in shown or "31> model.weight.data.add_(1)" in shown, shown


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("for feature, label in training_data[:2]:", ["for feature, label in training_data[:2]:"]),
        (
            "for feature, label in the_training_data[:2]:",
            ["for feature, label in", "  the_training_data[:2]:"],
        ),
        (
            "parameters = adam.apply(model.step(gradient), 0.5)",
            ["parameters =", "  adam.apply(model.step(gradient), 0.5)"],
        ),
    ],
)
def test_a_long_statement_breaks_where_a_reader_would(code: str, lines: list[str]) -> None:
    assert wrapped(code, 40) == lines


def test_statements_take_the_room_that_the_other_columns_leave() -> None:
    model = nn.Linear(2, 2)
    training_data = torch.ones(4, 2)
    with Ledger(model=model) as ledger:
        for feature in training_data[:2].unbind(dim=0):
            output = model(feature)
    shown = str(ledger)
    assert output is not None and max(map(len, shown.splitlines())) <= 100
    assert "for feature in training_data[:2].unbind(dim=0):" in shown, shown


def test_long_statements_that_change_nothing_leave_room_for_how() -> None:
    weight = torch.zeros(3)
    with Ledger(weight=weight) as ledger:
        len(
            "a statement that is longer than a line of the table and changes nothing of what is watched, whoever reads it"
        )
    assert all(len(line) <= 100 for line in str(ledger).splitlines())
    assert "nothing" in str(ledger) and str(ledger).splitlines()[1].endswith("how")
