"""Promise 1: whatever a user writes to does not reach a value. Every way to write, on every tensor that a value hands out."""

from __future__ import annotations

import copy
import ctypes
import random
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

import fnlib
from tests.core.tables import loss_of


def through_pointer(tensor: Tensor) -> None:
    ctypes.memset(tensor.data_ptr(), 0x41, tensor.numel() * tensor.element_size())


def through_optimizer(tensor: Tensor) -> None:
    weight = nn.Parameter(tensor.detach())
    weight.grad = torch.ones_like(weight)
    torch.optim.SGD([weight], lr=1.0).step()


def through_fused_optimizer(tensor: Tensor) -> None:
    weight = nn.Parameter(tensor.detach())
    weight.grad = torch.ones_like(weight)
    torch.optim.Adam([weight], lr=1.0, fused=True).step()


def through_module(tensor: Tensor) -> None:
    layer = nn.BatchNorm1d(tensor.shape[-1])
    layer.running_mean = tensor.detach().reshape(-1, tensor.shape[-1])[0]
    layer(torch.randn(8, tensor.shape[-1]))


def assign(tensor: Tensor) -> None:
    tensor[0] = 7.0


def assign_all(tensor: Tensor) -> None:
    tensor[...] = 7.0


def augmented(tensor: Tensor) -> None:
    tensor += 7.0


WRITES: dict[str, Callable[[Tensor], Any]] = {
    "add_": lambda t: t.add_(7),
    "zero_": lambda t: t.zero_(),
    "+=": augmented,
    "t[0] =": assign,
    "t[...] =": assign_all,
    "out=": lambda t: torch.ones(t.shape, out=t),
    "add out=": lambda t: torch.add(t, 7, out=t),
    "copy_": lambda t: t.copy_(torch.full_like(t, 7)),
    "index_fill_": lambda t: t.index_fill_(0, torch.tensor([0]), 7),
    "masked_fill_": lambda t: t.masked_fill_(t == t, 7),
    "view": lambda t: t.reshape(-1).add_(7),
    "transposed": lambda t: t.t().add_(7),
    "row": lambda t: t[0].add_(7),
    "unbind": lambda t: t.unbind()[0].add_(7),
    "as_strided": lambda t: t.as_strided((1,), (1,)).add_(7),
    "view as bytes": lambda t: t.view(torch.uint8).fill_(65),
    ".data": lambda t: t.data.add_(7),
    ".detach()": lambda t: t.detach().add_(7),
    "data =": lambda t: setattr(t, "data", torch.zeros_like(t)),
    "set_": lambda t: t.set_(torch.zeros(t.shape)),
    "resize_": lambda t: t.resize_(1),
    "nn.init": lambda t: nn.init.constant_(t, 7),
    "normal_": lambda t: t.normal_(),
    "numpy": lambda t: numpy.asarray(t).fill(7),
    ".numpy()": lambda t: t.numpy().fill(7),
    "numpy of a row": lambda t: t[0].numpy().fill(7),
    "dlpack": lambda t: torch.from_dlpack(t).add_(7),
    "dlpack capsule": lambda t: torch.utils.dlpack.from_dlpack(
        torch.utils.dlpack.to_dlpack(t)
    ).add_(7),
    "numpy from dlpack": lambda t: (
        torch.from_numpy(numpy.from_dlpack(t)).add_(7)
        if False
        else torch.from_dlpack(t.detach()).fill_(7)
    ),
    "storage fill_": lambda t: t.untyped_storage().fill_(65),
    "storage item": lambda t: t.untyped_storage().__setitem__(0, 65),
    "typed storage": lambda t: torch.frombuffer(memoryview(t.numpy()), dtype=t.dtype).fill_(7),
    "pointer": through_pointer,
    "foreach": lambda t: torch._foreach_add_([t], 7.0),
    "fused kernel": lambda t: torch._fused_sgd_(
        [t],
        [torch.ones_like(t)],
        [],
        weight_decay=0,
        momentum=0,
        lr=1.0,
        dampening=0,
        nesterov=False,
        maximize=False,
        is_first_step=True,
    ),  # fmt: skip
    "optimizer": through_optimizer,
    "fused optimizer": through_fused_optimizer,
    "batchnorm": through_module,
    "swap": lambda t: torch.utils.swap_tensors(t, torch.zeros_like(t)),
    "share_memory_": lambda t: t.share_memory_().fill_(7),
    "from a saved share": lambda t: copy.copy(t).add_(7),
    "function in place": lambda t: nn.functional.relu_(t.neg_()),
    "clip_grad_norm_": lambda t: nn.utils.clip_grads_with_norm_(
        [_with_grad(t)], 1e-3, torch.tensor(1.0)
    ),
}


def _with_grad(tensor: Tensor) -> Tensor:
    weight = torch.zeros_like(tensor, requires_grad=True)
    weight.grad = tensor.detach()
    return weight


def trained() -> tuple[fnlib.Factory, fnlib.Model, fnlib.Gradient, Any]:
    ModelFactory = fnlib.Sequential(
        nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), optimizer=fnlib.Adam(lr=0.1)
    )
    model = ModelFactory(fnlib.Parameters(seed=0))
    for _ in range(2):
        output, buffers = model.with_buffers(torch.randn(8, 4))
        gradient = model.backward(loss_of(output))
        model = ModelFactory(model.step(gradient, buffers=buffers))
    return ModelFactory, model, gradient, buffers


# What is handed out, and the value behind it.
HANDED_OUT: dict[str, Callable[[fnlib.Model, fnlib.Gradient, Any], tuple[Tensor, Any]]] = {
    "parameters": lambda m, g, b: (m.parameters["0.weight"], m.parameters),
    "parameters.values()": lambda m, g, b: (next(iter(m.parameters.values())), m.parameters),
    "parameters.buffers": lambda m, g, b: (
        m.parameters.buffers["1.running_mean"][None].expand(2, 4).contiguous()
        if False
        else m.parameters.buffers["1.running_mean"].unsqueeze(0),
        m.parameters,
    ),  # fmt: skip
    "optimizer_state": lambda m, g, b: (
        m.parameters.optimizer_state["state"]["0.weight"]["exp_avg"],
        m.parameters,
    ),
    "state_dict": lambda m, g, b: (m.parameters.state_dict()["0.weight"], m.parameters),
    "model.weights": lambda m, g, b: (m.weights["0.weight"].detach(), m.parameters),
    "model.parameters": lambda m, g, b: (m.parameters["2.weight"], m.parameters),
    "gradient": lambda m, g, b: (g["0.weight"], g),
    "buffers": lambda m, g, b: (b["1.running_var"].unsqueeze(0), dict(b)),
    "replaced": lambda m, g, b: (
        m.parameters.replace(weights={"0.bias": torch.zeros(4)})["0.weight"],
        m.parameters,
    ),
    "sum of gradients": lambda m, g, b: (
        (g + fnlib.Gradient({"0.bias": torch.zeros(4)}))["0.weight"],
        g,
    ),
    "pickled copy": lambda m, g, b: (copy.deepcopy(m.parameters)["0.weight"], m.parameters),
}


def bits(value: Any) -> Any:
    """Everything in a value, copied to where no write can reach."""
    if isinstance(value, fnlib.Parameters):
        return bits([dict(value), dict(value.buffers), value.optimizer_state, value.step_count])
    if isinstance(value, Tensor):
        return (
            value.detach().clone().numpy().tobytes(),
            tuple(value.shape),
            value.stride(),
            str(value.dtype),
        )
    if isinstance(value, (dict, fnlib.Gradient)):
        return {key: bits(value[key]) for key in value}
    if isinstance(value, (list, tuple)):
        return [bits(part) for part in value]
    return value


@pytest.mark.filterwarnings("ignore")  # some of these ways to write are deprecated
@pytest.mark.parametrize("way", WRITES)
@pytest.mark.parametrize("what", HANDED_OUT)
def test_a_write_does_not_reach_the_value(what: str, way: str) -> None:
    ModelFactory, model, gradient, buffers = trained()
    tensor, value = HANDED_OUT[what](model, gradient, buffers)
    before, everything = bits(value), bits([model.parameters, gradient, dict(buffers)])
    x = torch.randn(8, 4)
    output = model.eval()(x).detach().clone()
    with torch.no_grad():
        try:
            WRITES[way](tensor)
        except (RuntimeError, TypeError, ValueError, IndexError, BufferError):  # refused
            pass
    assert bits(value) == before
    assert bits([model.parameters, gradient, dict(buffers)]) == everything
    if not torch.equal(model.weights["0.weight"], model.parameters["0.weight"]):
        assert what == "model.weights", "the write reached a leaf"
        with pytest.raises(fnlib.WeightsOverwritten):  # its own leaf: this model refuses
            model.with_buffers(x)
    fresh = ModelFactory(model.parameters).weights
    assert all(torch.equal(fresh[name], model.parameters[name]) for name in fresh), (
        "the write reached a leaf"
    )
    assert torch.equal(model.eval()(x), output), "the write reached the model"


@pytest.mark.filterwarnings("ignore")
def test_the_writes_write() -> None:
    """The table is worth something: nearly every way changes an ordinary tensor."""
    unchanged = []
    for way, write in WRITES.items():
        tensor = torch.linspace(1, 2, 16).reshape(4, 4)
        copied = tensor.clone()
        with torch.no_grad():
            write(tensor)
        if tensor.shape == copied.shape and torch.equal(tensor, copied):
            unchanged.append(way)
    assert unchanged == []


@pytest.mark.parametrize("kind", ["tensor", "numpy", "numpy before"])
def test_what_was_given_is_taken_over(kind: str) -> None:
    """A write to a tensor after it was given to a value does not reach the value either."""
    for make in (
        lambda t: fnlib.Gradient({"weight": t}),
        lambda t: fnlib.Parameters.from_module(nn.Linear(4, 4)).replace(weights={"weight": t}),
        lambda t: fnlib.Parameters.from_module(nn.Linear(4, 4)).replace(
            optimizer_state={"state": {"weight": t}}
        ),
    ):
        array = numpy.ones((4, 4), dtype=numpy.float32)
        tensor = torch.from_numpy(array) if kind == "numpy" else torch.ones(4, 4)
        view = tensor.numpy()
        value: Any = make(tensor)
        if kind == "tensor":
            tensor.add_(7)
        elif kind == "numpy":
            array[...] = 7
        else:
            view[...] = 7
        moments = None if isinstance(value, fnlib.Gradient) else value.optimizer_state
        held = moments["state"]["weight"] if moments else value["weight"]
        assert held.eq(1).all()


class KeepsInput(nn.Module):
    """A buffer that becomes the input itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("last", torch.zeros(5, 4))

    def forward(self, x: Tensor) -> Tensor:
        self.last = x
        return self.layer(x)


def test_an_input_that_becomes_a_buffer_is_taken_over() -> None:
    model = fnlib.Factory(KeepsInput)(fnlib.Parameters())
    x = torch.ones(5, 4)
    view = x.numpy()
    output, buffers = model.with_buffers(x)
    parameters = model.step(model.backward(output.sum()), buffers=buffers)
    x.add_(1)
    view += 1
    assert buffers["last"].eq(1).all()
    assert parameters.buffers["last"].eq(1).all()


def test_buffers_given_as_a_dict_are_taken_over() -> None:
    model = fnlib.Sequential(nn.BatchNorm1d(4))(fnlib.Parameters())
    output, buffers = model.with_buffers(torch.randn(5, 4))
    given = {name: buffers[name] for name in reversed(list(buffers))}  # in any order
    view = given["0.running_mean"].numpy()
    expected = buffers["0.running_mean"].clone()
    parameters, later = (
        model.step(model.backward(loss_of(output)), buffers=given),
        model.carry(given),
    )
    view[...] = 7
    assert torch.equal(parameters.buffers["0.running_mean"], expected)
    assert list(parameters.buffers) == ["0.running_mean", "0.running_var", "0.num_batches_tracked"]
    assert torch.equal(later.with_buffers(torch.zeros(5, 4))[1]["0.running_mean"], expected * 0.9)
    assert torch.equal(
        fnlib.Sequential(nn.BatchNorm1d(4))(parameters).eval()(torch.zeros(1, 4)).isfinite(),
        torch.ones(1, 4, dtype=torch.bool),
    )


def test_a_pass_touches_no_grad_no_flag_no_generator() -> None:
    ModelFactory = fnlib.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    model = ModelFactory(fnlib.Parameters(seed=0), seed=1)
    x = torch.randn(5, 4, requires_grad=True)
    states = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].copy()
    loss = model(x).sum()
    model.step(model.backward(loss))
    ModelFactory(fnlib.Parameters(seed=5)).eval()(x)
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert numpy.array_equal(numpy.random.get_state()[1], states[2])
    assert x.grad is None
    assert all(weight.grad is None for weight in model._leaves.all)


def test_values_refuse_assignment() -> None:
    _, model, gradient, buffers = trained()
    for value, right in (
        (model.parameters, "parameters = parameters.replace(weights={'0.weight': tensor})"),
        (gradient, "gradient = fnlib.Gradient({**gradient, '0.weight': tensor})"),
    ):
        for write in (
            lambda v: v.__setitem__("0.weight", torch.zeros(4, 4)),
            lambda v: v.__delitem__("0.weight"),
        ):
            with pytest.raises(fnlib.Immutable) as caught:
                write(value)
            assert "never change: every other name" in str(caught.value) and right in str(
                caught.value
            )
        for attribute in ("anything", "norm", "step_count"):
            with pytest.raises((AttributeError, fnlib.Immutable)):
                setattr(value, attribute, 3)
    for mapping in (model.weights, model.parameters.buffers, buffers):
        with pytest.raises(TypeError):
            mapping["0.weight"] = torch.zeros(4, 4)  # type: ignore[index]
    state = model.parameters.optimizer_state
    state["state"].clear()
    state["param_groups"][0]["lr"] = 7
    assert (
        model.parameters.optimizer_state["state"]
        and model.parameters.optimizer_state["param_groups"][0]["lr"] == 0.1
    )
