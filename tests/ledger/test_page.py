"""A recording as one page: complete, small, safe, and true to the numbers."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fnlib
from fnlib.ledger import Ledger
from fnlib.ledger.views.heat import cells_of, difference, heat_of
from fnlib.ledger.views.page import content, page
from fnlib.teaching.museum import EXHIBITS, Exhibit, function_of


def data_of(text: str) -> dict[str, Any]:
    """The recording that a page holds."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(found)


def benchmark(steps: int, **how: Any) -> Ledger:
    """The benchmark's 128-64-10 network, trained by Adam."""
    model = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10), nn.LogSoftmax(dim=1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    feature, label = torch.randn(32, 128), torch.randint(10, (32,))
    with Ledger(model=model, optimizer=optimizer, **how) as ledger:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = nn.functional.nll_loss(model(feature), label)
            loss.backward()
            optimizer.step()
    return ledger


def changes(data: dict[str, Any]) -> list[tuple[str, str, list[Any]]]:
    """Label, kind and row of each change of a page."""
    return [
        (data["places"][row[0]][0], data["kinds"][row[1]], row)
        for _, _, _, rows in data["steps"]
        for row in rows
    ]


def numbers(data: dict[str, Any], heat: list[Any]) -> torch.Tensor:
    """The means that a heat map shows."""
    start, rows, columns, scale = heat
    octets = bytearray(base64.b64decode(data["heats"])[start : start + rows * columns])
    return torch.frombuffer(octets, dtype=torch.int8).view(rows, columns) / 127 * scale


@pytest.mark.long
def test_a_hundred_steps_are_at_most_two_megabytes(tmp_path: Path) -> None:
    """The file of the benchmark's network with Adam, with a heat map of each tensor."""
    benchmark(100).save(tmp_path / "run.html")
    size = (tmp_path / "run.html").stat().st_size
    data = data_of((tmp_path / "run.html").read_text(encoding="utf-8"))
    assert size <= 2_000_000 and len(data["steps"]) == 500
    tensors = [one for one in data["values"] if isinstance(one, list) and one[0] != "scalar"]
    assert len(tensors) > 1000 and all(one[4] for one in tensors) and not data["notes"]


def test_a_page_loads_nothing() -> None:
    """No address that a browser would fetch, and a policy that forbids it to."""
    text = page(benchmark(1))
    assert "default-src 'none'" in text
    assert not re.findall(r"(?:src|href)\s*=\s*[\"']|@import|url\(|fetch\(|import\(", text)


def test_every_change_is_there() -> None:
    """Each change of the recording has its row: place, kind, distance, both sides."""
    ledger = benchmark(2)
    data = content(ledger)
    there = {(label, kind) for label, kind, _ in changes(data)}
    for entry in ledger.entries:
        for change in entry.changes:
            if change.state not in ("graph", "random state"):
                assert (change.label, change.kind) in there
    assert sum(row[2] for *_, row in changes(data)) == sum(
        one.at_a_distance for entry in ledger.entries for one in entry.changes
    )


def test_heat_maps_are_means_of_the_tensors() -> None:
    """Before, after and difference are those of the weight, block by block."""
    weight = torch.randn(32, 48)
    before = weight.clone()
    with Ledger(weight=weight) as ledger:
        weight[3:7].mul_(-2)
    data = content(ledger)
    ((_, kind, row),) = changes(data)
    assert kind == "changed in place"
    for heat, tensor in (
        (data["values"][row[3]][4], before),
        (data["values"][row[4]][4], weight),
        (row[6], weight - before),
    ):
        means = tensor.view(16, 2, 16, 3).mean((1, 3))
        assert (numbers(data, heat) - means).abs().max() <= heat[3] / 127


KINDS = {
    "bool": torch.tensor([True, False, True]),
    "int64": torch.arange(40).view(4, 10),
    "bfloat16": torch.ones(3, 3, dtype=torch.bfloat16),
    "complex": torch.ones(3, 3, dtype=torch.complex64),
    "four dimensions": torch.randn(4, 3, 3, 3),
    "not a number": torch.tensor([1.0, float("nan"), float("inf")]),
    "all zero": torch.zeros(20, 20),
    "transposed": torch.randn(6, 4).t(),
    "sparse": torch.eye(4).to_sparse(),
    "empty": torch.zeros(0, 3),
    "scalar": torch.tensor(2.0),
    "one row": torch.randn(1, 100),
    "large": torch.zeros(200, 200),
    "float64": torch.randn(5, dtype=torch.float64),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("keep", [False, True])
def test_tensors_of_every_kind(name: str, keep: bool) -> None:
    """A page is made of any tensor; what has no map says its shape."""
    held = {"one": KINDS[name]}
    with Ledger(held=held, keep=keep) as ledger:
        held["one"] = KINDS[name].clone()
        held["two"] = KINDS[name].clone()
    data = data_of(page(ledger))
    assert data["steps"]
    for value in data["values"]:
        if isinstance(value, list) and value[4]:
            start, rows, columns, _ = value[4]
            assert start + rows * columns <= len(base64.b64decode(data["heats"]))
    tensors = [one for one in data["values"] if isinstance(one, list)]
    drawn = any(one[4] for one in tensors)
    plain = name not in ("sparse", "empty", "scalar")
    assert drawn == (plain and (keep or name != "large")) or name == "sparse"
    assert bool(data["notes"]) == (name == "large" and not keep) or name == "sparse"


def test_cells_that_are_not_finite_are_marked() -> None:
    """A block with a NaN has a sign of its own and doesn't hide the others."""
    drawn = heat_of(torch.tensor([1.0, float("nan"), -2.0]))
    assert drawn is not None and drawn.scale == 2.0
    assert [cell - 256 if cell > 127 else cell for cell in drawn.octets] == [64, -128, -127]
    assert difference(torch.ones(2), torch.ones(3)) is None
    assert cells_of((0, 3)) == (0, 0)


HOSTILE = "x = '</script><script>document.title = 1</script>'; y = '@DATA@ \u2028 <!--'"


def test_code_cannot_break_out_of_the_page() -> None:
    """Recorded code is text, whatever is in it."""
    ledger = Ledger()
    ledger.run(compile(HOSTILE, "<hostile>", "exec"), namespace={})
    weight = torch.ones(2)
    with Ledger(**{"<b>&@TABLE@": weight}) as second:
        weight.add_(1)
    for one in (ledger, second):
        text = page(one)
        assert text.count("<script") == 2 and text.count("</script") == 2
        assert data_of(text)["steps"] is not None
    assert "<b>" not in page(second).replace("&lt;b&gt;", "")


def test_statements_of_called_functions_come_before_the_call() -> None:
    """With depth, each change belongs to the innermost statement, and each function has its part."""
    weight = torch.ones(2)

    def train() -> None:
        for _ in range(2):
            weight.mul_(2)

    with Ledger(weight=weight, depth=2) as ledger:
        train()
    data = content(ledger)
    texts = [data["code"][step[0]][1] for step in data["steps"]]
    assert texts.count("weight.mul_(2)") == 2 and texts[-1] == "train()"
    assert not data["steps"][-1][3]
    heads = [row[3] for row in data["code"] if row[3]]
    assert len(heads) == 2 and any("train() in " in head for head in heads)


def test_findings_lead_to_their_line() -> None:
    """A finding names the first run of its line."""
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Ledger(model=model, optimizer=optimizer) as ledger:
        for _ in range(2):
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
    (one,) = content(ledger)["findings"]
    step = content(ledger)["steps"][one["step"] - 1]
    assert one["code"] == "gradient-used-twice"
    assert content(ledger)["code"][step[0]][1] == "optimizer.step()"


def test_values_of_the_functional_style_are_drawn() -> None:
    """Parameters and gradients of fnlib have maps too, though their memory is copy-on-write."""
    factory = fnlib.Sequential(nn.Linear(4, 3), optimizer=fnlib.Adam(lr=0.1))
    parameters = fnlib.Parameters(seed=0)
    model = factory(parameters)
    parameters = model.parameters
    with Ledger(parameters=parameters) as ledger:
        gradient = model.backward(model(torch.ones(2, 4)).sum())
        parameters = model.step(gradient)
    data = content(ledger)
    assert len(ledger.entries) == 2 and data["steps"] and parameters is not None


def test_a_long_recording_gets_smaller_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the budget the maps shrink, and at last there are none, which the page says."""
    ledger = benchmark(3)
    monkeypatch.setattr("fnlib.ledger.views.page.BUDGET", 8_000)
    smaller = content(ledger)
    assert max(one[4][1] for one in smaller["values"] if isinstance(one, list) and one[4]) < 16
    monkeypatch.setattr("fnlib.ledger.views.page.BUDGET", 100)
    none = content(ledger)
    assert not none["heats"] and "too long for heat maps" in none["notes"][-1]


def test_an_empty_recording_is_a_page() -> None:
    """Nothing recorded: the page says so in its table."""
    assert "no statement was recorded" in page(Ledger())


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda one: one.code)
def test_every_exhibit_can_be_sent_as_a_file(exhibit: Exhibit, tmp_path: Path) -> None:
    """Each loop of the museum becomes a small page, with its findings at their lines."""
    ledger = Ledger(depth=2)
    text = f"bug(**setup())  # {exhibit.code}"
    namespace = {part: function_of(exhibit.code, part) for part in ("bug", "setup")}
    try:
        ledger.run(compile(text, "<exhibit>", "exec"), namespace=namespace)
    except Exception as error:  # some bugs raise; what came before is a recording all the same
        assert ledger.raised, error
    ledger.save(tmp_path / "run.html")
    data = data_of((tmp_path / "run.html").read_text(encoding="utf-8"))
    assert (tmp_path / "run.html").stat().st_size < 500_000
    assert [one["code"] for one in data["findings"]] == [one.code for one in ledger.findings]
    assert all(one["step"] for one in data["findings"] if one["line"])
