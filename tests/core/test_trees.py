"""Parameters are a tree: stacked for vmap, and a training step goes through torch.func."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, jvp, vmap
from torch.utils import _pytree as pytree

import fnlib

X, Y = torch.linspace(-1, 1, 32).reshape(8, 4), torch.linspace(0, 1, 16).reshape(8, 2)
criterion = nn.MSELoss()


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(4, 2), nn.Linear(4, 2)
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)

    def forward(self, x: Tensor) -> Any:
        return self.used(x) * self.frozen


def trained(factory: fnlib.Factory, seed: int = 0, steps: int = 0) -> fnlib.Parameters:
    parameters = factory(fnlib.Parameters(seed=seed)).parameters
    for _ in range(steps):
        parameters, _ = fnlib.train_step(factory, criterion)(parameters, X, Y)
    return parameters


def by_name(name: str, weight: Tensor) -> dict[str, Any]:
    return {"weight_decay": 0.1} if name.endswith("weight") else {}


CASES = {
    "SGD": (build, fnlib.SGD(lr=0.1)),
    "momentum": (build, fnlib.SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)),
    "fused": (build, fnlib.SGD(lr=0.1, momentum=0.9, fused=True)),
    "Adam": (build, fnlib.Adam(lr=0.01)),
    "amsgrad": (build, fnlib.Adam(lr=0.01, amsgrad=True, weight_decay=0.1)),
    "AdamW": (build, fnlib.AdamW(lr=lambda step: 0.01 / (step + 1))),
    "groups": (build, fnlib.SGD(lr=0.1, groups=by_name)),
    "batchnorm": (normed, fnlib.SGD(lr=0.1, momentum=0.9)),
    "unused and frozen": (Unused, fnlib.SGD(lr=0.1, momentum=0.9, weight_decay=0.5)),
}


def close(a: fnlib.Parameters, b: fnlib.Parameters, atol: float = 1e-6) -> None:
    (mine, kind), (theirs, other) = pytree.tree_flatten(a), pytree.tree_flatten(b)
    assert kind == other
    for x, y in zip(mine, theirs, strict=True):
        assert x.dtype == y.dtype and torch.allclose(x, y, atol=atol)


@pytest.mark.parametrize("case", CASES)
def test_a_step_of_many_models(case: str) -> None:
    """A vmapped step of stacked values is the steps of each, state and buffers included."""
    make, rule = CASES[case]
    ModelFactory = fnlib.Factory(make, optimizer=rule)
    step = fnlib.train_step(ModelFactory, criterion)
    members = [trained(ModelFactory, seed) for seed in range(3)]
    stacked = fnlib.stack(members)
    kept = fnlib.unstack(stacked)
    assert kept == members
    features = torch.stack([X, X + 1, X - 1])
    for _ in range(4):
        before = pytree.tree_map(torch.clone, stacked)
        later, losses = vmap(step, (0, 0, None))(stacked, features, Y)
        assert stacked == before, "the old value is as it was"
        stacked = later
        pairs = [step(p, x, Y) for p, x in zip(members, features, strict=True)]
        members = [parameters for parameters, _ in pairs]
        assert torch.allclose(losses, torch.stack([loss for _, loss in pairs]))
        for mine, theirs in zip(fnlib.unstack(stacked), members, strict=True):
            close(mine, theirs)
    goes_on = ModelFactory(fnlib.unstack(stacked)[1])
    output, buffers = goes_on.with_buffers(X)
    after = goes_on.step(goes_on.backward(criterion(output, Y)), buffers=buffers, donate=True)
    assert after.step_count == 5
    close(fnlib.unstack(stacked)[0], members[0])


def test_bias_correction_in_double_precision() -> None:
    """Adam's correction under vmap stays within double precision of the plain step's."""
    ModelFactory = fnlib.Factory(build, optimizer=fnlib.Adam(lr=0.3))
    step = fnlib.train_step(ModelFactory, criterion)
    one = trained(ModelFactory)
    stacked = fnlib.stack([one])
    for _ in range(60):
        one, _ = step(one, X, Y)
        stacked, _ = vmap(step, (0, None, None))(stacked, X, Y)
    close(fnlib.unstack(stacked)[0], one, atol=5e-6)


# --- meta-learning ----------------------------------------------------------------------------


def by_hand(start: dict[str, Tensor], lr: Tensor, momentum: float, steps: int) -> Tensor:
    """Unroll SGD as people write it in stock PyTorch."""
    module, weights = build(), start
    kept: dict[str, Tensor] = {}
    for _ in range(steps):
        loss = criterion(functional_call(module, weights, X), Y)
        slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        for name, slope in zip(weights, slopes, strict=True):
            kept[name] = kept[name] * momentum + slope if name in kept else slope
        weights = {name: w - lr * kept[name] for name, w in weights.items()}
    loss: Tensor = criterion(functional_call(module, weights, X + 1), Y)
    return loss


def through(weights: Any, lr: Any, start: fnlib.Parameters, steps: int) -> Tensor:
    """The same with values: steps of a factory whose rate is an argument."""
    ModelFactory = fnlib.Factory(build, optimizer=fnlib.SGD(lr=lr, momentum=0.9))
    step = fnlib.train_step(ModelFactory, criterion)
    parameters = start.replace(weights=weights)
    for _ in range(steps):
        parameters, _ = step(parameters, X, Y)
    loss: Tensor = criterion(ModelFactory(parameters)(X + 1), Y)
    return loss


@pytest.mark.parametrize("steps", [1, 3])
def test_a_gradient_through_steps(steps: int) -> None:
    """The derivative for the first weights and for the rate: torch.func and by hand agree."""
    start = trained(fnlib.Factory(build))
    leaves = {name: start[name].requires_grad_() for name in start}
    rate = torch.tensor(0.1, requires_grad=True)
    expected = torch.autograd.grad(by_hand(leaves, rate, 0.9, steps), [*leaves.values(), rate])
    found, slope = grad(through, argnums=(0, 1))(dict(start), torch.tensor(0.1), start, steps)
    assert torch.allclose(slope, expected[-1], atol=1e-7) and slope != 0
    for name, theirs in zip(start, expected, strict=False):
        assert torch.allclose(found[name], theirs, atol=1e-7)
    forwards = jacrev(through)(dict(start), torch.tensor(0.1), start, steps)
    assert all(torch.allclose(forwards[name], found[name], atol=1e-6) for name in found)
    if steps > 1:  # forward over reverse over reverse: PyTorch's own error, ZeroTensors
        return
    one = torch.tensor(1.0)
    _, tangent = jvp(
        lambda lr: through(dict(start), lr, start, steps), (torch.tensor(0.1),), (one,)
    )
    assert torch.allclose(tangent, slope, atol=1e-6)


def test_a_gradient_of_a_whole_value() -> None:
    """A value is a tree of all its floating tensors: grad returns one of its derivatives."""
    ModelFactory = fnlib.Factory(build, optimizer=fnlib.SGD(lr=0.1, momentum=0.9))
    step = fnlib.train_step(ModelFactory, criterion)
    parameters = trained(ModelFactory, steps=2)
    slopes = grad(lambda p: step(step(p, X, Y)[0], X, Y)[1])(parameters)
    assert isinstance(slopes, fnlib.Parameters) and list(slopes) == list(parameters)
    moments = slopes.optimizer_state["state"]
    assert moments["0.weight"]["momentum_buffer"].abs().sum() > 0
    assert parameters == trained(ModelFactory, steps=2)


def test_rates_side_by_side() -> None:
    """A sweep over learning rates is one vmapped step."""
    start = trained(fnlib.Factory(build))
    rates = torch.tensor([0.0, 0.1, 0.5])

    def stepped(lr: Tensor) -> Tensor:
        ModelFactory = fnlib.Factory(build, optimizer=fnlib.SGD(lr=lr))
        parameters, _ = fnlib.train_step(ModelFactory, criterion)(start, X, Y)
        return parameters["0.weight"]

    found = vmap(stepped)(rates)
    for i, rate in enumerate(rates):
        ModelFactory = fnlib.Factory(build, optimizer=fnlib.SGD(lr=float(rate)))
        expected, _ = fnlib.train_step(ModelFactory, criterion)(start, X, Y)
        assert torch.allclose(found[i], expected["0.weight"], atol=1e-7)


# --- chance, and what cannot be followed ------------------------------------------------------


def dropped() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 2))


@pytest.mark.parametrize("seed", [None, 3])
def test_dropout_in_a_stack(seed: int | None) -> None:
    ModelFactory = fnlib.Factory(dropped)
    step = fnlib.train_step(ModelFactory, criterion)
    stacked = fnlib.stack([trained(ModelFactory)] * 2)
    with pytest.raises(RuntimeError, match="randomness"):
        vmap(lambda p: step(p, X, Y, seed))(stacked)
    later, _ = vmap(lambda p: step(p, X, Y, seed), randomness="different")(stacked)
    first, second = fnlib.unstack(later)
    assert first != second, "each model drops its own"
    same, _ = vmap(lambda p: step(p, X, Y, seed), randomness="different")(stacked)
    assert (same == later) == (seed is not None)


def test_what_a_transform_cannot_follow_is_named() -> None:
    wrapped = fnlib.Factory(build, optimizer=fnlib.wrap(torch.optim.RMSprop, lr=0.1))
    renormed = fnlib.Factory(lambda: nn.Embedding(4, 2, max_norm=0.5))
    for ModelFactory, x in ((wrapped, X), (renormed, torch.tensor([0, 1]))):
        stacked = fnlib.stack([trained(ModelFactory)])
        step = fnlib.train_step(ModelFactory, lambda output, label: output.sum())
        with pytest.raises(fnlib.CannotTransform):
            vmap(step, (0, None, None))(stacked, x, Y)  # noqa: B023
    other = fnlib.Factory(build, optimizer=fnlib.SGD(lr=0.1, momentum=0.9))
    stacked = fnlib.stack([trained(other, steps=1)])
    with pytest.raises(fnlib.WrongRule):
        step = fnlib.train_step(fnlib.Factory(build, optimizer=fnlib.Adam()), criterion)
        vmap(step, (0, None, None))(stacked, X, Y)


def test_a_state_that_no_step_made_is_refused_in_a_transform() -> None:
    """As a plain step and a compiled one refuse it."""
    ModelFactory = fnlib.Factory(build, optimizer=fnlib.Adam())
    value = trained(ModelFactory, steps=1)
    state = value.optimizer_state
    del state["state"]["0.weight"]["exp_avg"]
    step = fnlib.train_step(ModelFactory, criterion)
    with pytest.raises(fnlib.WrongParameters, match="for '0.weight' it needs"):
        vmap(step, (0, None, None))(fnlib.stack([value.replace(optimizer_state=state)]), X, Y)


# --- the tree ---------------------------------------------------------------------------------


def test_leaves_are_all_tensors() -> None:
    ModelFactory = fnlib.Factory(normed, optimizer=fnlib.Adam(lr=0.1))
    parameters = trained(ModelFactory, steps=2)
    leaves, kind = pytree.tree_flatten(parameters)
    state = parameters.optimizer_state["state"]
    assert len(leaves) == len(parameters) + len(parameters.buffers) + sum(map(len, state.values()))
    assert pytree.tree_unflatten(leaves, kind) == parameters
    before = pytree.tree_map(torch.clone, parameters)
    rebuilt = pytree.tree_unflatten(leaves, kind)
    for leaf in leaves:
        leaf.zero_()
    assert parameters == before and rebuilt == before, "leaves are shares"
    for odd in ([0] * len(leaves), [None] * len(leaves), ["x"] * len(leaves)):
        again, _ = pytree.tree_flatten(pytree.tree_unflatten(odd, kind), lambda x: x is None)
        assert again == odd
    doubled = pytree.tree_map(lambda a, b: a + b, parameters, parameters)
    assert torch.equal(doubled["0.bias"], 2 * parameters["0.bias"])
    assert pytree.tree_leaves(fnlib.Parameters(seed=0)) == []


def test_a_rebuilt_value_is_a_value_before_it_is_read() -> None:
    """Its tensors get their names when somebody asks for one; until then it says the same."""
    parameters = trained(fnlib.Factory(normed, optimizer=fnlib.Adam(lr=0.1)), steps=2)
    rebuilt: Callable[[], fnlib.Parameters] = lambda: pytree.tree_map(torch.clone, parameters)  # noqa: E731
    assert rebuilt() == parameters and parameters == rebuilt()
    assert rebuilt().step_count == 2 and str(rebuilt()) == str(parameters)
    assert (
        list(rebuilt()) == list(parameters)
        and rebuilt().buffers.keys() == parameters.buffers.keys()
    )
    assert copy.deepcopy(rebuilt()) == parameters
    assert pickle.loads(pickle.dumps(rebuilt())) == parameters


def test_a_graph_in_a_rebuilt_value_is_noticed_anywhere() -> None:
    """Also when the first to read it is a transform, which follows graphs of its own."""
    ModelFactory = fnlib.Factory(build)
    leaves = pytree.tree_map(lambda leaf: leaf.clone().requires_grad_(), trained(ModelFactory))
    vmap(lambda x: x + leaves["0.bias"].sum())(X)
    with pytest.raises(fnlib.CarriesGraph):
        pickle.dumps(leaves)


def test_stack_refuses_values_of_two_kinds() -> None:
    momentum = fnlib.Factory(build, optimizer=fnlib.SGD(lr=0.1, momentum=0.9))
    first, other = trained(momentum, steps=1), trained(fnlib.Factory(build))
    faster = first.optimizer_state
    faster["param_groups"][0]["lr"] = 0.2
    cases: list[tuple[list[Any], str]] = [
        ([first, other], "rule"),
        ([first, trained(momentum, steps=2)], "step_count"),
        ([other, trained(fnlib.Factory(normed))], "names"),
        ([other, trained(fnlib.Sequential(nn.Linear(9, 3), nn.Tanh(), nn.Linear(3, 2)))], "shapes"),
        ([first, first.replace(optimizer_state=faster)], "settings"),
        ([], "empty"),
        ([3], "int"),
    ]
    for values, said in cases:
        with pytest.raises(fnlib.WrongParameters, match=said):
            fnlib.stack(values)
    for value in (other, fnlib.Parameters.from_module(nn.ReLU()), 3):
        with pytest.raises(fnlib.WrongParameters, match="stack"):
            fnlib.unstack(value)  # type: ignore[arg-type]
    with pytest.raises(fnlib.WrongParameters, match="shape"):
        momentum(fnlib.stack([first, first]))
