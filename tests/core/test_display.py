"""What values show of themselves. The numbers in a table are read back and compared with PyTorch's."""

from __future__ import annotations

import io
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from torch import nn

import fnlib
from fnlib.show import display
from fnlib.show.table import BARS, ROWS, WIDTH


def network() -> fnlib.Factory:
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 10)
    return fnlib.Sequential(*layers, optimizer=fnlib.Adam(lr=0.01))


def stepped(donate: bool = False) -> tuple[fnlib.Model, fnlib.Gradient, fnlib.Parameters]:
    model = network()(fnlib.Parameters(seed=0))
    output, buffers = model.with_buffers(torch.randn(5, 1, 8, 8))
    gradient = model.backward(nn.functional.cross_entropy(output, torch.arange(5)))
    return model, gradient, model.step(gradient, buffers=buffers, donate=donate)


def row(text: str, name: str) -> list[str]:
    """The cells of one row of a text table."""
    lines = [line for line in text.splitlines() if line.split()[:1] == [name]]
    assert len(lines) == 1, text
    return re.split(r"\s{2,}", lines[0].strip())


class Reader(HTMLParser):
    """Reads the tables of a page, and refuses tags that are not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.scopes: list[str] = []
        self.captions = 0
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            if tag == "th":
                self.scopes.append(dict(attrs)["scope"] or "")
        elif tag == "caption":
            self.captions += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(3, 4),
        torch.randn(3, 4).mT,
        torch.randn(5, dtype=torch.float64),
        torch.randn(5).half(),
        torch.randn(5).bfloat16(),
        torch.randn(5, dtype=torch.complex64),
        torch.randn(5, dtype=torch.complex64).conj(),
        torch.arange(7),
        torch.tensor([True, False]),
        torch.tensor(2.5),
        torch.full((3,), 1e30),
        torch.randn(4, requires_grad=True),
    ],
    ids=lambda tensor: f"{tensor.dtype}-{tuple(tensor.shape)}",
)
def test_a_row_says_shape_dtype_size_norm_and_range(tensor: torch.Tensor) -> None:
    shape, dtype, size, norm = row(fnlib.display.table_of({"w": tensor}, "T"), "w")[1:5]
    assert shape == ("×".join(map(str, tensor.shape)) or "scalar")
    assert f"torch.{dtype}" == str(tensor.dtype)
    assert int(size) == tensor.numel()
    wide = tensor.detach().to(torch.complex128 if tensor.is_complex() else torch.float64)
    assert float(norm) == pytest.approx(torch.linalg.vector_norm(wide).item(), rel=2e-3)


def test_the_histogram_counts() -> None:
    tensor = torch.cat([torch.zeros(8), torch.full((4,), 5.0), torch.full((1,), 10.0)])
    text = display.table_of({"w": tensor}, "T")
    assert "█    ▄   ▁" in text
    assert row(text, "w")[5] == "0" and row(text, "w")[-1] == "10"
    large = torch.cat([tensor] * 400_000)  # sampled, not every element
    assert "█    ▄   ▁" in display.table_of({"w": large}, "T")


@pytest.mark.parametrize(
    "content",
    [torch.zeros(0, 3), torch.full((4,), 7.0), torch.zeros(0, dtype=torch.int64)],
    ids=["0x3", "constant", "no integers"],
)
def test_nothing_to_count(content: torch.Tensor) -> None:
    text = display.table_of({"w": content}, "T")
    assert ("all 7" in text) == bool(content.numel())
    assert not set(text) & set(BARS)


def test_what_is_not_finite_is_counted_and_the_rest_still_shown() -> None:
    tensor = torch.randn(100)
    tensor[3], tensor[4], tensor[5] = math.nan, math.nan, -math.inf
    text = display.table_of({"fine": torch.ones(2), "broken": tensor}, "T")
    assert "not finite: 2 NaN, 1 inf in 'broken'" in text
    assert row(text, "broken")[4] == "nan" and set(text) & set(BARS)
    assert "norm nan" in text
    assert "not finite" in display.html_of({"broken": tensor}, "T")
    assert "not finite" not in display.table_of({"fine": torch.ones(2)}, "T")


def test_what_is_not_finite_shows_in_a_folded_row_too() -> None:
    tensors = {f"{i}.weight": torch.ones(2) for i in range(3 * ROWS)}
    tensors["50.weight"] = torch.tensor([math.inf, 0.0])
    text = display.table_of(tensors, "T")
    assert "'50.weight'" in text and "50.weight  " not in text


def test_totals() -> None:
    text = display.table_of(
        {"a": torch.full((3, 4), 2.0), "b": torch.ones(1, dtype=torch.float64)}, "T"
    )
    assert text.splitlines()[-1] == "total: 2 tensors, 13 numbers, 56 bytes, norm 7"
    assert "0 tensors, 0 numbers, 0 bytes" in display.table_of({}, "T")


def test_text_keeps_to_100_columns_and_folds() -> None:
    tensors = {
        f"transformer.encoder.layers.{i}.self_attention.in_projection.weight_of_queries": torch.randn(
            64, 3, 3, 3
        )
        for i in range(57)
    }
    lines = display.table_of(tensors, "T").splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert len(lines) == ROWS + 4 and lines[-2] == f"  … and {57 - ROWS} more"


def test_html_is_accessible_and_folds() -> None:
    tensors = {f"{i}.weight": torch.randn(3) for i in range(57)}
    page = display.html_of(tensors, "T")
    read = Reader(page)
    assert [len(table) for table in read.tables] == [ROWS + 1, 57 - ROWS + 1]
    assert [table[1][0] for table in read.tables] == ["0.weight", f"{ROWS}.weight"]
    assert read.captions == 2
    assert read.scopes.count("row") == 57 and read.scopes.count("col") == 2 * 8
    assert f"… and {57 - ROWS} more" in page


@pytest.mark.parametrize(
    "show",
    [
        "parameters",
        "gradient",
        "model",
        "factory",
        "difference",
        "weights",
        "buffers",
        "donated",
        "empty",
    ],
)
def test_each_value_shows_itself_in_both_ways(show: str) -> None:
    model, gradient, later = stepped()
    if show == "donated":
        model.factory(later).step(gradient, buffers=later.buffers, donate=True)
    value = {
        "parameters": later,
        "gradient": gradient,
        "model": model,
        "factory": model.factory,
        "difference": later.diff(model.parameters) if show != "donated" else None,
        "weights": model.weights,
        "buffers": later.buffers if show != "donated" else None,
        "donated": later,
        "empty": fnlib.Parameters(seed=3),
    }[show]
    text, page = repr(value), value._repr_html_()
    assert max(map(len, text.splitlines())) <= (WIDTH if show not in ("donated", "empty") else 400)
    read = Reader(page)
    assert not re.search(
        r"<(script|link|img|style)|https?:|url\(|#[0-9a-fA-F]{3,6}\b|:\s*(black|white)\b", page
    )  # no resources, no fixed colours
    names = {row[0] for table in read.tables for row in table}
    if show in ("parameters", "gradient", "model", "factory", "difference", "weights"):
        assert {"0.weight", "3.bias"} <= names
        assert all(
            re.search(rf"^\s+{name}\s", text, re.MULTILINE) for name in ("0.weight", "3.bias")
        )
    if show in ("parameters", "model", "factory", "buffers"):
        assert "1.running_mean" in names and "1.running_mean" in text


def test_parameters_name_their_step_their_state_and_their_ties() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.decoder.weight = self.encoder.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.decoder(self.encoder(x))

    model = fnlib.Factory(Tied, optimizer=fnlib.Adam())(fnlib.Parameters(seed=0))
    later = model.step(model.backward(model(torch.ones(1, 3)).sum()))
    text = repr(later)
    assert text.startswith("Parameters after step 1\n")
    assert "optimizer state: 3 tensors, 76 bytes, of torch.optim.adam.Adam" in text
    assert "tied: 'decoder.weight' is 'encoder.weight'" in text
    assert "optimizer state" not in repr(model.parameters)


def test_a_donated_value_says_where_and_touches_nothing() -> None:
    model, gradient, _ = stepped()
    buffers = model.parameters.buffers
    line = sys._getframe().f_lineno + 1
    model.step(gradient, buffers=buffers, donate=True)
    for shown in (
        repr(model.parameters),
        model.parameters._repr_html_(),
        repr(model),
        model._repr_html_(),
    ):
        assert f"{Path(__file__).name}:{line}" in shown and "after step 0" in shown


def test_empty_parameters_say_how_they_will_be_drawn() -> None:
    assert repr(fnlib.Parameters(seed=7, dtype=torch.float64)).startswith(
        "Parameters(seed=7, dtype=torch.float64), empty"
    )


def test_a_model_names_its_mode_and_shows_the_buffers_it_carries() -> None:
    model = fnlib.Sequential(nn.BatchNorm1d(2))(fnlib.Parameters(seed=0))
    assert repr(model).startswith("Model in training: Sequential(")
    assert repr(model.eval()).startswith("Model in evaluation")
    assert "but for 0=False, seed 5" in repr(
        model.factory(model.parameters, training={"0": False}, seed=5)
    )
    _, buffers = model.with_buffers(torch.randn(4, 2))
    assert row(repr(model), "0.num_batches_tracked")[-1] == "all 0"
    assert row(repr(model.carry(buffers)), "0.num_batches_tracked")[-1] == "all 1"


def test_a_factory_that_is_not_built_yet_is_not_built_for_its_repr() -> None:
    built = []

    def build() -> nn.Module:
        built.append(1)
        return nn.Linear(2, 1)

    ModelFactory = fnlib.Factory(build)
    assert (
        "build" in repr(ModelFactory)
        and "fnlib.SGD(lr=0.01)" in repr(ModelFactory)
        and Reader(ModelFactory._repr_html_())
    )
    assert not built
    ModelFactory(fnlib.Parameters())
    assert "weights: 2 tensors, 3 numbers, 12 bytes" in repr(ModelFactory)


@pytest.mark.skipif(
    not hasattr(torch.Tensor, "_lazy_clone"), reason="this PyTorch has no copy-on-write tensors"
)
def test_looking_copies_nothing_and_draws_nothing() -> None:
    model, gradient, later = stepped()
    mine = [
        share for value in (later, gradient) for share in value.values()
    ]  # keeps every tensor shared
    raw = [*later._weights.values(), *later._buffers.values(), *gradient._tensors.values()]
    mine += list(later.buffers.values())
    drawn = torch.get_rng_state()
    for value in (
        later,
        gradient,
        model.factory(later),
        later.buffers,
        later.diff(model.parameters),
    ):
        repr(value), value._repr_html_()
    assert all(map(torch._C._is_cow_tensor, raw)) and all(map(torch._C._is_cow_tensor, mine))
    assert torch.equal(drawn, torch.get_rng_state())


def test_looking_inside_a_transform_and_without_content() -> None:
    texts = []

    def loss(weight: torch.Tensor) -> torch.Tensor:
        texts.append(display.table_of({"w": weight}, "T"))
        return weight.square().sum()

    torch.vmap(torch.func.grad(loss))(torch.ones(2, 3))
    assert row(texts[0], "w")[:3] == ["w", "3", "float32"]
    text = display.table_of(
        {"meta": torch.ones(2, device="meta"), "sparse": torch.eye(3).to_sparse()}, "T"
    )
    assert row(text, "meta")[1] == "2" and row(text, "sparse")[1] == "3×3"


def test_a_terminal_that_cannot_encode_bars_gets_plain_characters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    text = display.table_of({f"{i}.weight": torch.randn(9, 9) for i in range(ROWS + 1)}, "T")
    print(text, flush=True)  # would raise UnicodeEncodeError
    assert "9x9" in text


# --- how far weights moved ----------------------------------------------------------------------


def test_a_difference_is_a_mapping_of_euclidean_distances() -> None:
    model, _, later = stepped()
    difference = later.diff(model.parameters)
    before, after = ({**value, **value.buffers} for value in (model.parameters, later))
    assert list(difference) == list(after)
    for name, distance in difference.items():
        assert type(distance) is float
        assert distance == pytest.approx(
            torch.dist(after[name].double(), before[name].double()).item(), rel=1e-5
        )
    cells = row(repr(difference), "0.weight")
    change = (after["0.weight"] - before["0.weight"]).abs().max().item()
    assert float(cells[2]) == pytest.approx(difference["0.weight"], rel=1e-3)
    assert float(cells[3].rstrip("%")) == pytest.approx(
        100 * difference["0.weight"] / before["0.weight"].norm().item(), rel=1e-2
    )
    assert float(cells[4]) == pytest.approx(change, rel=1e-3)


def test_same_means_same_bytes() -> None:
    before = {"nan": torch.tensor([math.nan]), "zero": torch.zeros(2), "one": torch.ones(2)}
    after = {"nan": torch.tensor([math.nan]), "zero": -torch.zeros(2), "one": torch.ones(2)}
    difference = display.Difference(after, before)
    assert dict(difference) == {"nan": 0.0, "zero": 0.0, "one": 0.0}
    text = repr(difference)
    assert row(text, "nan")[-1] == row(text, "one")[-1] == "same"
    assert row(text, "zero")[2:] == ["0", "from zero", "0"]
    assert text.startswith("Difference: 1 of 3 tensors moved")


def test_a_difference_outlives_the_values() -> None:
    model, gradient, later = stepped()
    difference = later.diff(model.parameters)
    before = repr(difference), dict(difference)
    model.factory(later).step(gradient, buffers=later.buffers, donate=True)
    assert (repr(difference), dict(difference)) == before


def test_a_difference_of_complex_half_empty_and_unequal_values() -> None:
    before = {
        "c": torch.tensor([3 + 4j]),
        "h": torch.ones(2).half(),
        "e": torch.zeros(0),
        "n": torch.tensor(2),
    }
    after = {
        "c": torch.tensor([0j]),
        "h": torch.zeros(2).half(),
        "e": torch.zeros(0),
        "n": torch.tensor(5),
    }
    difference = display.Difference(after, before)
    assert difference["c"] == 5.0 and difference["e"] == 0.0 and difference["n"] == 3.0
    assert difference["h"] == pytest.approx(math.sqrt(2))
    assert f"distance {math.sqrt(27):.4g}" in repr(difference)  # counters are no distance
