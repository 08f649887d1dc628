"""model.weights and create_graph: what people write with torch.autograd.grad, with stock's bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fnlib

X, X2 = torch.linspace(-1, 1, 20).reshape(5, 4), torch.linspace(-2, 1, 20).reshape(5, 4)
SHAPES = [(4, 3), (3, 2)]


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


ModelFactory = fnlib.Factory(build)
Forward = Callable[[Tensor], Tensor]
Run = Callable[[Forward, list[Tensor]], Any]


def value() -> fnlib.Parameters:
    return ModelFactory(fnlib.Parameters(seed=0)).parameters


def stock(parameters: fnlib.Parameters) -> nn.Module:
    module = build()
    module.load_state_dict(parameters.state_dict())
    return module


# --- what autograd finds ----------------------------------------------------------------------


def plain(forward: Forward, weights: list[Tensor]) -> Any:
    return torch.autograd.grad(forward(X).square().mean(), weights)


def gradient_penalty(forward: Forward, weights: list[Tensor]) -> Any:
    loss = forward(X).square().mean()
    slopes = torch.autograd.grad(loss, weights, create_graph=True)
    return torch.autograd.grad(loss + sum(s.square().sum() for s in slopes), weights)


def hessian_vector(forward: Forward, weights: list[Tensor]) -> Any:
    slopes = torch.autograd.grad(forward(X).square().mean(), weights, create_graph=True)
    return torch.autograd.grad(sum(s.sum() for s in slopes), weights)


def grad_norm(forward: Forward, weights: list[Tensor]) -> Any:
    output = forward(X)
    losses = [output[:, i].square().mean() for i in (0, 1)]
    slopes = [torch.autograd.grad(loss, weights[0], create_graph=True)[0] for loss in losses]
    return torch.autograd.grad(slopes[0].norm() / slopes[1].norm(), weights, allow_unused=True)[:3]


def input_penalty(forward: Forward, weights: list[Tensor]) -> Any:
    x = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(forward(x).sum(), x, create_graph=True)
    return torch.autograd.grad(slope.norm(), weights, allow_unused=True)[:1]


def maml(forward: Forward, weights: list[Tensor]) -> Any:
    slopes = torch.autograd.grad(forward(X).square().mean(), weights, create_graph=True)
    fast = [w - 0.1 * s for w, s in zip(weights, slopes, strict=True)]
    output = torch.tanh(X2 @ fast[0].T + fast[1]) @ fast[2].T + fast[3]
    return torch.autograd.grad(output.square().mean(), weights)


RUNS: list[Run] = [plain, gradient_penalty, hessian_vector, grad_norm, input_penalty, maml]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.__name__)
def test_autograd_finds_the_weights(run: Run) -> None:
    parameters = value()
    module, model = stock(parameters), ModelFactory(parameters)
    expected = run(module, list(module.parameters()))
    found = run(model, list(model.weights.values()))
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine, theirs)
    assert parameters == value()


def test_create_graph_as_stock() -> None:
    """The penalty of a gradient, and a step with it, have stock's bits; later values have no graph."""
    parameters = value()
    module, model = stock(parameters), ModelFactory(parameters)
    loss = module(X).square().mean()
    slopes = torch.autograd.grad(loss, list(module.parameters()), create_graph=True)
    total = torch.stack([slope.norm() for slope in slopes]).norm()
    expected = torch.autograd.grad(loss + total, list(module.parameters()))
    mine = model(X).square().mean()
    gradient = model.backward(mine, create_graph=True)
    both = model.backward(mine + gradient.norm())
    for name, slope in zip(both, expected, strict=True):
        assert torch.equal(both[name], slope)
    for made in (gradient * 2, gradient + gradient, -gradient, gradient.clip_norm(0.1)):
        assert made["0.weight"].requires_grad, "the algebra of gradients keeps the graph"
    for given in (gradient, dict(gradient)):
        after = ModelFactory(model.step(given))
        assert not after.parameters["0.weight"].requires_grad
        assert after.parameters == ModelFactory(parameters).step(dict(plain_of(parameters)))
    assert not model.backward(model(X).square().mean())["0.weight"].requires_grad


def plain_of(parameters: fnlib.Parameters) -> fnlib.Gradient:
    model = ModelFactory(parameters)
    return model.backward(model(X).square().mean())


def test_create_graph_over_several_models() -> None:
    a, b = ModelFactory(value()), ModelFactory(value())
    Last = fnlib.Sequential(nn.Linear(2, 1))
    last = Last(fnlib.Parameters(seed=1))
    loss = last(a(X) + b(X2)).square().mean()
    first, second = fnlib.backward(loss, a, last, create_graph=True)
    assert first["0.weight"].requires_grad and second["0.weight"].requires_grad
    assert set(last.backward(first.norm() + second.norm())) == {"0.weight", "0.bias"}


# --- writes -----------------------------------------------------------------------------------


def in_place(weight: Tensor) -> None:
    with torch.no_grad():
        weight.add_(1)


def through_data(weight: Tensor) -> None:
    weight.data.mul_(0.5)


def another_tensor(weight: Tensor) -> None:
    weight.data = torch.ones_like(weight)


def another_value(weight: Tensor) -> None:
    weight.data = ModelFactory(fnlib.Parameters(seed=9)).parameters["0.weight"]


def through_numpy(weight: Tensor) -> None:
    weight.detach().numpy()[...] = 3


def through_out(weight: Tensor) -> None:
    torch.mul(weight.detach(), 2, out=weight.detach())


def by_an_optimizer(weight: Tensor) -> None:
    weight.grad = torch.ones_like(weight)
    torch.optim.SGD([weight], lr=0.1).step()


WRITES = [in_place, through_data, another_tensor, another_value, through_numpy, through_out]
WRITES += [by_an_optimizer]


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
def test_a_write_ends_this_model_only(write: Callable[[Tensor], None]) -> None:
    """No write reaches the value or other models, and the written model refuses to go on."""
    parameters, fresh = value(), ModelFactory(value())
    model, other = ModelFactory(parameters), ModelFactory(parameters)
    expected = fresh(X).detach()
    loss = model(X).square().mean()
    write(model.weights["0.weight"])
    assert parameters == value()
    for act in (lambda: model(X), lambda: model.backward(loss), lambda: model.with_buffers(X)):
        with pytest.raises(fnlib.WeightsOverwritten, match=r"0\.weight"):
            act()
    assert torch.equal(other(X), expected) and torch.equal(ModelFactory(parameters)(X), expected)
    assert torch.equal(other.eval()(X), expected)
    again = other.backward(other(X).square().mean())
    assert again == fresh.backward(fresh(X).square().mean())
    assert model.step(again) == fresh.step(again), "the value is whole, so a step is possible"


def test_reading_and_restoring_are_no_writes() -> None:
    parameters = value()
    model = ModelFactory(parameters)
    weight = model.weights["0.weight"]
    assert weight is model.weights["0.weight"] and weight.is_leaf and weight.requires_grad
    weight.sum().backward()  # fills .grad of a leaf of ours, which nothing reads
    before = weight.detach().clone()
    weight.data.add_(1)
    weight.data.copy_(before)
    assert torch.equal(model(X), ModelFactory(parameters)(X))
    assert list(model.weights) == list(parameters)


def test_kernels_that_ask_for_writable_memory() -> None:
    """An LSTM's kernel takes writable memory and only reads it: that's no write."""
    Recurrent = fnlib.Factory(lambda: nn.LSTM(3, 4))
    model = Recurrent(fnlib.Parameters(seed=0))
    for _ in range(2):
        loss = model(torch.ones(5, 2, 3))[0].sum()
        assert len(torch.autograd.grad(loss, list(model.weights.values()))) == 4
        assert len(model.backward(model(torch.ones(5, 2, 3))[0].sum())) == 4


def test_donated_weights_are_not_shown() -> None:
    parameters = value()
    model = ModelFactory(parameters)
    weights = model.weights
    loss = model(X).square().mean()
    gradient = model.backward(loss, retain_graph=True)
    after = model.step(gradient, donate=True)
    with pytest.raises(fnlib.Donated):
        model.weights  # noqa: B018
    with pytest.raises(fnlib.Donated):
        model.backward(loss)
    weights["0.weight"].detach().fill_(0) if weights["0.weight"].numel() else None
    assert after == ModelFactory(value()).step(plain_of(value()))


def test_a_sibling_shows_intact_leaves() -> None:
    """A write through one model's weights is not what another model of the value shows."""
    factory = fnlib.Sequential(nn.Linear(2, 1))
    start = factory(fnlib.Parameters(seed=0)).parameters
    one, other = factory(start), factory(start)
    one.weights["0.weight"].data.zero_()
    assert torch.equal(other.weights["0.weight"], start["0.weight"])
    assert other(torch.ones(1, 2)).shape == (1, 1)


def test_a_gradient_of_another_dtype_is_refused() -> None:
    """Of the same network, in double precision: the step would change the dtype of the weights."""
    factory = fnlib.Sequential(nn.Linear(2, 1))
    model = factory(fnlib.Parameters(seed=0))
    double = factory(model.parameters.to(torch.float64))
    gradient = double.backward(double(torch.ones(1, 2, dtype=torch.float64)).sum())
    with pytest.raises(fnlib.WrongParameters, match="float64"):
        model.step(gradient)


def test_an_average_with_a_graph_is_refused_by_step() -> None:
    """`lerp` towards weights that carry a graph carries it, too."""
    factory = fnlib.Sequential(nn.Linear(2, 1))
    model = factory(fnlib.Parameters(seed=0))
    scale = torch.ones((), requires_grad=True)
    other = model.parameters.replace(weights={k: w * scale for k, w in model.parameters.items()})
    mean = factory(model.parameters.lerp(other, 0.5))
    loss = mean(torch.ones(1, 2)).sum()
    with pytest.raises(fnlib.CarriesGraph):
        mean.step(mean.backward(loss))


def test_a_numpy_loss_is_named() -> None:
    """A loss that NumPy computed is no tensor, whatever its dtype."""
    model = fnlib.Sequential(nn.Linear(2, 1))(fnlib.Parameters(seed=0))
    with pytest.raises(fnlib.LossNotScalar, match="ndarray"):
        model.backward(model(torch.ones(2, 2)).detach().numpy())


# --- requires_grad_ ---------------------------------------------------------------------------


class Freezes(nn.Module):
    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.net, self.names = build(), names

    def forward(self, x: Tensor, freeze: bool = False) -> Tensor:
        for name in self.names if freeze else ():
            dict(self.net.named_parameters())[name].requires_grad_(False)
        return self.net(x)


SOME = {"one": ["0.bias"], "all": ["0.weight", "0.bias", "2.weight", "2.bias"]}


@pytest.mark.parametrize("names", SOME.values(), ids=SOME)
def test_freezing_model_weights_ends_this_model_only(names: list[str]) -> None:
    parameters = value()
    model, earlier = ModelFactory(parameters), ModelFactory(parameters)
    before = earlier(X).square().sum()
    for name in names:
        model.weights[name].requires_grad_(False)
    for use in (model, lambda x: model.backward(before)):
        with pytest.raises(fnlib.WeightsOverwritten, match=names[0]):
            use(X)
    for other in (ModelFactory(parameters), earlier, model.eval()):
        assert len(other.backward(other(X).square().sum())) == 4


@pytest.mark.parametrize("names", SOME.values(), ids=SOME)
def test_a_forward_that_freezes_weights_is_refused(names: list[str]) -> None:
    Freezing = fnlib.Factory(lambda: Freezes(names))
    parameters = Freezing(fnlib.Parameters(seed=0)).parameters
    for _ in range(2):
        model = Freezing(parameters)
        loss = model(X, freeze=True).square().sum()
        with pytest.raises(fnlib.WeightsOverwritten, match=f"net.{names[0]}"):
            model.backward(loss)
        again = Freezing(parameters)
        assert len(again.backward(again(X).square().sum())) == 4


def test_unfreezing_model_weights_ends_this_model_only() -> None:
    def partly() -> nn.Module:
        network = build()
        network[0].requires_grad_(False)
        return network

    Partly = fnlib.Factory(partly)
    parameters = Partly(fnlib.Parameters(seed=0)).parameters
    model = Partly(parameters)
    assert len(model.backward(sum(w.sum() for w in model.weights.values()))) == 2
    model.weights["0.weight"].requires_grad_(True)
    with pytest.raises(fnlib.WeightsOverwritten, match="0.weight"):
        model(X)
    again = Partly(parameters)
    assert not again.weights["0.weight"].requires_grad
    assert list(again.backward(again(X).sum())) == ["2.weight", "2.bias"]
