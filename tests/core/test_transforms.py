"""Promise 4: torch.func acts on the weights mapping; what PyTorch cannot batch raises PyTorch's own error."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, grad_and_value, hessian, jacrev, jvp, vmap

import fnlib

X = torch.linspace(-1, 1, 20).reshape(5, 4)
Y = torch.linspace(0, 1, 10).reshape(5, 2)


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


ModelFactory = fnlib.Factory(build)


def value(seed: int = 0) -> fnlib.Parameters:
    return ModelFactory(fnlib.Parameters(seed=seed)).parameters


def loss_on(parameters: fnlib.Parameters) -> Callable[..., Tensor]:
    """The loss as a function of the weights. (A value that is an argument of a transform would enter it as its weights.)"""

    def loss(weights: Any, x: Tensor = X, y: Tensor = Y) -> Tensor:
        return (ModelFactory(parameters.replace(weights=weights))(x) - y).square().mean()

    return loss


def test_grad_is_backward() -> None:
    parameters = value()
    before = copy.deepcopy(parameters)
    model = ModelFactory(parameters)
    expected = model.backward((model(X) - Y).square().mean())
    for weights in (
        parameters,
        dict(parameters),
        model.weights,
    ):  # the value itself is a tree of its weights
        found = grad(loss_on(parameters))(weights)
        assert set(found) == set(parameters)
        for name in expected:
            assert torch.allclose(found[name], expected[name])
    gradient, loss = grad_and_value(loss_on(parameters))(dict(parameters))
    stepped = model.step(fnlib.Gradient({name: gradient[name] for name in gradient}))
    assert stepped.step_count == 1 and loss.ndim == 0
    assert parameters == before
    assert ModelFactory(parameters)(X).grad_fn is not None, (
        "the value is as it was, outside the transform"
    )


def test_gradients_of_each_sample() -> None:
    parameters = value()
    each = vmap(
        grad(lambda weights, x, y: loss_on(parameters)(weights, x[None], y[None])),
        in_dims=(None, 0, 0),
    )(dict(parameters), X, Y)
    model = ModelFactory(parameters)
    for i in range(len(X)):
        expected = model.backward((model(X[i : i + 1]) - Y[i : i + 1]).square().mean())
        for name in expected:
            assert torch.allclose(each[name][i], expected[name], atol=1e-6)


def test_an_ensemble() -> None:
    members = [value(seed) for seed in range(3)]
    stacked = {name: torch.stack([member[name] for member in members]) for name in members[0]}
    outputs = vmap(lambda weights: ModelFactory(members[0].replace(weights=weights))(X))(stacked)
    for output, member in zip(outputs, members, strict=True):
        assert torch.allclose(output, ModelFactory(member)(X), atol=1e-6)


RULES: dict[str, Callable[[], Any]] = {
    "SGD": lambda: fnlib.SGD(lr=0.1, weight_decay=0.1),
    "momentum": lambda: fnlib.SGD(lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda: fnlib.Adam(lr=0.01, amsgrad=True),
    "a schedule": lambda: fnlib.AdamW(lr=lambda k: 0.01 / (k + 1)),
}


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("rule", RULES)
def test_one_value_takes_a_step_on_each_of_many_batches(rule: str, steps: int) -> None:
    """Only the batches differ, so moments that begin or are kept are those of all models."""
    Ours = fnlib.Factory(build, optimizer=RULES[rule]())
    step = fnlib.train_step(Ours, nn.functional.l1_loss)
    parameters = Ours(fnlib.Parameters(seed=0)).parameters
    for _ in range(steps):
        parameters, _ = step(parameters, X, Y)
    features, labels = torch.stack([X, -X, 2 * X]), torch.stack([Y, Y + 1, -Y])
    many, _ = vmap(step, (None, 0, 0))(parameters, features, labels)
    for one, x, y in zip(fnlib.unstack(many), features, labels, strict=True):
        expected, _ = step(parameters, x, y)
        assert one.step_count == steps + 1
        torch.testing.assert_close(dict(one), dict(expected))
        torch.testing.assert_close(one.optimizer_state, expected.optimizer_state)


def test_second_derivatives_and_directions() -> None:
    parameters = value()
    weights = dict(parameters)
    one = {"2.bias": weights["2.bias"]}
    found = hessian(loss_on(parameters))(one)["2.bias"]["2.bias"]
    assert torch.allclose(found, torch.eye(2), atol=1e-6)
    jacobian = jacrev(lambda w: ModelFactory(parameters.replace(weights=w))(X))(weights)
    assert jacobian["2.bias"].shape == (5, 2, 2)
    tangents = {name: torch.ones_like(weight) for name, weight in weights.items()}
    _, slope = jvp(loss_on(parameters), (weights,), (tangents,))
    gradient = grad(loss_on(parameters))(weights)
    assert torch.allclose(slope, sum(g.sum() for g in gradient.values()), atol=1e-6)


def test_the_results_of_a_transform_make_values() -> None:
    parameters = value()
    gradient = grad(loss_on(parameters))(dict(parameters))
    moved = parameters.replace(
        weights={name: parameters[name] - 0.1 * gradient[name] for name in parameters}
    )
    model = ModelFactory(parameters)
    stepped = fnlib.Factory(build, optimizer=fnlib.SGD(lr=0.1))(parameters).step(
        model.backward((model(X) - Y).square().mean())
    )
    for name in moved:
        assert torch.allclose(moved[name], stepped[name])


def test_batchnorm_in_a_batch_is_pytorchs_own_error() -> None:
    Normed = fnlib.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    parameters = Normed(fnlib.Parameters(seed=0)).parameters

    def loss(x: Tensor) -> Tensor:
        return Normed(parameters).with_buffers(x)[0].sum()

    with pytest.raises(RuntimeError, match="vmap"):
        vmap(loss)(torch.randn(3, 5, 4))
    assert Normed(parameters).with_buffers(X)[0].shape == (5, 3), "and the factory is as it was"
    evaluated = vmap(lambda x: Normed(parameters, training=False)(x))(torch.randn(3, 5, 4))
    assert evaluated.shape == (3, 5, 3)


def test_dropout_in_a_batch_is_pytorchs_own_error() -> None:
    Dropped = fnlib.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    parameters = Dropped(fnlib.Parameters(seed=0)).parameters
    with pytest.raises(RuntimeError, match="randomness"):
        vmap(lambda x: Dropped(parameters)(x))(torch.randn(3, 5, 4))
    assert vmap(lambda x: Dropped(parameters)(x), randomness="different")(
        torch.randn(3, 5, 4)
    ).shape == (3, 5, 3)


def test_a_factory_that_first_meets_a_transform_works_outside_it() -> None:
    """Nothing that belongs to a transform may outlive it."""
    Fresh = fnlib.Factory(build)
    parameters = value()
    copied = copy.deepcopy(parameters)
    vmap(lambda x: Fresh(copied)(x))(X)
    grad(lambda w: Fresh(copied.replace(weights=w))(X).sum())(dict(copied))
    model = Fresh(copied)
    assert model.backward(model(X).sum()) == ModelFactory(parameters).backward(
        ModelFactory(parameters)(X).sum()
    )
    gradient = model.backward((model(X) - Y).square().mean())
    assert set(gradient) == set(parameters)
    with torch.inference_mode():
        inferred = Fresh(copied)(X)
    assert inferred.is_inference()
    assert len(Fresh(copied).backward(Fresh(copied)(X).sum())) == 4


def in_a_map(f: Callable[[Tensor], Tensor]) -> Tensor:
    return vmap(f, randomness="different")(X)


def in_a_gradient(f: Callable[[Tensor], Tensor]) -> Tensor:
    slope: Tensor = grad(lambda x: f(x).sum())(X)
    return slope


def in_a_direction(f: Callable[[Tensor], Tensor]) -> Tensor:
    return jvp(f, (X,), (X,))[0]


BUILDS = {
    "initial weights": lambda: ModelFactory(fnlib.Parameters()),
    "a new factory": lambda: fnlib.Factory(build)(fnlib.Parameters(seed=0)),
    "a class": lambda: fnlib.Factory(nn.PReLU)(fnlib.Parameters()),
    "from_module": lambda: ModelFactory(fnlib.Parameters.from_module(build())),
}


@pytest.mark.parametrize("inside", [in_a_map, in_a_gradient, in_a_direction])
@pytest.mark.parametrize("kind", BUILDS)
def test_building_inside_a_transform_is_refused_by_name(
    kind: str, inside: Callable[[Any], Tensor]
) -> None:
    """The transform would own the weights, and take them back when it ends."""
    assert inside(lambda x: fnlib.Sequential()(fnlib.Parameters())(x)).shape == X.shape
    if kind == "from_module" and inside is in_a_map:
        return  # where PyTorch itself refuses to draw the module's weights
    with pytest.raises(fnlib.UnsupportedModule, match="inside a transform of torch.func") as caught:
        inside(lambda x: BUILDS[kind]()(x))
    right = next(line for line in str(caught.value).splitlines() if "# right" in line)
    names = {"torch": torch, "X": X, "model": fnlib.Factory(build)(fnlib.Parameters())}
    exec(right.strip(), names)


def test_inference_mode_and_no_grad() -> None:
    parameters = value()
    other = fnlib.Factory(build)
    with torch.inference_mode():
        drawn = other(fnlib.Parameters(seed=0)).parameters
        loaded = fnlib.Parameters.from_module(build())
        output = other(parameters)(X)
    assert drawn == parameters and not drawn["0.weight"].is_inference()
    assert torch.equal(output, ModelFactory(parameters)(X))
    for made in (drawn, loaded, parameters):
        model = other(made)
        assert other(model.step(model.backward(model(X).sum()))).parameters.step_count == 1
    with torch.no_grad():
        model = ModelFactory(parameters)
        quiet = model(X)
        with pytest.raises(fnlib.LossIndependent, match="has no graph"):
            model.backward(quiet.sum())
    assert len(model.backward(model(X).sum())) == 4


def test_autocast_as_in_stock() -> None:
    module, parameters = build(), value()
    module.load_state_dict(parameters.state_dict())
    model = ModelFactory(parameters)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        stock, mine = module(X), model(X)
    assert mine.dtype == torch.bfloat16 and torch.equal(mine, stock)
    stock.float().sum().backward()
    gradient = model.backward(mine.float().sum())
    for name, weight in module.named_parameters():
        assert torch.equal(gradient[name], weight.grad)


def test_a_factory_of_an_instance_is_made_inside_a_transform() -> None:
    """A rate is learned through steps whose rule, and so whose factory, is made in the transform."""
    network = nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(1))
    start, x, y = fnlib.Parameters.from_module(network), torch.randn(5, 4), torch.arange(5) % 3

    def loss(rate: torch.Tensor) -> torch.Tensor:
        factory = fnlib.Factory(network, optimizer=fnlib.SGD(lr=rate))
        step = fnlib.train_step(factory, nn.NLLLoss())
        return step(step(start, x, y)[0], x, y)[1]

    slope = torch.func.grad(loss)(torch.tensor(0.1))
    assert torch.isfinite(slope) and slope < 0
