"""Train a model with stock PyTorch and with fnlib from one seed, and compare every bit."""

from __future__ import annotations

import copy
import dataclasses
import random
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import torch
from torch import Generator, Tensor, nn

import fnlib

STEPS = 3
RULES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "SGD": (fnlib.SGD, torch.optim.SGD, {"lr": 1e-3, "momentum": 0.9}),
    "Adam": (fnlib.Adam, torch.optim.Adam, {"lr": 1e-3}),
}
State = dict[str, Any]  # losses, tensors by name, and states of generators, after a run


@dataclasses.dataclass(frozen=True)
class Model:
    """One model: how it is built, what goes in, and which loss comes out.

    Args:
        name: "library/architecture".
        build: builds it with random weights, and asks no network.
        batch: draws the arguments and keywords of one step from a generator.
        loss: the loss of an output, given the generator too.
    """

    name: str
    build: Callable[[], nn.Module]
    batch: Callable[[Generator], tuple[tuple[Any, ...], dict[str, Any]]]
    loss: Callable[[Any], Tensor] | None = None


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of one model.

    Args:
        name: of the model.
        kind: "exact", "refused", "wrong", "crashed", or "stock" where stock PyTorch doesn't run it
            or doesn't repeat itself.
        detail: the error, or the first tensor that differs.
        seconds: for all runs.
    """

    name: str
    kind: str
    detail: str = ""
    seconds: float = 0.0


def compare(model: Model) -> Result:
    """Train a model on both sides with each rule."""
    for rule in RULES:
        try:
            expected = stock(model, rule)
        except Exception as error:
            return Result(model.name, "stock", _line(error))
        try:
            found = functional(model, rule)
        except fnlib.errors.FnlibError as error:
            return Result(model.name, "refused", f"{type(error).__name__}: {_line(error)}")
        except Exception as error:
            return Result(model.name, "crashed", f"{rule}: {_line(error)}{_where(error)}")
        if (differs := difference(found, expected)) is not None:
            if difference(stock(model, rule), expected) is not None:
                return Result(model.name, "stock", "two stock runs differ")
            return Result(model.name, "wrong", f"{rule}: {differs}")
    return Result(model.name, "exact")


def stock(model: Model, rule: str) -> State:
    """Train as everybody does."""
    _seed()
    module = model.build().train()
    optimizer = RULES[rule][1](module.parameters(), **RULES[rule][2])
    losses = []
    for step in range(STEPS):
        args, kwargs = _batch(model, step)
        optimizer.zero_grad()
        loss = (model.loss or loss_of)(module(*args, **kwargs))
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    tensors = {k: v for k, v in module.state_dict().items() if isinstance(v, Tensor)}
    unsaved = {name: buffer for name, buffer in module.named_buffers() if name not in tensors}
    generators = _generators()
    return {"losses": losses, "tensors": tensors, "unsaved": unsaved, "generators": generators}


def functional(model: Model, rule: str) -> State:
    """Train with values."""
    _seed()
    ModelFactory = fnlib.Factory(model.build, optimizer=RULES[rule][0](**RULES[rule][2]))
    bound = ModelFactory(fnlib.Parameters())
    losses = []
    for step in range(STEPS):
        args, kwargs = _batch(model, step)
        output, buffers = bound.with_buffers(*args, **kwargs)
        loss = (model.loss or loss_of)(output)
        del output
        parameters = bound.step(bound.backward(loss), buffers=buffers)
        bound = ModelFactory(parameters)
        losses.append(loss.detach())
    tensors = {**bound.parameters.state_dict(), **bound.parameters.buffers}
    return {"losses": losses, "tensors": tensors, "generators": _generators()}


def difference(found: State, expected: State) -> str | None:
    """Name the first thing that differs."""
    for step, (a, b) in enumerate(zip(found["losses"], expected["losses"], strict=True)):
        if not same(a, b):
            return f"loss of step {step}: {a.item()} is not {b.item()}"
    mine, theirs = found["tensors"], expected["tensors"]
    if missing := sorted(theirs.keys() - mine.keys()):
        return f"{missing[0]} is missing"
    # A buffer that is None until a forward fills it is a cache, which no value holds.
    theirs = {**theirs, **{k: v for k, v in expected["unsaved"].items() if k in mine}}
    for name in theirs:
        if not same(mine[name], theirs[name]):
            return f"{name} differs"
    names = ("PyTorch", "Python", "NumPy")
    pairs = zip(names, found["generators"], expected["generators"], strict=True)
    return next((f"{name}'s generator is elsewhere" for name, a, b in pairs if a != b), None)


def same(a: Tensor, b: Tensor) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(a.detach().nan_to_num(7.0), b.detach().nan_to_num(7.0))


def loss_of(output: Any) -> Tensor:
    """A loss that every number of an output takes part in, each with another weight."""
    total = torch.zeros((), dtype=torch.float64)
    for leaf in tensors_in(output, set()):
        if (leaf.is_floating_point() or leaf.is_complex()) and leaf.grad_fn is not None:
            flat = (torch.view_as_real(leaf) if leaf.is_complex() else leaf).reshape(-1).double()
            weights = torch.linspace(0.5, 1.5, len(flat), dtype=torch.float64)
            total = total + (flat * weights - 0.3).square().mean()
    return total


def tensors_in(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """Find the tensors of an output: in containers, in dataclasses, in the attributes of objects."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item, seen)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item, seen)
    elif hasattr(value, "__dict__") and not isinstance(value, (type, nn.Module)):
        yield from tensors_in(vars(value), seen)


def _batch(model: Model, step: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return copy.deepcopy(model.batch(Generator().manual_seed(100 + step)))


def _seed() -> None:
    random.seed(0)
    numpy.random.seed(0)
    torch.manual_seed(0)


def _generators() -> tuple[Any, ...]:
    of_numpy = numpy.random.get_state()
    return (
        torch.get_rng_state().tolist(),
        random.getstate(),
        (of_numpy[1].tolist(), of_numpy[2]),
    )


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:200]


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    last = [frame for frame in frames if "/fnlib/" in frame.filename][-1:]
    return "".join(f" ({frame.name}, line {frame.lineno})" for frame in last)
