"""Compare the tables that values print with what PyTorch computes."""

from __future__ import annotations

import io
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fnlib
from fnlib.show.table import ROWS, WIDTH, Table, wrapped
from fnlib.values.diff import Difference
from fnlib.values.protect import Tensors


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
        self.labels: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
            self.labels.append(dict(attrs)["aria-label"] or "")
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            if tag == "th":
                self.scopes.append(dict(attrs)["scope"] or "")

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
def test_a_row_shows_shape_dtype_size_and_norm(tensor: torch.Tensor) -> None:
    shape, dtype, size, norm = row(repr(Tensors({"w": tensor})), "w")[1:]
    assert shape == str(tuple(tensor.shape))
    assert f"torch.{dtype}" == str(tensor.dtype)
    assert int(size) == tensor.numel()
    wide = tensor.detach().to(torch.complex128 if tensor.is_complex() else torch.float64)
    assert float(norm) == pytest.approx(torch.linalg.vector_norm(wide).item(), rel=2e-3)


def test_the_norm_marks_what_is_not_finite() -> None:
    tensors = {
        "fine": torch.ones(4),
        "nan": torch.tensor([1, math.nan]),
        "inf": torch.tensor(-math.inf),
    }
    for text in (repr(Tensors(tensors)), repr(fnlib.Gradient(tensors))):
        assert [row(text, name)[-1] for name in tensors] == ["2", "nan", "inf"]
        assert text.endswith("norm nan")
    assert repr(Tensors({"large": torch.full((4,), 1e30)})).endswith("norm 2e+30")


def test_totals() -> None:
    mixed = {"a": torch.full((3, 4), 2.0), "b": torch.ones(1, dtype=torch.float64)}
    assert repr(Tensors(mixed)).endswith("\ntotal: 2 tensors, 13 numbers, 56 bytes, norm 7")
    assert row(repr(Tensors({"w": torch.zeros(0, 3)})), "w") == ["w", "(0, 3)", "float32", "0", "0"]


@pytest.mark.parametrize("value", [fnlib.Gradient({}), Tensors({}), fnlib.Sequential()], ids=type)
def test_an_empty_value_has_no_rows(value: object) -> None:
    text, page = repr(value), value._repr_html_()  # type: ignore[attr-defined]
    assert "0 tensors, 0 numbers, 0 bytes" in text and "0 tensors, 0 numbers, 0 bytes" in page
    assert "name" not in text and not Reader(page).tables


def test_a_network_without_buffers_shows_none() -> None:
    ModelFactory = fnlib.Sequential(nn.Linear(2, 1))
    for value in (ModelFactory, ModelFactory(fnlib.Parameters()), fnlib.Sequential(nn.ReLU())):
        assert "weights: " in repr(value) and "buffers" not in repr(value)


def test_text_keeps_to_100_columns_and_folds() -> None:
    """Break a long name before a dot, so that it can still be read as a whole."""
    names = [
        f"transformer.encoder.layers.{i}.self_attention.in_projection.weight_of_queries"
        for i in range(57)
    ]
    lines = repr(Tensors({name: torch.ones(64, 3, 3, 3) for name in names})).splitlines()
    assert max(map(len, lines)) <= WIDTH and lines[-2] == f"  ... and {57 - ROWS} more"
    assert len(lines) == 2 * ROWS + 4
    shown = [
        "".join(line.split("  (")[0].strip() for line in lines[i : i + 2]) for i in range(2, 42, 2)
    ]
    assert shown == names[:ROWS]
    assert lines[3].strip().startswith(".")


def test_a_cell_without_a_place_to_break_is_cut() -> None:
    lines = wrapped("x" * 250, 40)
    assert "".join(map(str.strip, lines)) == "x" * 250 and max(map(len, lines)) <= 40
    wide = Table(
        "T", {"a": "<", "b": "<", "c": ">"}, {"": [("x " * 90, "f(y)\n" + "z" * 90, "1")]}
    ).text()
    assert max(map(len, wide.splitlines())) <= WIDTH and wide.count("x") == wide.count("z") == 90


def test_html_is_accessible_and_folds() -> None:
    page = Tensors({f"{i}.weight": torch.randn(3) for i in range(57)})._repr_html_()
    read = Reader(page)
    assert [len(table) for table in read.tables] == [ROWS + 1, 57 - ROWS + 1]
    assert [table[1][0] for table in read.tables] == ["0.weight", f"{ROWS}.weight"]
    assert read.labels == ["Tensors", "Tensors, continued"]
    assert read.scopes.count("row") == 57 and read.scopes.count("col") == 2 * 5
    assert f'<summary style="cursor:pointer">  ... and {57 - ROWS} more</summary>' in page


def test_html_escapes_what_names_contain() -> None:
    page = fnlib.Gradient({"<b>&": torch.ones(1)})._repr_html_()
    assert Reader(page).tables[0][1][0] == "<b>&" and "<b>" not in page


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


def test_parameters_show_step_state_and_ties() -> None:
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
    assert "'decoder.weight' is tied to 'encoder.weight'" in text
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


def test_a_model_shows_its_mode_and_the_buffers_it_carries() -> None:
    model = fnlib.Sequential(nn.BatchNorm1d(2))(fnlib.Parameters(seed=0))
    assert repr(model).startswith("Model in training: parameters after step 0\nSequential(\n")
    assert '<summary style="cursor:pointer">Sequential</summary>' in model._repr_html_()
    assert repr(model.eval()).startswith("Model in evaluation")
    frozen = model.factory(model.parameters, training={"0": False}, seed=5)
    assert repr(frozen).startswith("Model in training except 0, seed 5: parameters")
    _, buffers = model.with_buffers(torch.full((4, 2), 10.0))
    assert row(repr(model), "0.num_batches_tracked")[-1] == "0"
    assert row(repr(model.carry(buffers)), "0.num_batches_tracked")[-1] == "1"


MODES: list[tuple[Any, str]] = [
    (True, "training"),
    (False, "evaluation"),
    ({}, "training"),
    ({"": True}, "training"),
    ({"": False}, "evaluation"),
    ({"0": True}, "training"),
    ({"0": False}, "training except 0"),
    ({"": False, "0": False}, "evaluation"),
    ({"": False, "1": True}, "evaluation except 1"),
    ({"1": False, "1.0": False}, "training except 1, 1.0"),
    ({"1": False, "1.0": True}, "training except 1 (but not 1.0)"),
    ({"1": False, "10": True}, "training except 1"),
]


@pytest.mark.parametrize(("training", "words"), MODES, ids=str)
def test_a_model_says_which_parts_train(training: Any, words: str) -> None:
    """In the words of its repr, and as the layers themselves do."""
    layers = [nn.Dropout() for _ in range(11)]
    layers[1] = nn.Sequential(nn.Dropout())
    model = fnlib.Sequential(*layers)(fnlib.Parameters(), training=training)
    assert repr(model).startswith(f"Model in {words}: ")
    if words in ("training", "evaluation"):
        assert (model(torch.ones(99)) == 0).any() == (words == "training")


def test_the_repr_of_a_deep_network_is_cut() -> None:
    deep = fnlib.Sequential(*(nn.ReLU() for _ in range(100)))
    assert "\n  ... and 72 more lines\n" in repr(deep) and "(99): ReLU()" not in repr(deep)
    assert "(99): ReLU()" in deep._repr_html_()


def test_a_repr_does_not_build_the_factory() -> None:
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
    raw = [
        *later._held().weights.values(),
        *later._held().buffers.values(),
        *gradient._tensors.values(),
    ]
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
        texts.append(repr(Tensors({"w": weight})))
        return weight.square().sum()

    torch.vmap(torch.func.grad(loss))(torch.ones(2, 3))
    assert row(texts[0], "w")[:3] == ["w", "(3,)", "float32"]
    empty = {"meta": torch.ones(2, device="meta"), "sparse": torch.eye(3).to_sparse()}
    text = repr(Tensors({**empty, "full": torch.ones(4)}))
    assert row(text, "meta") == ["meta", "(2,)", "float32", "2"]
    assert row(text, "sparse")[1] == "(3, 3)" and row(text, "full")[-1] == "2"
    assert "norm" not in text.splitlines()[-1], "the norm of all is not known"
    assert "norm" not in repr(Tensors(empty)), "no column without content"


def test_a_terminal_that_knows_only_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    print(Tensors({f"{i}.weight": torch.randn(9, 9) for i in range(ROWS + 1)}), flush=True)


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
    difference = Difference(after, before)
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
    difference = Difference(after, before)
    assert difference["c"] == 5.0 and difference["e"] == 0.0 and difference["n"] == 3.0
    assert difference["h"] == pytest.approx(math.sqrt(2))
    assert f"distance {math.sqrt(27):.4g}" in repr(difference)  # counters are no distance
