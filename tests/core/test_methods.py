"""Other methods than forward: each leaves the factory's network as it was, or is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fnlib

X = torch.linspace(-1, 1, 20).reshape(5, 4)


class Own(nn.Module):
    """A network whose methods change what a stock module would let them change."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.fixed = nn.Parameter(torch.ones(4), requires_grad=False)

    def forward(self, x: Tensor, **_: Any) -> Tensor:
        return self.net(x) * self.fixed

    def decode(self, x: Tensor, method: str = "a") -> Tensor:
        return self.net[0](x) * len(method)

    def sleep(self, x: Tensor) -> Tensor:
        self.eval()
        return self.net[0](x)

    def freeze(self) -> None:
        self.requires_grad_(False)

    def freeze_and_fail(self) -> None:
        self.requires_grad_(False)
        raise OSError("no such file")

    def unfreeze(self) -> None:
        self.fixed.requires_grad_(True)

    def grow(self) -> None:
        self.net.append(nn.Sigmoid())

    def exchange(self) -> None:
        self.net[2] = nn.Identity()

    def shrink(self) -> None:
        del self.net[2]

    def hook(self) -> None:
        self.net[2].register_forward_hook(lambda module, args, output: args[0])

    def more(self) -> None:
        self.net[0].register_buffer("more", torch.ones(1))

    def fill(self) -> None:
        nn.init.zeros_(self.net[0].weight)

    def fill_and_fail(self) -> None:
        nn.init.zeros_(self.net[0].weight)
        raise OSError("no such file")

    def halve(self) -> None:
        self.half()

    def part(self) -> nn.Module:
        return self.net

    def fresh(self) -> nn.Module:
        return nn.Linear(1, 1)


STOCK = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
OF_EVERY_MODULE: list[tuple[Any, ...]] = [
    ("eval",),
    ("train", False),
    ("requires_grad_", False),
    ("append", nn.Sigmoid()),
    ("insert", 0, nn.Sigmoid()),
    ("extend", [nn.Sigmoid()]),
    ("pop", 1),
    ("__setitem__", 1, nn.Identity()),
    ("__delitem__", 1),
    ("__getitem__", 1),
    ("add_module", "more", nn.Sigmoid()),
    ("register_buffer", "more", torch.ones(1)),
    ("register_parameter", "more", nn.Parameter(torch.ones(1))),
    ("register_forward_hook", lambda module, args, output: args[0]),
    ("to", torch.float16),
    ("half",),
    ("double",),
    ("share_memory",),
    ("apply", lambda module: module.eval()),
    ("apply", lambda module: [nn.init.zeros_(w) for w in module.parameters(recurse=False)]),
    ("load_state_dict", STOCK.state_dict()),
    ("zero_grad",),
    ("parameters",),
    ("modules",),
    ("state_dict",),
    ("__setattr__", "training", False),
]
REFUSED = {
    "freeze": "requires_grad of 'net.0.weight', 'net.0.bias'",
    "freeze_and_fail": "no such file",
    "unfreeze": "requires_grad of 'fixed'",
    "grow": "`grow` changes 'Sequential._modules'",
    "exchange": "`exchange` changes 'Sequential._modules'",
    "shrink": "`shrink` changes 'Sequential._modules'",
    "hook": "`hook` changes 'Dropout._forward_hooks'",
    "more": "`more` changes 'Linear._buffers'",
    "fill": "changed 'net.0.weight'",
    "fill_and_fail": "no such file",
    "halve": "changed 'net.1.running_mean', .* 'net.0.weight'",
    "part": "returns one of its own modules",
}


def run(ModelFactory: fnlib.Factory, parameters: fnlib.Parameters) -> Any:
    """What a model made now computes: an output, a gradient, what is trained."""
    model = ModelFactory(parameters, seed=1)
    output, _ = model.with_buffers(X)
    return output.detach(), model.backward(output.square().sum())


def assert_as_it_was(ModelFactory: fnlib.Factory, parameters: fnlib.Parameters, build: Any) -> None:
    (now, slopes), (then, expected) = (
        run(factory, parameters) for factory in (ModelFactory, fnlib.Factory(build))
    )
    assert torch.equal(now, then) and slopes == expected
    assert (now == 0).any(), "dropout drops nothing"


@pytest.mark.parametrize("call", OF_EVERY_MODULE, ids=lambda call: call[0])
def test_a_method_of_every_module_is_refused(call: tuple[Any, ...]) -> None:
    ModelFactory = fnlib.Factory(lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)))
    model = ModelFactory(fnlib.Parameters(seed=0))
    with pytest.raises(fnlib.UnsupportedModule, match="All models|all models"):
        model.call(*call)
    assert_as_it_was(
        ModelFactory, model.parameters, lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    )


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # half() asks for it
@pytest.mark.parametrize("method", REFUSED)
def test_a_method_that_changes_the_network_is_refused(method: str) -> None:
    ModelFactory = fnlib.Factory(Own)
    model = ModelFactory(fnlib.Parameters(seed=0))
    for _ in range(3):
        with pytest.raises(Exception, match=REFUSED[method]) as caught:
            model.call(method)
        assert isinstance(caught.value, (fnlib.FnlibError, OSError))
    assert_as_it_was(ModelFactory, model.parameters, Own)


def test_a_method_that_only_computes_leaves_the_network() -> None:
    """A switch that it leaves behind is put back, and so is a name that `call` uses itself."""
    ModelFactory = fnlib.Factory(Own)
    model = ModelFactory(fnlib.Parameters(seed=0))
    for _ in range(3):
        model.call("sleep", X)
        assert isinstance(model.call("fresh"), nn.Linear)
    assert model.call("decode", X, method="zz").equal(model.call("decode", X) * 2)
    assert_as_it_was(ModelFactory, model.parameters, Own)


def test_a_switch_of_a_network_of_stock_layers_is_put_back() -> None:
    def build() -> nn.Module:
        network = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
        network.sleep = lambda: network.eval() and None
        return network

    ModelFactory = fnlib.Factory(build)
    model = ModelFactory(fnlib.Parameters(seed=0))
    model.call("sleep")
    assert_as_it_was(ModelFactory, model.parameters, build)
