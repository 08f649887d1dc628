"""Recording changes nothing: not a bit of the numbers, of the random state, of copy-on-write, of what is kept alive."""

from __future__ import annotations

import contextlib
import copy
import gc
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

import fnlib
from fnlib.ledger import Ledger


class LSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 8, 2, dropout=0.3, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0][:, -1])


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 8), nn.Dropout(), nn.Linear(8, 3)), (6, 4)),
    "cnn": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)), (6, 1, 8, 8)),
    "lstm": (LSTM, (6, 5, 4)),
    "transformer": (
        lambda: nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Flatten(), nn.Linear(40, 3)), (6, 5, 8),
    ),
}  # fmt: skip


def run(
    network: str, optimizer: Callable[..., torch.optim.Optimizer], *, recorded: bool
) -> tuple[Any, ...]:
    torch.manual_seed(1)
    build, shape = NETWORKS[network]
    model = build()
    optimizer = optimizer(model.parameters())
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
    losses = []
    ledger = (
        Ledger(model=model, optimizer=optimizer, scheduler=scheduler)
        if recorded
        else contextlib.nullcontext()
    )
    with ledger:
        for step in range(4):
            x, y = torch.randn(shape), torch.randint(0, 3, shape[:1])
            optimizer.zero_grad(set_to_none=step % 2 == 0)
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
    return model.state_dict(), optimizer.state_dict(), losses, torch.get_rng_state()


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("kind", ["sgd", "adam", "fused"])
def test_a_recorded_run_is_the_plain_run(network: str, kind: str) -> None:
    optimizer = {
        "sgd": lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9),
        "adam": lambda weights: torch.optim.Adam(weights, lr=0.01),
        "fused": lambda weights: torch.optim.AdamW(weights, lr=0.01, fused=True),
    }[kind]
    plain, recorded = (run(network, optimizer, recorded=one) for one in (False, True))
    assert plain[2] == recorded[2] and torch.equal(plain[3], recorded[3])
    for name, tensor in plain[0].items():
        assert torch.equal(tensor, recorded[0][name]), name
    for number, state in plain[1]["state"].items():
        for name, tensor in state.items():
            assert torch.equal(tensor, recorded[1]["state"][number][name]), name


def test_a_functional_run_too_and_its_values_stay_copy_on_write() -> None:
    is_cow = torch._C._is_cow_tensor
    ends = []
    for recorded in (False, True):
        torch.manual_seed(1)
        ModelFactory = fnlib.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3), optimizer=fnlib.Adam()
        )
        model = ModelFactory(fnlib.Parameters())
        parameters = model.parameters
        with Ledger(model=model, parameters=parameters) if recorded else contextlib.nullcontext():
            for _ in range(3):
                output, buffers = model.with_buffers(torch.randn(6, 4))
                gradient = model.backward(output.pow(2).mean())
                parameters = model.step(gradient, buffers=buffers)
                model = ModelFactory(parameters)
        ends.append(parameters)
        if recorded:
            assert all(is_cow(tensor) for tensor in parameters._held().weights.values())
    assert ends[0] == ends[1]


def test_a_plain_tensor_does_not_become_copy_on_write() -> None:
    model = nn.Linear(2, 2)
    array = model.weight.detach().numpy()
    address = model.weight.data_ptr()
    with Ledger(model=model), torch.no_grad():
        model.weight.add_(1)
    assert not torch._C._is_cow_tensor(model.weight) and model.weight.data_ptr() == address
    model.weight.data[0, 0] = 7
    assert array[0, 0] == 7  # NumPy still sees the same memory


class Stream(IterableDataset[int]):
    """Six items, of which it promises another number."""

    def __init__(self, length: int | None) -> None:
        self.length = length

    def __iter__(self) -> Iterator[int]:
        return iter(range(6))

    def __len__(self) -> int:
        if self.length is None:
            raise NotImplementedError
        return self.length


LOADERS: dict[str, tuple[Callable[[], DataLoader[Any]], int | None]] = {
    "a list": (lambda: DataLoader([1, 2, 3], batch_size=2), 2),
    "batches by hand": (lambda: DataLoader([1, 2, 3], batch_sampler=[[0, 1], [2]]), 2),
    "items by hand": (lambda: DataLoader([1, 2, 3], sampler=(i for i in range(3))), None),
    "no batches": (lambda: DataLoader([1, 2, 3], batch_size=None), 3),
    "a stream longer than it says": (lambda: DataLoader(Stream(4)), 4),
    "a stream of no length": (lambda: DataLoader(Stream(None)), None),
}


@pytest.mark.parametrize("name", LOADERS)
def test_counting_batches_leaves_the_loader_alone(name: str) -> None:
    """No warning that the plain loop doesn't give, and no fault."""
    build, batches = LOADERS[name]
    loader = build()
    with warnings.catch_warnings(), Ledger() as ledger:
        warnings.simplefilter("error")
        for _ in loader:
            pass
    assert not ledger.faults
    assert [e.data["batches"] for e in ledger.events if e.kind == "iterator"] == [batches]


def test_autograd_is_left_alone() -> None:
    model = nn.Linear(2, 2)
    x, version = torch.randn(3, 2), model.weight._version
    with Ledger(model=model, keep=True):
        loss = model(x).sum()
        gradients = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
    assert (
        not model._forward_hooks and not model._backward_hooks and not model.weight._backward_hooks
    )
    assert [gradient.shape for gradient in gradients] == [model.weight.shape, model.bias.shape]
    assert model.weight._version == version


@pytest.mark.parametrize("depth", [0, 2])
def test_generators_that_the_program_passes_are_left_to_it(depth: int) -> None:
    model = nn.Linear(2, 2)
    x = torch.ones(1, 2)
    with Ledger(model=model, depth=depth) as ledger:
        gradients = torch.autograd.grad(model(x).sum(), model.parameters())
        model(x).sum().backward(inputs=model.parameters())
        torch.autograd.backward(
            (model(x)[:, at].sum() for at in range(2)), inputs=model.parameters()
        )
        torch.autograd.grad((model(x)[:, at].sum() for at in range(2)), model.parameters())
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        nn.utils.clip_grad_value_(model.parameters(), 1.0)
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert len(gradients) == 2 and len(ledger.entries) == 7
    assert [
        any(change.state == "gradient" for change in entry.changes) for entry in ledger.entries[:5]
    ] == [False, True, True, False, True]
    assert ledger.findings == []


def test_under_inference_mode_and_default_dtypes_and_devices() -> None:
    model = nn.BatchNorm1d(2)
    x = torch.randn(4, 2)
    torch.set_default_dtype(torch.float64)
    try:
        with Ledger(model=model) as ledger, torch.inference_mode(), torch.device("meta"):
            output = model(x)
            grown = torch.zeros(2)
    finally:
        torch.set_default_dtype(torch.float32)
    assert ledger.entries[0].inference and output.is_inference() and grown.is_meta
    assert {change.label for change in ledger.entries[0].changes if change.state == "buffer"} == {
        "model.running_mean", "model.running_var", "model.num_batches_tracked",
    }  # fmt: skip
    with Ledger(model=model):
        model(x)


def test_swapping_tensors_is_still_possible() -> None:
    model = nn.Linear(2, 2)
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with Ledger(model=model) as ledger:
            model.to(torch.float64)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)
    assert {change.label for change in ledger.entries[0].changes} >= {"model.weight", "model.bias"}


@pytest.mark.usefixtures("only_new_objects")
def test_nothing_is_kept_alive() -> None:
    def train() -> tuple[Ledger, list[weakref.ref]]:
        model = nn.Linear(2, 2)
        with Ledger(model=model) as ledger:
            for _ in range(3):
                output = model(torch.randn(3, 2))
                loss = output.sum()
                loss.backward()
        seen = [weakref.ref(output), weakref.ref(loss)]
        del output, loss
        assert [one() for one in seen] == [
            None,
            None,
        ]  # not the locals that tracing made, not the ledger
        return ledger, [weakref.ref(model)]

    ledger, refs = train()
    gc.collect()
    assert len(ledger.entries) == 12 and refs[0]() is None
    assert not [
        one
        for one in gc.get_objects()
        if type(one) in (torch.Tensor, nn.Parameter) and one.shape == (2, 2)
    ]


def a_parametrized_layer() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))


def a_function_of_its_own() -> nn.Module:
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            assert layer.training  # so that the class holds the layer
            ctx.save_for_backward(x)
            return 2 * x

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return 2 * gradient

    class Layer(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return Doubled.apply(super().forward(x))

    layer = Layer(2, 2)
    return layer


@pytest.mark.parametrize("build", [a_parametrized_layer, a_function_of_its_own])
def test_nor_is_a_class_that_was_made_for_a_single_module(build: Callable[[], nn.Module]) -> None:
    def train() -> list[weakref.ref]:
        model = build()
        with Ledger(model=model):
            loss = model(torch.randn(3, 2)).sum()
            with torch.no_grad():
                model.extra = nn.Buffer(torch.zeros(1))
                model.extra.add_(1)  # so that the backward is asked what it saved
            loss.backward()
        return [weakref.ref(part) for part in model.modules()]

    parts = train()
    gc.collect()
    assert not [one() for one in parts if one() is not None]


def test_a_long_recording_of_values_does_not_grow_with_them() -> None:
    alive = []
    ModelFactory = fnlib.Sequential(nn.Linear(2, 2))
    model = ModelFactory(fnlib.Parameters(seed=0))
    with Ledger(model=model):
        for _ in range(20):
            gradient = model.backward(model(torch.ones(1, 2)).sum())
            parameters = model.step(gradient)
            alive.append(weakref.ref(parameters))
            model = ModelFactory(parameters)
    assert sum(one() is not None for one in alive) <= 2


def test_the_interpreter_is_left_as_it_was(request: pytest.FixtureRequest) -> None:
    frozen = gc.get_freeze_count()
    gc.unfreeze()  # a frozen object that dies would change the count, too
    if frozen:
        request.addfinalizer(gc.freeze)
    before = sys.gettrace(), gc.get_freeze_count(), gc.get_threshold(), torch.is_grad_enabled()
    frame = sys._getframe()
    trace = frame.f_trace
    with Ledger(x=torch.ones(1)):
        pass
    assert (
        sys.gettrace(),
        gc.get_freeze_count(),
        gc.get_threshold(),
        torch.is_grad_enabled(),
    ) == before
    assert frame.f_trace is trace


@pytest.mark.long
def test_a_compiled_model() -> None:
    def train(*, recorded: bool) -> tuple[Any, ...]:
        torch.manual_seed(0)
        torch._dynamo.reset()
        model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        compiled = torch.compile(model, backend="eager")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        x = torch.ones(5, 4)
        compiled(x)
        with (
            Ledger(model=model, optimizer=optimizer)
            if recorded
            else contextlib.nullcontext() as ledger
        ):
            for _ in range(2):
                optimizer.zero_grad()
                output = compiled(x)
                output.sum().backward()
                optimizer.step()
        return ledger, copy.deepcopy(model.state_dict())

    (_, plain), (ledger, recorded) = train(recorded=False), train(recorded=True)
    assert all(torch.equal(tensor, recorded[name]) for name, tensor in plain.items())
    forward = ledger.entries[2]
    assert (
        forward.source == "output = compiled(x)" and not forward.acts_at_a_distance
    )  # the compiled model contains the model
    assert {change.label for change in forward.changes if change.state == "buffer"} == {
        "model.1.running_mean", "model.1.running_var", "model.1.num_batches_tracked",
    }  # fmt: skip
