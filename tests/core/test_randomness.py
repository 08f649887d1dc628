"""Random layers: the global generator as in stock PyTorch; or seed=, and a pure function (promises 1, 2, 3)."""

from __future__ import annotations

import random
from pathlib import Path

import numpy
import pytest
import torch
from torch import nn

import fnlib

X = torch.ones(4, 8)


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 32), nn.Dropout(0.5), nn.Linear(32, 2), nn.RReLU())


def test_without_a_seed_the_stock_draws() -> None:
    """Binding, drawing weights and evaluating draw what the stock loop draws, and nothing else."""
    torch.manual_seed(3)
    module = build()
    expected = [module(X) for _ in range(3)]
    after = torch.get_rng_state()
    torch.manual_seed(3)
    ModelFactory = fnlib.Factory(build)
    model = ModelFactory(fnlib.Parameters())
    found = []
    for _ in range(3):
        model = ModelFactory(model.parameters)
        model.eval()(X)
        (
            ModelFactory(fnlib.Parameters(seed=9)),
            fnlib.Factory(build)(fnlib.Parameters(seed=9)).eval()(X),
        )
        found.append(model(X))
    assert all(map(torch.equal, found, expected))
    assert torch.equal(torch.get_rng_state(), after)


def test_with_a_seed_a_pure_function() -> None:
    ModelFactory = fnlib.Factory(build)
    parameters = ModelFactory(fnlib.Parameters(seed=0)).parameters
    outputs = []
    for noise in range(3):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        outputs.append(ModelFactory(parameters, seed=7)(X))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0], outputs[2])
    assert not torch.equal(outputs[0], ModelFactory(parameters, seed=8)(X))
    assert torch.equal(outputs[0], ModelFactory(parameters, seed=numpy.int64(7))(X))  # type: ignore[arg-type]
    model = ModelFactory(parameters, seed=7)
    assert torch.equal(model(X), model(X)), "one model is one function"


def test_a_constant_seed_draws_afresh_each_step() -> None:
    ModelFactory = fnlib.Factory(build, optimizer=fnlib.SGD(lr=0.0))
    parameters, outputs = ModelFactory(fnlib.Parameters(seed=0)).parameters, []
    for _ in range(4):
        model = ModelFactory(parameters, seed=7)
        output = model(X)
        parameters = model.step(model.backward(output.sum()))
        outputs.append(output.detach())
    assert not any(torch.equal(a, b) for i, a in enumerate(outputs) for b in outputs[:i])


def test_runs_branch_rewind_and_resume_exactly(tmp_path: Path) -> None:
    ModelFactory = fnlib.Factory(build, optimizer=fnlib.Adam())

    def train(parameters: fnlib.Parameters, steps: int) -> fnlib.Parameters:
        for _ in range(steps):
            model = ModelFactory(parameters, seed=1)
            parameters = model.step(
                model.backward(model(X * (1 + model.parameters.step_count)).sum())
            )
        return parameters

    half = train(fnlib.Factory(build)(fnlib.Parameters(seed=0)).parameters, 5)
    torch.rand(100)
    whole = train(half, 5)
    half.save(tmp_path / "half.safetensors")
    torch.manual_seed(99)
    assert train(fnlib.Parameters.load(tmp_path / "half.safetensors"), 5) == whole
    assert train(half, 5) == whole


def test_an_error_inside_a_seeded_pass_puts_the_generator_back() -> None:
    model = fnlib.Factory(build)(fnlib.Parameters(seed=0), seed=3)
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError):
        model(torch.ones(1, 3))
    assert torch.equal(torch.get_rng_state(), before)


def test_initial_weights_are_those_of_a_seeded_build() -> None:
    for seed in (0, 1, 2**40):
        states = torch.get_rng_state(), random.getstate()
        parameters = fnlib.Factory(build)(fnlib.Parameters(seed=seed)).parameters
        assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            assert parameters == fnlib.Parameters.from_module(build())


def test_unseeded_initial_weights_come_from_the_generator() -> None:
    ModelFactory = fnlib.Factory(build)
    first, second = ModelFactory(fnlib.Parameters()), ModelFactory(fnlib.Parameters())
    assert first.parameters != second.parameters
    empty = fnlib.Parameters(seed=4)
    assert ModelFactory(empty).parameters == ModelFactory(empty).parameters
    assert len(empty) == 0, "binding does not fill the empty value"


def test_dtype_and_device_of_initial_weights() -> None:
    ModelFactory = fnlib.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    plain, wide = (
        ModelFactory(fnlib.Parameters(seed=0, dtype=dtype)).parameters
        for dtype in (None, torch.float64)
    )
    assert plain.to(torch.float64) == wide
    assert (
        wide["0.weight"].dtype == torch.float64
        and wide.buffers["1.num_batches_tracked"].dtype == torch.int64
    )
    assert ModelFactory(fnlib.Parameters(seed=0, device="meta")).parameters["0.weight"].is_meta
