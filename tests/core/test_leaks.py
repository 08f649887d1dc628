"""Promise 6: nothing leaks. Memory after many steps is memory after a few; no graph outlives its step."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fnlib
from tests.core import networks as nets
from tests.core.tables import loss_of

pytestmark = pytest.mark.usefixtures("only_new_objects")
X = torch.linspace(-1, 1, 20).reshape(5, 4)


def tensors() -> list[Tensor]:
    return [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]


def tensors_alive() -> int:
    gc.collect()
    return len(tensors()) + sum(issubclass(type(thing), nn.Module) for thing in gc.get_objects())


def resident() -> int:
    """Return the bytes of memory of our own, without the pages of libraries.

    A busy system drops pages of code that nobody has used for a while, and they come back later.
    """
    _, pages, of_files, *_ = map(int, Path("/proc/self/statm").read_text().split())
    return (pages - of_files) * os.sysconf("SC_PAGE_SIZE")


def with_batchnorm() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))


CASES: dict[str, tuple[Callable[[], nn.Module], Any, dict[str, Any], bool]] = {
    "SGD": (with_batchnorm, fnlib.SGD(lr=0.01), {}, False),
    "Adam": (with_batchnorm, fnlib.Adam(), {}, False),
    "Adam, donated": (with_batchnorm, fnlib.Adam(), {}, True),
    "fused, donated": (with_batchnorm, fnlib.Adam(fused=True), {}, True),
    "wrapped": (with_batchnorm, fnlib.wrap(torch.optim.RMSprop), {}, False),
    "seeded": (with_batchnorm, fnlib.SGD(), {"seed": 1}, False),
    "scheduled": (with_batchnorm, fnlib.SGD(lr=lambda step: 1 / (1 + step)), {}, False),
    "attributes": (nets.Caching, fnlib.SGD(), {}, False),
    "checkpointed": (nets.Checkpointed, fnlib.SGD(), {}, False),
    "function as output": (nets.ReturnsFunction, fnlib.SGD(), {}, False),
    "weights written in forward": (nets.LateClip, fnlib.SGD(), {}, False),
    "parametrized": (nets.new_weight_norm, fnlib.SGD(), {}, False),
    "recurrent": (lambda: nn.Sequential(nn.Linear(4, 4), nn.GRUCell(4, 4)), fnlib.SGD(), {}, False),
}


def train(
    ModelFactory: fnlib.Factory,
    parameters: fnlib.Parameters,
    steps: int,
    bind: dict[str, Any],
    donate: bool,
) -> fnlib.Parameters:
    for _ in range(steps):
        model = ModelFactory(parameters, **bind)
        output, buffers = model.with_buffers(X)
        loss = loss_of(output(1.0) if callable(output) else output)
        parameters = model.step(model.backward(loss), buffers=buffers, donate=donate)
    return parameters


@pytest.mark.parametrize("case", CASES)
def test_tensors_alive_do_not_grow(case: str) -> None:
    build, rule, bind, donate = CASES[case]
    ModelFactory = fnlib.Factory(build, optimizer=rule)
    parameters = train(
        ModelFactory, ModelFactory(fnlib.Parameters(seed=0)).parameters, 12, bind, donate
    )
    before = tensors_alive()
    parameters = train(ModelFactory, parameters, 12, bind, donate)
    assert tensors_alive() <= before
    assert parameters.step_count == 24


@pytest.mark.parametrize("case", ["SGD", "Adam", "seeded"])
def test_nothing_waits_for_the_garbage_collector(case: str) -> None:
    """No reference cycles: what a step leaves behind is gone at once."""
    build, rule, bind, donate = CASES[case]
    ModelFactory = fnlib.Factory(build, optimizer=rule)
    parameters = train(
        ModelFactory, ModelFactory(fnlib.Parameters(seed=0)).parameters, 3, bind, donate
    )
    gc.collect()
    gc.disable()
    try:
        parameters = train(ModelFactory, parameters, 1, bind, donate)
        before = len(tensors())
        parameters = train(ModelFactory, parameters, 10, bind, donate)
        assert len(tensors()) <= before
    finally:
        gc.enable()


class Token:
    """Lives as long as the node of autograd's graph that it is kept in."""


class Marked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, token: Token) -> Tensor:
        ctx.token = token
        return x * 1

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], None


def test_no_node_outlives_its_step() -> None:
    ModelFactory = fnlib.Factory(with_batchnorm, optimizer=fnlib.Adam())
    model = ModelFactory(fnlib.Parameters(seed=0))
    output, buffers = model.with_buffers(X)
    token = Token()
    loss = loss_of(Marked.apply(output, token))
    node, activation = weakref.ref(token), weakref.ref(output)
    del token
    assert node() is not None
    gradient = model.backward(loss)
    parameters = model.step(gradient, buffers=buffers)
    for value in (parameters, gradient):
        for tensor in value.values():
            assert tensor.grad_fn is None and not tensor.requires_grad
    for tensor in (*buffers.values(), *parameters.buffers.values()):
        assert tensor.grad_fn is None and not tensor.requires_grad
    del loss, output, tensor
    assert node() is None and activation() is None


class Averages(nn.Module):
    """Writes a tensor with a graph into its buffer, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        self.mean.mul_(0.9).add_(y.mean(0))
        return y


def test_buffers_carry_no_graph() -> None:
    model = fnlib.Factory(Averages)(fnlib.Parameters(seed=0))
    output, buffers = model.with_buffers(X)
    parameters = model.step(model.backward(output.sum()), buffers=buffers)
    for tensor in (buffers["mean"], parameters.buffers["mean"]):
        assert tensor.grad_fn is None and not tensor.requires_grad


def test_an_old_value_is_gone_when_it_is_let_go() -> None:
    ModelFactory = fnlib.Factory(with_batchnorm)
    model = ModelFactory(fnlib.Parameters(seed=0))
    output, buffers = model.with_buffers(X)
    parameters = model.step(model.backward(loss_of(output)), buffers=buffers)
    old = weakref.ref(model.parameters)
    weight = weakref.ref(model.parameters._held().weights["0.weight"])
    leaf = weakref.ref(model._leaves.all[0])
    del model, output, buffers
    assert old() is None and weight() is None and leaf() is None
    assert parameters.step_count == 1


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("donate", [False, True], ids=["kept", "donated"])
def test_memory_after_ten_thousand_steps(donate: bool) -> None:
    """A graph, a moment or a cache entry that stayed would show: each step moves 70 kB of weights."""
    ModelFactory = fnlib.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64))
    x = torch.randn(4, 64)

    def steps(parameters: fnlib.Parameters, n: int) -> fnlib.Parameters:
        for _ in range(n):
            model = ModelFactory(parameters)
            parameters = model.step(model.backward(model(x).square().mean()), donate=donate)
        return parameters

    parameters = steps(ModelFactory(fnlib.Parameters(seed=0)).parameters, 500)
    before = resident()
    steps(parameters, 9_500)
    assert resident() - before < 4e6


def test_the_old_and_the_new_value_and_never_more() -> None:
    """Without donation: memory after a step is that of two values; with it, of one."""
    ModelFactory = fnlib.Sequential(nn.Linear(64, 64, bias=False))
    x = torch.ones(1, 64)

    def distinct(*values: Any) -> int:
        return len(
            {
                tensor.untyped_storage()._cdata
                for value in values
                for tensor in value._held().weights.values()
            }
        )

    model = ModelFactory(fnlib.Parameters(seed=0))
    new = model.step(model.backward(model(x).sum()))
    assert distinct(model.parameters, new) == 2
    gc.collect()
    sizes = [
        tensor for tensor in tensors() if tensor.shape == (64, 64) and tensor.device.type == "cpu"
    ]
    addresses = {tensor.const_data_ptr() for tensor in sizes if tensor.numel()}
    assert len(addresses) <= 2
