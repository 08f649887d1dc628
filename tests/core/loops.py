"""The stock loop and the functional one, side by side, and what they must agree on."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy
import torch
from torch import Tensor, nn

import fnlib
from tests.core.tables import Network, loss_of

Optimize = Callable[[nn.Module], torch.optim.Optimizer]
STEPS = 20


def seed_everything() -> None:
    """Some optimizers draw from NumPy's or Python's generator."""
    random.seed(0)
    numpy.random.seed(0)
    torch.manual_seed(0)


def stock_run(
    row: Network,
    optimize: Optimize,
    steps: int = STEPS,
    schedule: Callable[[int], float] | None = None,
) -> tuple[nn.Module, torch.optim.Optimizer, list[Tensor]]:
    """Train as everybody does."""
    seed_everything()
    module = row.build()
    module.train()
    for path, mode in (
        {"": row.training} if isinstance(row.training, bool) else row.training
    ).items():
        module.get_submodule(path).train(mode)
    optimizer = optimize(module)
    losses = []
    for step in range(steps):
        args, kwargs = row.batch(step)
        if schedule is not None:
            for group in optimizer.param_groups:
                group["lr"] = schedule(step)
        optimizer.zero_grad()
        loss = loss_of(module(*args, **kwargs))
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return module, optimizer, losses


def functional_run(
    row: Network, rule: Any, steps: int = STEPS, **step_arguments: Any
) -> tuple[fnlib.Parameters, list[Tensor]]:
    """Train with values."""
    seed_everything()
    ModelFactory = fnlib.Factory(row.build, optimizer=rule)
    model = ModelFactory(fnlib.Parameters(), training=row.training)
    losses = []
    for step in range(steps):
        args, kwargs = row.batch(step)
        if row.buffers:
            output, buffers = model.with_buffers(*args, **kwargs)
        else:
            output, buffers = model(*args, **kwargs), None
        loss = loss_of(output)
        gradient = model.backward(loss)
        before = (
            None if step_arguments.get("donate") else copy.deepcopy((model.parameters, gradient))
        )
        parameters = model.step(gradient, buffers=buffers, **step_arguments)
        assert before is None or before[0] == model.parameters, "step changed the old value"
        assert before is None or before[1] == gradient, "step changed the gradient"
        model = ModelFactory(parameters, training=row.training)
        losses.append(loss.detach())
    return model.parameters, losses


def assert_same_tensor(mine: Tensor, stock: Tensor, what: str) -> None:
    assert mine.dtype == stock.dtype, f"{what}: {mine.dtype} is not {stock.dtype}"
    assert mine.shape == stock.shape, (
        f"{what}: shape {tuple(mine.shape)} is not {tuple(stock.shape)}"
    )
    if stock.is_sparse:
        mine, stock = mine.to_dense(), stock.to_dense()
    equal = torch.equal(mine.nan_to_num(123.0), stock.detach().nan_to_num(123.0))
    assert equal and torch.equal(mine.isnan(), stock.isnan()), (
        f"{what}: differs by {(mine - stock).abs().max()}"
    )


def assert_same_state(mine: Any, stock: Any, what: str) -> None:
    """Compare what an optimizer keeps for a weight."""
    if isinstance(stock, Tensor):
        assert isinstance(mine, Tensor), f"{what}: {mine!r} is no tensor"
        assert_same_tensor(mine, stock, what)
    elif isinstance(stock, Mapping):
        assert set(mine) == set(stock), (
            f"{what}: {sorted(map(str, mine))} is not {sorted(map(str, stock))}"
        )
        for key in stock:
            assert_same_state(mine[key], stock[key], f"{what}.{key}")
    elif isinstance(stock, (list, tuple)):
        assert len(mine) == len(stock), what
        for i, (a, b) in enumerate(zip(mine, stock, strict=True)):
            assert_same_state(a, b, f"{what}[{i}]")
    elif isinstance(stock, float):
        assert mine == stock or (mine != mine and stock != stock), f"{what}: {mine} is not {stock}"
    elif stock is None or isinstance(stock, (int, str)):
        assert mine == stock, f"{what}: {mine!r} is not {stock!r}"


def assert_same_run(
    parameters: fnlib.Parameters,
    losses: list[Tensor],
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    stock_losses: list[Tensor],
) -> None:
    """Hold a functional run to a stock one: losses, weights, strides, buffers, optimizer state."""
    for step, (mine, stock) in enumerate(zip(losses, stock_losses, strict=True)):
        assert_same_tensor(mine, stock, f"loss of step {step}")
    named = dict(module.named_parameters())
    assert list(parameters) == list(named)
    for name, weight in named.items():
        assert_same_tensor(parameters[name], weight, name)
        assert parameters[name].stride() == weight.stride(), f"{name}: strides"
    buffers = dict(module.named_buffers())
    assert list(parameters.buffers) == list(buffers)
    for name, buffer in buffers.items():
        assert_same_tensor(parameters.buffers[name], buffer, name)
    state = parameters.optimizer_state["state"]
    names = {weight: name for name, weight in named.items()}
    stock_state = {names[key]: value for key, value in optimizer.state.items() if key in names}
    assert set(state) == set(stock_state), (
        f"state of {sorted(state)}, stock of {sorted(stock_state)}"
    )
    for name, entries in stock_state.items():
        assert_same_state(state[name], entries, f"state of {name}")
    shared = {key: value for key, value in optimizer.state.items() if isinstance(key, str)}
    assert_same_state(parameters.optimizer_state.get("shared", {}), shared, "shared state")
