"""The oath over what strangers write: stock's bits, or a named error; and no side effect (promises 1, 2, 7)."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

import fnlib
from fnlib.values.trees import same_tree
from tests.core import strangers
from tests.core.loops import seed_everything
from tests.core.strangers import Linear
from tests.core.tables import loss_of

X = torch.linspace(-1, 1, 20).reshape(5, 4)


def bound(build: Any, **kwargs: Any) -> fnlib.Model:
    return fnlib.Factory(build)(fnlib.Parameters(seed=0), **kwargs)


def batch(step: int) -> Tensor:
    return torch.randn(5 - step % 2, 4, generator=torch.Generator().manual_seed(step)) + 0.1


def ids(step: int) -> Tensor:
    return torch.tensor([step % 5, (step + 2) % 5])


SAME = [
    strangers.Variational, strangers.Decays, strangers.ClipsLate, strangers.Classifier,
    strangers.MemoryBank, strangers.Resizes, strangers.LazyBias, strangers.RegistersMask,
    strangers.ActNorm, strangers.RandomConstant, strangers.CachesInClass, strangers.PreHook,
    strangers.HoldsGlobalGenerators, strangers.OwnContainers, strangers.quantized, strangers.renormed,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("build", SAME, ids=lambda build: build.__name__)
@pytest.mark.parametrize("forwards", [1, 2])
def test_stranger_trains_to_the_same_bits(build: Any, forwards: int) -> None:
    """Losses, weights, buffers and the generator, with one forward a step and with two."""
    data = ids if build is strangers.renormed else batch
    seed_everything()
    stock = build().train()
    optimizer = torch.optim.SGD(stock.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for step in range(9):
        optimizer.zero_grad()
        loss = sum(loss_of(stock(data(step + 100 * i))) for i in range(forwards))
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    drawn = torch.get_rng_state()
    seed_everything()
    ModelFactory = fnlib.Factory(build, optimizer=fnlib.SGD(lr=0.05, momentum=0.9))
    model = ModelFactory(fnlib.Parameters())
    for step in range(9):
        loss, later = 0.0, model
        for i in range(forwards):
            output, buffers = later.with_buffers(data(step + 100 * i))
            later = later.carry(buffers)
            loss = loss + loss_of(output)
        model = ModelFactory(model.step(model.backward(loss), buffers=buffers))
        assert torch.equal(loss, losses[step]), f"loss of step {step}"
    assert torch.equal(torch.get_rng_state(), drawn)
    for name, weight in stock.named_parameters():
        assert torch.equal(model.parameters[name], weight), name
    known = dict(stock.named_buffers())
    for name, buffer in model.parameters.buffers.items():
        assert torch.equal(buffer, known[name]), name


def test_grown_buffers_are_saved_and_bound_again(tmp_path: Path) -> None:
    model = bound(strangers.MemoryBank)
    output, buffers = model.with_buffers(X)
    parameters = model.step(model.backward(loss_of(output)), buffers=buffers)
    parameters.save(tmp_path / "p")
    loaded = fnlib.Parameters.load(tmp_path / "p")
    assert loaded == parameters
    again = fnlib.Factory(strangers.MemoryBank)(loaded)
    assert torch.equal(again.with_buffers(X)[0], model.factory(parameters).with_buffers(X)[0])


@pytest.mark.parametrize("build", strangers.STATEFUL, ids=lambda build: build.__name__)
def test_state_outside_of_attributes_is_refused(build: Any) -> None:
    """On the first pass already."""
    with pytest.raises((fnlib.HiddenState, fnlib.UnsupportedModule)):
        bound(build).with_buffers(X)


@pytest.mark.parametrize("build", [strangers.WarmsUp, strangers.StaleCache])
def test_state_that_shows_later_is_refused(build: Any) -> None:
    model = bound(build)
    with pytest.raises(fnlib.HiddenState):
        for _ in range(9):
            output, buffers = model.with_buffers(X)
            model = model.factory(model.step(model.backward(loss_of(output)), buffers=buffers))


def test_a_resize_after_the_first_pass_works() -> None:
    """The code of the network says that it resizes."""
    model = bound(strangers.ResizesLate)
    model.with_buffers(-X.abs())
    _, buffers = model.with_buffers(X.abs())
    assert buffers["low"].shape == (4,) and buffers["low"].eq(1).all()


@pytest.mark.parametrize("how", ["step", "carry", "carry and evaluate", "mapping"])
def test_a_resized_buffer_binds_again(how: str) -> None:
    """Whichever way it took into the value."""
    model = bound(strangers.Resizes)
    output, buffers = model.with_buffers(X)
    gradient, carried = model.backward(loss_of(output)), model.carry(buffers)
    later = {
        "step": lambda: model.step(gradient, buffers=buffers),
        "carry": lambda: carried.step(gradient),
        "carry and evaluate": lambda: carried.eval().step(gradient),
        "mapping": lambda: carried.step(gradient, buffers=dict(buffers)),
    }[how]()
    again = fnlib.Factory(strangers.Resizes)(later)  # knows the sizes from the value alone
    assert torch.equal(again.with_buffers(X)[1]["low"], buffers["low"])


@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
def test_a_hidden_resize_after_the_first_pass_is_named() -> None:
    class Writes(strangers.ResizesLate):
        def forward(self, x: Tensor) -> Tensor:
            if x.sum() > 0:
                torch.add(torch.ones(4), 1.0, out=self.low)
                self.low.add_(1)
            return Linear.forward(self, x) + self.low.sum()

    class Hides(Linear):
        forward = Writes.forward

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("low", torch.zeros(1))

    model = bound(Hides)
    model.with_buffers(-X.abs())
    with pytest.raises(fnlib.UnsupportedModule, match="resizes a buffer for the first time"):
        model.with_buffers(X.abs())
    _, buffers = model.with_buffers(X.abs())
    assert torch.equal(buffers["low"], torch.full((4,), 3.0))


# --- side effects ---------------------------------------------------------------------------------

seen_by_hook: list[Any] = []


def _collect(module: Any, args: Any, output: Any) -> None:
    seen_by_hook.append(output)


class Attribute(Linear):
    """Sets an attribute, and leaves traces elsewhere."""

    def __init__(self, log: list[int] | None = None) -> None:
        super().__init__()
        self.log = [] if log is None else log

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.last = x.shape
        self.log.append(len(x))
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor):
                value += 1
            elif isinstance(value, list):
                value.append(1)
            elif callable(value):
                value()
            elif hasattr(value, "seen"):
                value.seen = [*value.seen, x]
            else:
                next(value)
        print("forward")
        return super().forward(x)


def test_no_trace_of_judging_in_arguments() -> None:
    n, items, called = torch.zeros(()), [0], [0]
    numbers = iter(range(9))
    bound(Attribute)(X, n, items, numbers, call=lambda: called.append(1))
    assert n == 1 and items == [0, 1] and called == [0, 1] and next(numbers) == 1


def test_no_trace_of_judging_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    """Hooks, a list that the user gave to the network, what is printed, three generators."""
    log: list[int] = []

    def build() -> nn.Module:
        network = Attribute(log)
        network.register_forward_hook(_collect)
        return network

    seen_by_hook.clear()
    model = bound(build)
    random.seed(1), numpy.random.seed(1), torch.manual_seed(1)
    expected = random.random(), numpy.random.rand(), torch.rand(())
    random.seed(1), numpy.random.seed(1), torch.manual_seed(1)
    for _ in range(3):
        model(X)
    assert len(seen_by_hook) == 3 and log == [5, 5, 5]
    assert capsys.readouterr().out == "forward\n" * 3
    assert (random.random(), numpy.random.rand()) == expected[:2]
    assert torch.equal(torch.rand(()), expected[2])


def test_arguments_that_cannot_be_copied_are_named() -> None:
    with pytest.raises(fnlib.HiddenState, match="arguments can't be copied .*generator"):
        bound(Attribute)(X, (i for i in range(3)))


class CountsLinear(torch.overrides.TorchFunctionMode):
    """Counts how often a linear layer runs."""

    runs = 0

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.runs += function is nn.functional.linear
        return function(*args, **(kwargs or {}))


def test_an_attribute_that_settles_costs_nothing() -> None:
    """Of 64 passes, those of a power of two are judged, with two more runs each, three at first."""
    model = bound(strangers.Classifier)
    with CountsLinear() as count:
        for _ in range(64):
            model(X)
    assert count.runs == 64 + 3 + 2 * 6


# --- graphs behind weights ------------------------------------------------------------------------


@pytest.fixture
def parameters() -> fnlib.Parameters:
    return bound(lambda: nn.Linear(4, 4)).parameters


FACTORY = fnlib.Factory(lambda: nn.Linear(4, 4))


def scaled(parameters: fnlib.Parameters, a: Tensor) -> fnlib.Parameters:
    return parameters.replace(weights={name: parameters[name] * a for name in parameters})


def test_a_graph_behind_weights_is_kept(parameters: fnlib.Parameters) -> None:
    """A hypernetwork: the gradient of what made the weights, as functional_call gives it."""
    a, b = (torch.tensor(2.0, requires_grad=True) for _ in range(2))
    output = FACTORY(scaled(parameters, a))(X)
    module = nn.Linear(4, 4)
    stock = torch.func.functional_call(module, {n: parameters[n] * b for n in parameters}, (X,))
    assert torch.equal(output, stock)
    (mine,) = torch.autograd.grad(loss_of(output), a)
    assert torch.equal(mine, torch.autograd.grad(loss_of(stock), b)[0])


def test_an_inner_step_is_differentiated(parameters: fnlib.Parameters) -> None:
    """MAML: a gradient through a gradient step."""

    def outer(call: Any) -> Tensor:
        start = {n: parameters[n].requires_grad_() for n in parameters}
        inner = loss_of(call(start, X))
        slopes = torch.autograd.grad(inner, list(start.values()), create_graph=True)
        fast = {n: w - 0.1 * g for (n, w), g in zip(start.items(), slopes, strict=True)}
        found: Tensor = torch.autograd.grad(loss_of(call(fast, X + 1)), start["weight"])[0]
        return found

    module = nn.Linear(4, 4)
    stock = outer(lambda weights, x: torch.func.functional_call(module, weights, (x,)))
    mine = outer(lambda weights, x: FACTORY(parameters.replace(weights=weights))(x))
    assert torch.equal(mine, stock)


def test_tangents_of_weights_are_kept(parameters: fnlib.Parameters) -> None:
    forward_ad = torch.autograd.forward_ad
    with forward_ad.dual_level():
        dual = {n: forward_ad.make_dual(parameters[n], parameters[n]) for n in parameters}
        output = FACTORY(parameters.replace(weights=dual))(X)
        tangent = forward_ad.unpack_dual(output).tangent
    assert torch.equal(tangent, FACTORY(parameters)(X))  # the layer is linear in its weights


def test_a_value_that_carries_a_graph(parameters: fnlib.Parameters, tmp_path: Path) -> None:
    import pickle

    a = torch.tensor(2.0, requires_grad=True)
    value = scaled(parameters, a)
    assert not value["weight"].requires_grad and not dict(value.state_dict())["bias"].requires_grad
    model = FACTORY(value)
    gradient = model.backward(loss_of(model(X)), retain_graph=True)
    plain = FACTORY(value.replace(weights=dict(value)))
    assert gradient == plain.backward(loss_of(plain(X)))
    for refused in (
        lambda: model.step(gradient),
        lambda: value.save(tmp_path / "p"),
        lambda: pickle.dumps(value),
    ):
        with pytest.raises(fnlib.CarriesGraph, match="w.detach\\(\\) for name, w in weights.items"):
            refused()
    assert plain.step(gradient).step_count == 1


# --- weights that a forward changed ---------------------------------------------------------------


def test_carry_keeps_weights_that_a_pass_changed() -> None:
    model = bound(lambda: nn.Embedding(4, 2, max_norm=0.5))
    _, first = model.with_buffers(torch.tensor([0, 1]))
    later = model.carry(first)
    output, second = later.with_buffers(torch.tensor([2]))
    assert later.eval().weights["weight"][:2].norm(dim=1).max() <= 0.5001
    parameters = model.step(model.backward((output * 0).sum()), buffers=second)
    assert parameters["weight"][:3].norm(dim=1).max() <= 0.5001
    assert later.step({}, buffers=dict(first))["weight"][:2].norm(dim=1).max() <= 0.5001


def test_a_weight_drawn_in_forward_is_the_one_of_its_only_run() -> None:
    class Redrawn(Linear):
        def forward(self, x: Tensor) -> Tensor:
            self.seen = x.shape
            self.weight.data.copy_(torch.randn(4, 4))
            return super().forward(x)

    model = bound(Redrawn)
    torch.manual_seed(7)
    _, buffers = model.with_buffers(X)
    torch.manual_seed(7)
    assert torch.equal(buffers.weights["weight"], torch.randn(4, 4))


# --- seeds, state dicts, other errors -------------------------------------------------------------


@pytest.mark.parametrize("draw", [random.random, lambda: float(numpy.random.rand())])
def test_a_seed_holds_for_python_and_numpy(draw: Any) -> None:
    class Draws(Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * draw()

    model = bound(Draws, seed=1)
    before = random.getstate()
    assert torch.equal(model(X), model(X))
    assert random.getstate() == before
    assert not torch.equal(model(X), bound(Draws, seed=2)(X))


def test_extra_state_is_in_the_state_dict(tmp_path: Path) -> None:
    class Extra(Linear):
        version = 0

        def get_extra_state(self) -> Any:
            return {"version": 3}

        def set_extra_state(self, state: Any) -> None:
            self.version = state["version"]

    build = lambda: nn.Sequential(Extra(), nn.ReLU())  # noqa: E731
    model = bound(build)
    model.parameters.save(tmp_path / "p")
    loaded = fnlib.Factory(build)(fnlib.Parameters.load(tmp_path / "p"))
    stepped = loaded.step(loaded.backward(loss_of(loaded(X))))
    for parameters in (model.parameters, stepped, fnlib.Parameters.from_module(build())):
        network = build()
        network.load_state_dict(parameters.state_dict(), strict=True)
        assert network[0].version == 3


@pytest.mark.parametrize("state", [{"scale": torch.ones(2), "calls": 7}, {"of": object}], ids=str)
def test_extra_state_is_saved_or_comes_from_the_network(state: Any, tmp_path: Path) -> None:
    """A file holds what a value can; the network that is bound gives any other object."""

    class Extra(Linear):
        kept: Any = "of the network"

        def get_extra_state(self) -> Any:
            return self.kept

        def set_extra_state(self, state: Any) -> None:
            self.kept = state

    module = nn.Sequential(Extra())
    module[0].kept = state
    fnlib.Parameters.from_module(module).save(tmp_path / "p")
    loaded = fnlib.Parameters.load(tmp_path / "p")
    bound = fnlib.Factory(lambda: nn.Sequential(Extra()))(loaded)
    found = bound.step({}).state_dict()["0._extra_state"]
    assert same_tree(found, state if "scale" in state else "of the network")
    assert ("0._extra_state" in loaded.state_dict()) == ("scale" in state)


def test_a_sharded_network_is_refused_by_name() -> None:
    class FSDPModule:
        pass

    class FSDPLinear(FSDPModule, Linear):
        pass

    for make in (bound, lambda build: fnlib.Parameters.from_module(build())):
        with pytest.raises(fnlib.UnsupportedModule, match="wrapped by FSDP"):
            make(FSDPLinear)
