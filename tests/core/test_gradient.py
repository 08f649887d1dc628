"""Gradient: a vector space of immutable values (hypothesis), and the bits of PyTorch's own clipping."""

from __future__ import annotations

import copy
import math
import pickle
from fractions import Fraction
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import fnlib

NAMES = ("a", "b", "c")
SHAPES = {"a": (2, 3), "b": (), "c": (4,)}
# Halves of small whole numbers: sums and these products of them are exact, so that the laws hold to the bit.
numbers = st.integers(-64, 64).map(lambda n: n / 2)
scalars = st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.25, 1.0, 2.0, 3, -4])


@st.composite
def gradients(draw: Any, dtype: torch.dtype = torch.float64) -> fnlib.Gradient:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    tensors = {}
    for name in names:
        size = math.prod(SHAPES[name])
        values = draw(st.lists(numbers, min_size=size, max_size=size))
        tensors[name] = torch.tensor(values, dtype=dtype).reshape(SHAPES[name])
    return fnlib.Gradient(tensors)


def vector(g: fnlib.Gradient) -> torch.Tensor:
    """The gradient as one long vector, an absent entry as zeros; + 0.0 makes -0.0 and 0.0 one."""
    return (
        torch.cat(
            [
                (g[name] if name in g else torch.zeros(SHAPES[name], dtype=torch.float64)).reshape(
                    -1
                )
                for name in NAMES
            ]
        )
        + 0.0
    )


def same(a: fnlib.Gradient, b: fnlib.Gradient) -> bool:
    return torch.equal(vector(a), vector(b))


@given(gradients(), gradients(), gradients())
def test_addition_is_that_of_vectors(
    a: fnlib.Gradient, b: fnlib.Gradient, c: fnlib.Gradient
) -> None:
    assert same(a + b, b + a)
    assert same((a + b) + c, a + (b + c))
    assert set(a + b) == set(a) | set(b), "an absent entry is zero, and the sum has what either has"
    assert torch.equal(vector(a + b), vector(a) + vector(b) + 0.0)
    assert same(sum([a, b, c]), a + b + c)
    assert same(sum([a]), a)
    assert same(a + fnlib.Gradient({}), a) and (a + fnlib.Gradient({})) == a
    assert torch.equal(vector(a - b), vector(a) - vector(b) + 0.0)
    assert not vector(a - a).any() and set(a - a) == set(a)


@given(gradients(), gradients(), scalars, scalars)
def test_scaling_is_that_of_vectors(
    a: fnlib.Gradient, b: fnlib.Gradient, s: float, t: float
) -> None:
    assert same(a * s, s * a)
    assert same((a * s) * t, a * (s * t))
    assert same((a + b) * s, a * s + b * s)
    assert same(a * (s + t), a * s + a * t)
    assert (a * 1) == a and (a / 1) == a and same(-1 * -a, a) and same(-a, a * -1)
    assert set(a * s) == set(a)
    if s:
        assert torch.equal(vector(a / 2), vector(a) / 2)
        assert torch.allclose(vector((a / s) * s), vector(a))
    assert same(a * torch.tensor(s, dtype=torch.float64), a * s)
    assert same(a * torch.tensor([s], dtype=torch.float64), a * s)


@given(gradients(), gradients(), scalars)
def test_norm_is_that_of_vectors(a: fnlib.Gradient, b: fnlib.Gradient, s: float) -> None:
    assert math.isclose(float(a.norm()), float(vector(a).norm()), abs_tol=1e-12)
    assert math.isclose(
        float((a * s).norm()), abs(s) * float(a.norm()), rel_tol=1e-12, abs_tol=1e-12
    )
    assert float((a + b).norm()) <= float(a.norm()) + float(b.norm()) + 1e-9
    assert a.norm().shape == ()


@given(gradients(torch.float32), st.floats(0.01, 100))
def test_clipping_has_the_bits_of_pytorch(a: fnlib.Gradient, most: float) -> None:
    weights = {name: nn.Parameter(torch.zeros(SHAPES[name])) for name in a}
    for name, weight in weights.items():
        weight.grad = a[name].clone()
    total = nn.utils.clip_grad_norm_(weights.values(), most)
    clipped = a.clip_norm(most)
    assert torch.equal(a.norm(), total)
    for name, weight in weights.items():
        assert torch.equal(clipped[name], weight.grad)
    assert float(clipped.norm()) <= most * (1 + 1e-5)


@given(gradients(), gradients(), scalars)
def test_operands_stay_as_they_are(a: fnlib.Gradient, b: fnlib.Gradient, s: float) -> None:
    before = copy.deepcopy((a, b))
    results = [a + b, a - b, a * s, a / 3, -a, a.clip_norm(1.0), sum([a, b])]
    for result in results:
        for name in result:
            result[name].fill_(99)
    assert (a, b) == before
    assert all(not result[name].eq(99).all() for result in results for name in result)


@given(gradients())
def test_a_value(a: fnlib.Gradient) -> None:
    assert (
        copy.deepcopy(a)
        == a
        == pickle.loads(pickle.dumps(a))
        == fnlib.Gradient(a)
        == fnlib.Gradient(dict(a))
    )
    assert hash(a) == hash(a) and len({a, copy.copy(a)}) in (1, 2)
    assert bool(a), "not false, even when the loss depended on nothing"
    assert list(a) == list(a.keys()) and len(a) == len(list(a))


def test_equality_is_by_bytes() -> None:
    nan, zero = torch.tensor([float("nan"), 1.0]), torch.tensor(0.0)
    assert fnlib.Gradient({"a": nan}) == fnlib.Gradient({"a": nan.clone()})
    assert fnlib.Gradient({"a": zero}) != fnlib.Gradient({"a": -zero})
    assert fnlib.Gradient({"a": zero}) != fnlib.Gradient({"b": zero})
    assert fnlib.Gradient({"a": zero}) != fnlib.Gradient({"a": zero.double()})
    assert fnlib.Gradient({"a": zero}) != {"a": zero}


def model() -> fnlib.Model:
    return fnlib.Sequential(nn.Linear(3, 2))(fnlib.Parameters(seed=0))


def test_what_backward_returns_is_what_grad_would_hold() -> None:
    """Strides, dtype, kind: as PyTorch lays out .grad; without a graph."""
    for build, x in (
        (lambda: nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last), torch.randn(2, 3, 5, 5)),
        (lambda: nn.Linear(3, 2, dtype=torch.complex64), torch.randn(4, 3, dtype=torch.complex64)),
        (lambda: nn.Bilinear(3, 3, 2), None),
    ):
        module = build()
        bound = fnlib.Factory(build)(fnlib.Parameters.from_module(module))
        args = (x,) if x is not None else (torch.randn(4, 3), torch.randn(4, 3))
        module(*args).abs().sum().backward()
        gradient = bound.backward(bound(*args).abs().sum())
        for name, weight in module.named_parameters():
            assert torch.equal(gradient[name], weight.grad)
            assert gradient[name].stride() == weight.grad.stride()
            assert not gradient[name].requires_grad


def test_accumulation_equals_one_loss() -> None:
    m = model()
    x = torch.randn(6, 3)
    parts = [m.backward(m(part).sum()) for part in x.split(2)]
    whole = m.backward(m(x).sum())
    for name in whole:
        assert torch.allclose(sum(parts)[name], whole[name], atol=1e-6)
    stock = nn.Linear(3, 2)
    stock.load_state_dict({name[2:]: m.parameters[name] for name in m.parameters})
    for part in x.split(2):
        stock(part).sum().backward()
    assert torch.equal(sum(parts)["0.weight"], stock.weight.grad), (
        "the bits of .grad accumulated over three backwards"
    )


def test_a_penalty_reaches_the_gradient() -> None:
    m = model()
    gradient = m.backward(
        m(torch.zeros(1, 3)).sum() * 0 + sum(weight.square().sum() for weight in m.weights.values())
    )
    for name in gradient:
        assert torch.equal(gradient[name], 2 * m.parameters[name])


def test_sparse_gradients_add_and_scale() -> None:
    embedding = fnlib.Factory(lambda: nn.Embedding(5, 3, sparse=True))(fnlib.Parameters(seed=0))
    gradient = embedding.backward(embedding(torch.tensor([1, 1, 2])).sum())
    assert gradient["weight"].is_sparse
    double = gradient + gradient
    assert torch.equal(double["weight"].to_dense(), (gradient * 2)["weight"].to_dense())
    assert copy.deepcopy(gradient) == gradient


@pytest.mark.parametrize("other", [1, None, "a", {"a": 1}, 1.5])
def test_adding_something_else_is_a_type_error(other: Any) -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        fnlib.Gradient({}) + other
    with pytest.raises(TypeError, match="unsupported operand|can't multiply"):
        fnlib.Gradient({}) * ("a" if isinstance(other, (int, float)) else other)


def test_a_factor_that_changes_the_kind_is_refused() -> None:
    gradient = fnlib.Gradient({"a": torch.ones(2)})
    for scale in (
        lambda: gradient * 1j,
        lambda: gradient / torch.tensor(2j),
        lambda: gradient * torch.tensor(1.0, dtype=torch.complex64),
    ):
        with pytest.raises(
            fnlib.WrongParameters,
            match="This factor would change the dtype of the gradient: torch.float32 would become torch.complex64",
        ):
            scale()
    assert (gradient * torch.tensor(2.0, dtype=torch.float64))["a"].dtype == torch.float32
    with pytest.raises(TypeError):
        gradient * torch.ones(2)
    with pytest.raises(TypeError):
        gradient * Fraction(1, 2)  # type: ignore[operator]


def test_a_function_that_changes_the_kind_is_refused() -> None:
    gradient = fnlib.Gradient({"a": torch.ones(2)})
    with pytest.raises(fnlib.WrongParameters) as caught:
        gradient.map(Tensor.double)
    assert "This function would change the dtype of the gradient" in str(caught.value)
    assert "gradient.map(lambda g: g.round())" in str(caught.value)


def test_gradients_of_other_networks_do_not_add() -> None:
    with pytest.raises(fnlib.WrongParameters) as caught:
        fnlib.Gradient({"a": torch.ones(2)}) + fnlib.Gradient({"a": torch.ones(3)})
    assert (
        "These gradients don't belong to the same network: 'a' has shape (2,) in one and (3,) in the other"
        in str(caught.value)
    )


def test_what_is_no_tensor_is_refused() -> None:
    with pytest.raises(
        fnlib.WrongParameters, match="A gradient is a mapping of names to tensors: 'a' is list"
    ):
        fnlib.Gradient({"a": [1.0]})  # type: ignore[dict-item]
    with pytest.raises(fnlib.WrongParameters, match="A gradient is a mapping"):
        fnlib.Gradient([1.0])  # type: ignore[arg-type]
    with pytest.raises(
        KeyError,
        match="'x': the loss doesn't depend on it, or no weight has this name. This gradient has a",
    ):
        fnlib.Gradient({"a": torch.ones(1)})["x"]
    with pytest.raises(KeyError, match="This gradient has 1"):
        fnlib.Gradient({1: torch.ones(1)})["x"]  # type: ignore[dict-item]
    with pytest.raises(KeyError, match="This gradient has no entry"):
        fnlib.Gradient({})["x"]


FOLLOWED: dict[str, Any] = {
    "*": lambda g, a: g * a,
    "r*": lambda g, a: a * g,
    "/": lambda g, a: g / a,
    "one element": lambda g, a: g * a.reshape(1, 1),
    "map": lambda g, a: g.map(lambda tensor: tensor * a),
    "clip_norm": lambda g, a: g.clip_norm(a),
    "sum": lambda g, a: g + g * a - g,
    "deepcopy": lambda g, a: copy.deepcopy(g * a),
}


@pytest.mark.parametrize("way", FOLLOWED)
def test_arithmetic_keeps_the_graph_of_its_factor(way: str) -> None:
    """A learned rate gets a gradient; a step takes the numbers only."""
    model = fnlib.Sequential(nn.Linear(2, 1))(fnlib.Parameters(seed=0))
    gradient = model.backward(model(torch.ones(1, 2)).sum())
    alpha = torch.tensor(0.5, requires_grad=True)
    scaled = FOLLOWED[way](gradient, alpha)
    assert torch.autograd.grad(scaled.norm(), alpha)[0] != 0
    assert not any(weight.requires_grad for weight in model.step(scaled).values())


def test_one_pass_over_several_models() -> None:
    encoder, decoder = (
        fnlib.Sequential(nn.Linear(3, 3))(fnlib.Parameters(seed=seed)) for seed in (0, 1)
    )
    x = torch.randn(4, 3)
    loss = decoder(encoder(x)).square().mean()
    alone = encoder.backward(loss, retain_graph=True), decoder.backward(loss, retain_graph=True)
    assert fnlib.backward(loss, encoder, decoder) == alone
    with pytest.raises(fnlib.GraphUsedUp):
        fnlib.backward(loss, encoder)
    loss = decoder(encoder(x)).square().mean()
    assert fnlib.backward(loss, encoder, decoder, retain_graph=True) == fnlib.backward(
        loss, encoder, decoder
    )


NUMPY_NUMBERS = [
    numpy.float32(0.5),
    numpy.float64(0.5),
    numpy.float16(0.5),
    numpy.int64(3),
    numpy.uint8(3),
]


@pytest.mark.parametrize("number", NUMPY_NUMBERS, ids=lambda number: type(number).__name__)
def test_numpy_numbers_scale_like_python_numbers(number: Any) -> None:
    """From either side; a norm or a count that NumPy computed is an ordinary factor."""
    gradient = fnlib.Gradient({"w": torch.tensor([3.0, 4.0]), "h": torch.ones(2).half()})
    expected = gradient * number.item()
    assert gradient * number == expected
    assert number * gradient == expected
    assert gradient / number == gradient / number.item()
    assert gradient.clip_norm(number) == gradient.clip_norm(number.item())
    assert sum([gradient, gradient], type(number)(0)) == gradient + gradient


def test_numpy_arrays_and_flags_are_no_factors() -> None:
    """NumPy must not take the gradient apart, nor a flag pass as a number."""
    gradient = fnlib.Gradient({"w": torch.ones(2)})
    for factor in (numpy.ones(2), numpy.bool_(True), True, "2"):
        for multiply in (lambda f=factor: gradient * f, lambda f=factor: f * gradient):
            with pytest.raises(TypeError):
                multiply()
