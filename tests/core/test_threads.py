"""Promise 4: one factory serves many parameters at once: threads, nested calls, several models in one loss."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fnlib
from tests.core import networks as nets
from tests.core.tables import loss_of

X = torch.linspace(-1, 1, 20).reshape(5, 4)
BUILDS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "dense": (lambda: nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2)), X),
    "batchnorm": (lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)), X),
    "lstm": (lambda: nn.LSTM(4, 8, num_layers=2), X[:, None]),
    "dropout, seeded": (
        lambda: nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5), nn.Linear(64, 2)),
        X,
    ),
    "tied": (nets.TiedModule, X),
    "attributes": (nets.Caching, X),
    "checkpointed, seeded": (nets.Checkpointed, X),
    "spectral norm": (nets.new_spectral_norm, X),
    "weights held in lists": (nets.HeldTwice, X),
}


def train(
    ModelFactory: fnlib.Factory, seed: int, x: Tensor, pause: Callable[[], Any] = lambda: None
) -> list[fnlib.Parameters]:
    parameters, found = ModelFactory(fnlib.Parameters(seed=seed)).parameters, []
    for _ in range(15):
        model = ModelFactory(parameters, seed=seed)
        output, buffers = model.with_buffers(x)
        pause()
        gradient = model.backward(loss_of(output))
        pause()
        parameters = model.step(gradient, buffers=buffers)
        found.append(parameters)
    return found


@pytest.mark.parametrize("case", BUILDS)
def test_threads_get_what_they_would_get_alone(case: str) -> None:
    build, x = BUILDS[case]
    ModelFactory = fnlib.Factory(build, optimizer=fnlib.Adam(lr=0.01))
    alone = [train(ModelFactory, seed, x) for seed in range(4)]
    shared = fnlib.Factory(
        build, optimizer=fnlib.Adam(lr=0.01)
    )  # not warmed up: threads race to make its structure, too
    meet = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        together = list(
            pool.map(lambda seed: train(shared, seed, x, lambda: meet.wait(60)), range(4))
        )
    assert together == alone


class Slow(nn.Module):
    """Draws, lets others have their turn, and draws again."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        first = torch.rand(4)
        time.sleep(0.02)
        return self.layer(x) + first + torch.rand(4)


def test_seeded_passes_do_not_draw_from_each_other() -> None:
    ModelFactory = fnlib.Factory(Slow)
    parameters = ModelFactory(fnlib.Parameters(seed=0)).parameters
    alone = [ModelFactory(parameters, seed=seed)(X) for seed in range(4)]
    meet = threading.Barrier(4)

    def one(seed: int) -> Tensor:
        meet.wait(60)
        return ModelFactory(parameters, seed=seed)(X)

    with ThreadPoolExecutor(4) as pool:
        assert all(map(torch.equal, pool.map(one, range(4)), alone))


def test_threads_on_one_value() -> None:
    build, x = BUILDS["dense"]
    ModelFactory = fnlib.Factory(build)
    parameters = ModelFactory(fnlib.Parameters(seed=0)).parameters

    def gradients(_: int) -> list[fnlib.Gradient]:
        return [
            model.backward(loss_of(model(x)))
            for model in (ModelFactory(parameters) for _ in range(30))
        ]

    with ThreadPoolExecutor(4) as pool:
        found = [gradient for several in pool.map(gradients, range(4)) for gradient in several]
    assert all(gradient == found[0] for gradient in found)


class Calls(nn.Module):
    """Calls a model of its own factory in the middle of its forward pass."""

    inner: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor, depth: int = 0) -> Tensor:
        half = self.layer(x)
        other = Calls.inner(x, depth - 1) if depth else 0.0
        return self.layer(half) + other


def test_nested_calls_of_one_factory() -> None:
    ModelFactory = fnlib.Factory(Calls)
    outer, inner = (ModelFactory(fnlib.Parameters(seed=seed)) for seed in (0, 1))
    Calls.inner = inner
    stock = []
    for model in (outer, inner):
        module = Calls()
        module.load_state_dict(model.parameters.state_dict())
        stock.append(module)
    loss = outer(X, 1).sum()
    expected = stock[0](X).sum() + stock[1](X).sum()
    assert torch.allclose(loss, expected)
    assert torch.equal(outer(X), stock[0](X))
    gradients = fnlib.backward(loss, outer, inner)
    for gradient, module in zip(gradients, stock, strict=True):
        module(X).sum().backward()
        assert torch.equal(gradient["layer.weight"], module.layer.weight.grad)


def test_a_model_that_calls_itself() -> None:
    """Recursion on one value: the same leaves twice in one graph."""
    ModelFactory = fnlib.Factory(Calls)
    Calls.inner = model = ModelFactory(fnlib.Parameters(seed=0))
    module = Calls()
    module.load_state_dict(model.parameters.state_dict())
    gradient = model.backward(model(X, 3).sum())
    (4 * module(X).sum()).backward()
    assert torch.allclose(gradient["layer.weight"], module.layer.weight.grad)


def test_two_models_of_one_factory_in_one_loss() -> None:
    """A contrast of two values: each gets its own gradient, that of stock modules that stand side by side."""
    build, x = BUILDS["dense"]
    ModelFactory = fnlib.Factory(build)
    models = [ModelFactory(fnlib.Parameters(seed=seed)) for seed in (0, 1)]
    modules = [build() for _ in models]
    for model, module in zip(models, modules, strict=True):
        module.load_state_dict(model.parameters.state_dict())
    gradients = fnlib.backward((models[0](x) * models[1](x)).sum(), *models)
    (modules[0](x) * modules[1](x)).sum().backward()
    for gradient, module in zip(gradients, modules, strict=True):
        for name, weight in module.named_parameters():
            assert torch.equal(gradient[name], weight.grad)


def test_one_model_at_a_time_out_of_a_joint_loss() -> None:
    """model.backward gives a model's own part; with retain_graph the other part is still to be had."""
    build, x = BUILDS["dense"]
    ModelFactory = fnlib.Factory(build)
    a, b = (ModelFactory(fnlib.Parameters(seed=seed)) for seed in (0, 1))
    loss = (a(x) - b(x)).square().mean()
    first = a.backward(loss, retain_graph=True)
    assert (first, b.backward(loss)) == fnlib.backward((a(x) - b(x)).square().mean(), a, b)


def test_the_same_value_under_two_factories() -> None:
    one, two = (
        fnlib.Factory(BUILDS["dense"][0], optimizer=rule)
        for rule in (fnlib.SGD(lr=0.1), fnlib.SGD(lr=0.2))
    )
    parameters = one(fnlib.Parameters(seed=0)).parameters
    for _ in range(3):
        steps = []
        for ModelFactory in (one, two, one):
            model = ModelFactory(parameters)
            steps.append(model.step(model.backward(loss_of(model(X)))))
        assert steps[0] == steps[2] != steps[1]
        parameters = steps[0].replace()


def test_an_error_in_one_call_leaves_the_others_alone() -> None:
    ModelFactory = fnlib.Factory(BUILDS["batchnorm"][0])
    model = ModelFactory(fnlib.Parameters(seed=0))
    expected = model.eval()(X)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="mat1 and mat2"):
            model.eval()(X[:, :2])
        with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
            model.with_buffers(X[:1])
    assert torch.equal(model.eval()(X), expected)
