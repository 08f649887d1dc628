"""Training loops to compare: stock PyTorch, fnlib, fnlib compiled, and JAX, on the same weights and batches."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import fnlib
from tests.benchmarks.measure import Step

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Task:
    """One network, its data and its update rule, written for both sides.

    Args:
        build: makes the network.
        batches: features and labels, used in turn.
        optimizer: the stock optimizer of a network's weights.
        rule: the same one of fnlib.
    """

    build: Callable[[], nn.Module]
    batches: list[Batch]
    optimizer: Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]
    rule: Any
    criterion: Callable[[Tensor, Tensor], Tensor] = nn.NLLLoss()  # noqa: RUF009  (it holds no state)


class Stock:
    """The loop that everybody writes."""

    def __init__(self, task: Task) -> None:
        torch.manual_seed(0)
        self.module = task.build()
        self.optimizer = task.optimizer(self.module.parameters())
        self.batches, self.criterion = itertools.cycle(task.batches), task.criterion

    def step(self) -> None:
        feature, label = next(self.batches)
        self.optimizer.zero_grad()
        output = self.module(feature)
        loss = self.criterion(output, label)
        loss.backward()
        self.optimizer.step()

    def state(self) -> dict[str, Tensor]:
        return self.module.state_dict()


class Functional:
    """The loop of fnlib, as the lessons write it."""

    def __init__(self, task: Task) -> None:
        self.ModelFactory = fnlib.Factory(task.build, optimizer=task.rule)
        self.model = self.ModelFactory(fnlib.Parameters(seed=0))
        self.batches, self.criterion = itertools.cycle(task.batches), task.criterion

    def step(self) -> None:
        feature, label = next(self.batches)
        output = self.model(feature)
        loss = self.criterion(output, label)
        gradient = self.model.backward(loss)
        parameters = self.model.step(gradient)
        self.model = self.ModelFactory(parameters)

    def state(self) -> dict[str, Tensor]:
        return self.model.parameters.state_dict()


class ByHand:
    """The shortest functional loop without fnlib: ``functional_call``, a gradient, new tensors.

    What it takes is the price of new values themselves. It checks nothing and keeps nothing else.
    """

    def __init__(self, task: Task, lr: float) -> None:
        torch.manual_seed(0)
        self.module, self.lr = task.build(), lr
        self.names = [name for name, _ in self.module.named_parameters()]
        self.weights = [weight.detach().requires_grad_() for weight in self.module.parameters()]
        self.batches, self.criterion = itertools.cycle(task.batches), task.criterion

    def step(self) -> None:
        feature, label = next(self.batches)
        named = dict(zip(self.names, self.weights, strict=True))
        output = torch.func.functional_call(self.module, named, (feature,))
        loss = self.criterion(output, label)
        gradient = torch.autograd.grad(loss, self.weights)
        old = [weight.detach() for weight in self.weights]
        new = torch._foreach_add(old, gradient, alpha=-self.lr)
        self.weights = [weight.requires_grad_() for weight in new]

    def state(self) -> dict[str, Tensor]:
        return {n: w.detach() for n, w in zip(self.names, self.weights, strict=True)}


class FunctionalWithBuffers(Functional):
    """The same loop, where a training forward also updates buffers."""

    def step(self) -> None:
        feature, label = next(self.batches)
        output, buffers = self.model.with_buffers(feature)
        loss = self.criterion(output, label)
        gradient = self.model.backward(loss)
        parameters = self.model.step(gradient, buffers=buffers)
        self.model = self.ModelFactory(parameters)


class Compiled:
    """The pure step of fnlib under torch.compile, its kernels called from C++ as jax.jit calls its own."""

    def __init__(self, task: Task) -> None:
        ModelFactory = fnlib.Factory(task.build, optimizer=task.rule)
        self.parameters = ModelFactory(fnlib.Parameters(seed=0)).parameters
        self.train_step = torch.compile(
            fnlib.train_step(ModelFactory, task.criterion), options={"cpp_wrapper": True}
        )
        self.batches = itertools.cycle(task.batches)

    def step(self) -> None:
        feature, label = next(self.batches)
        self.parameters, loss = self.train_step(self.parameters, feature, label)

    def state(self) -> dict[str, Tensor]:
        return self.parameters.state_dict()


class StockModels:
    """Many models in the loop that everybody writes, one after the other."""

    def __init__(self, task: Task, models: int) -> None:
        self.models = [Stock(task) for _ in range(models)]
        for seed, model in enumerate(self.models):
            torch.manual_seed(seed)
            model.module.load_state_dict(task.build().state_dict())

    def step(self) -> None:
        for model in self.models:
            model.step()

    def state(self) -> dict[str, Tensor]:
        states = [model.state() for model in self.models]
        return {name: torch.stack([state[name] for state in states]) for name in states[0]}


class Stacked:
    """As many models in one value, and one vmapped step."""

    def __init__(self, task: Task, models: int, compiled: bool = False) -> None:
        ModelFactory = fnlib.Factory(task.build, optimizer=task.rule)
        drawn = [ModelFactory(fnlib.Parameters(seed=seed)).parameters for seed in range(models)]
        self.parameters = fnlib.stack(drawn)
        step: Any = fnlib.train_step(ModelFactory, task.criterion)
        if compiled:
            step = torch.compile(step, options={"cpp_wrapper": True})
        self.train_step = torch.vmap(step, in_dims=(0, None, None))
        self.batches = itertools.cycle(task.batches)

    def step(self) -> None:
        feature, label = next(self.batches)
        self.parameters, losses = self.train_step(self.parameters, feature, label)

    def state(self) -> dict[str, Tensor]:
        return self.parameters.state_dict()


class StackedByHand:
    """The shortest vmapped step without fnlib: ``functional_call``, a gradient, new tensors.

    Its time is the price of ``torch.vmap`` itself: it checks nothing and keeps nothing but the
    weights. Compiled, it runs without ``torch.vmap``, in which fnlib's compiled step is called.
    """

    def __init__(self, task: Task, models: int, lr: float, compiled: bool = False) -> None:
        module, stock = task.build(), StockModels(task, models)
        self.weights = stock.state()

        def step(weights: dict[str, Tensor], feature: Tensor, label: Tensor) -> Any:
            def loss_of(weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
                loss = task.criterion(
                    torch.func.functional_call(module, weights, (feature,)), label
                )
                return loss, loss

            gradient, loss = torch.func.grad(loss_of, has_aux=True)(weights)
            new = {n: torch.add(w, gradient[n], alpha=-lr) for n, w in weights.items()}
            return new, loss

        self.train_step = torch.vmap(step, in_dims=(0, None, None))
        if compiled:
            self.train_step = torch.compile(self.train_step, options={"cpp_wrapper": True})
        self.batches = itertools.cycle(task.batches)

    def step(self) -> None:
        feature, label = next(self.batches)
        self.weights, losses = self.train_step(self.weights, feature, label)

    def state(self) -> dict[str, Tensor]:
        return self.weights


class Jax:
    """The 128-64-10 network with SGD in JAX and Optax, jitted, from the same weights."""

    def __init__(self, task: Task, lr: float) -> None:
        os.environ.setdefault(
            "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false"
        )  # one thread, as the others
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        import jax
        import optax

        torch.manual_seed(0)
        self.params = {
            name: jax.numpy.array(tensor.detach().numpy())
            for name, tensor in task.build().named_parameters()
        }
        self.batches = itertools.cycle(
            [
                (jax.numpy.array(feature.numpy()), jax.numpy.array(label.numpy()))
                for feature, label in task.batches
            ]
        )
        optimizer = optax.sgd(lr)
        self.state_of_optimizer = optimizer.init(self.params)

        def loss_of(params: Any, feature: Any, label: Any) -> Any:
            hidden = jax.nn.relu(feature @ params["0.weight"].T + params["0.bias"])
            output = jax.nn.log_softmax(hidden @ params["2.weight"].T + params["2.bias"], axis=1)
            return -jax.numpy.take_along_axis(output, label[:, None], axis=1).mean()

        def train_step(params: Any, state: Any, feature: Any, label: Any) -> Any:
            loss, gradient = jax.value_and_grad(loss_of)(params, feature, label)
            updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state, loss

        self.train_step, self.wait = jax.jit(train_step), jax.block_until_ready

    def step(self) -> None:
        feature, label = next(self.batches)
        self.params, self.state_of_optimizer, loss = self.train_step(
            self.params, self.state_of_optimizer, feature, label
        )
        self.wait((self.params, loss))  # JAX returns before it has computed

    def state(self) -> dict[str, Tensor]:
        import numpy

        return {name: torch.from_numpy(numpy.array(value)) for name, value in self.params.items()}


# --- the tasks ----------------------------------------------------------------------------------

BATCH = 32


def dense(rule: Any, optimizer: Callable[[Any], torch.optim.Optimizer]) -> Task:
    """The 128-64-10 network."""
    generator = torch.Generator().manual_seed(0)
    batches = [
        (
            torch.randn(BATCH, 128, generator=generator),
            torch.randint(10, (BATCH,), generator=generator),
        )
        for _ in range(8)
    ]
    return Task(
        lambda: nn.Sequential(
            nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10), nn.LogSoftmax(dim=1)
        ),
        batches,
        optimizer,
        rule,
    )


def digits(*shape: int) -> list[Batch]:
    """Handwritten digits, 8 by 8, with values from 0 to 1."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    features = torch.tensor(images, dtype=torch.float32).reshape(-1, *shape) / 16
    return list(
        zip(
            features[: 8 * BATCH].split(BATCH),
            torch.tensor(labels)[: 8 * BATCH].split(BATCH),
            strict=True,
        )
    )


def convolutional() -> Task:
    """A convolutional network with BatchNorm, on digits."""

    def build() -> nn.Module:
        first = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)
        second = nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)
        return nn.Sequential(
            *first, *second, nn.Flatten(), nn.Linear(128, 10), nn.LogSoftmax(dim=1)
        )

    return Task(
        build,
        digits(1, 8, 8),
        lambda weights: torch.optim.SGD(weights, lr=0.01),
        fnlib.SGD(lr=0.01),
    )


class RowByRow(nn.Module):
    """An LSTM that reads an image row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 64, batch_first=True)
        self.output = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        states, _ = self.lstm(image)
        return torch.log_softmax(self.output(states[:, -1]), dim=1)


def recurrent() -> Task:
    """An LSTM, on digits."""
    return Task(
        RowByRow,
        digits(8, 8),
        lambda weights: torch.optim.SGD(weights, lr=0.01),
        fnlib.SGD(lr=0.01),
    )


def many() -> Task:
    """A network of 5,000 small tensors, where what is paid for each tensor decides."""
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(4, 2, generator=generator), torch.zeros(4, dtype=torch.long)
    return Task(
        lambda: nn.Sequential(*(nn.Linear(2, 2) for _ in range(2500))),
        [batch],
        lambda weights: torch.optim.SGD(weights, lr=0.01),
        fnlib.SGD(lr=0.01),
        nn.CrossEntropyLoss(),
    )


class Updates:
    """The update of Adam alone: by the formula of fnlib, and by ``_foreach`` calls on lists."""

    def __init__(self, shapes: list[tuple[int, ...]]) -> None:
        generator = torch.Generator().manual_seed(0)
        draw = lambda: [torch.randn(*shape, generator=generator) for shape in shapes]  # noqa: E731
        self.names = [str(i) for i in range(len(shapes))]
        start, self.slopes = draw(), draw()
        self.gradient = dict(zip(self.names, self.slopes, strict=True))
        self.rule, self.count = fnlib.Adam(lr=0.001), 0
        self.value: Any = dict(zip(self.names, start, strict=True)), self.rule.init({})
        zeros = [torch.zeros_like(weight) for weight in start]
        self.lists: Any = start, zeros, zeros

    def formula(self) -> None:
        weights, state = self.value
        self.value = self.rule.update(weights, self.gradient, state)

    def foreach(self) -> None:
        weights, means, squares = self.lists
        self.count += 1
        means = torch._foreach_lerp(means, self.slopes, 1 - 0.9)
        squares = torch._foreach_mul(squares, 0.999)
        torch._foreach_addcmul_(squares, self.slopes, self.slopes, 1 - 0.999)
        root = torch._foreach_sqrt(squares)
        torch._foreach_div_(root, (1 - 0.999**self.count) ** 0.5)
        torch._foreach_add_(root, 1e-8)
        rate = 0.001 / (1 - 0.9**self.count)
        self.lists = torch._foreach_addcdiv(weights, means, root, -rate), means, squares

    def states(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return self.value[0], dict(zip(self.names, self.lists[0], strict=True))


def same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """Make sure that the two sides did the same work."""
    if a.keys() != b.keys() or not all(torch.equal(a[name], b[name]) for name in a):
        raise AssertionError(
            "the sides do not compute the same: their weights differ after the same steps"
        )


def same_numbers(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """Make sure of it where the order of additions differs."""
    if a.keys() != b.keys() or not all(
        torch.allclose(a[name], b[name], rtol=1e-3, atol=1e-3) for name in a
    ):
        raise AssertionError(
            "the sides do not compute the same: their weights differ by more than float32 explains"
        )


def measure_pair(
    task: Task, functional: type[Functional], run: Callable[[dict[str, Step]], dict[str, float]]
) -> dict[str, float]:
    """Measure a stock loop and the functional one, and make sure that they end at the same bits."""
    return measure_sides({"stock": Stock(task), "fnlib": functional(task)}, run)


def measure_sides(
    sides: dict[str, Any], run: Callable[[dict[str, Step]], dict[str, float]]
) -> dict[str, float]:
    """Measure several loops of one task, and make sure that they end at the same bits."""
    taken = run({name: side.step for name, side in sides.items()})
    first, *others = (side.state() for side in sides.values())
    for other in others:
        same_bits(first, other)
    return taken
