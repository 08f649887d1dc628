"""What a forward pass may do to its module: be exact, or be refused by name; and never reach a value (promises 1, 2, 7)."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import fnlib
from tests.core import networks as nets
from tests.core.tables import loss_of


def bound(build: Any, **kwargs: Any) -> fnlib.Model:
    return fnlib.Factory(build)(fnlib.Parameters(seed=0), **kwargs)


X = torch.linspace(-1, 1, 20).reshape(5, 4)
STATEFUL = [
    "tensor replaced",
    "tensor in place",
    "number",
    "list",
    "dict",
    "deque",
    "nested",
    "object",
]


@pytest.mark.parametrize("how", STATEFUL)
@pytest.mark.parametrize("keep", [False, True])
def test_state_in_attributes_is_refused(how: str, keep: bool) -> None:
    model = bound(lambda: nets.remembers(how))
    for _ in range(2):  # and again, not only once
        with pytest.raises(
            fnlib.HiddenState, match="when it runs again with the same parameters and input"
        ) as caught:
            model.with_buffers(X) if keep else model(X)
        assert "state" in str(caught.value)
        assert "self.register_buffer(" in str(caught.value)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (nets.GrowsBuffer, "'mean' of its module and adds or removes them while it runs"),
        (nets.GrowsLayer, "'more' of its module and adds or removes them while it runs"),
        (nets.NoneBuffer, "'mean' of its module and adds or removes them while it runs"),
        (nets.EmptiesBuffer, "'mean' of its module and adds or removes them while it runs"),
        (nets.OwnGenerator, "'generator' of its module and gives a different output"),
        (
            nets.ExchangesHeldBuffer,
            "'same' of its module and replaces one of two references to the same tensor",
        ),
        (nets.Switches, "training' of its module and gives a different output"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_other_state_is_refused(build: Any, text: str) -> None:
    model = bound(build)
    for _ in range(2):
        with pytest.raises(fnlib.HiddenState) as caught:
            model.with_buffers(X)
        assert text in str(caught.value)


def test_a_cache_is_discarded() -> None:
    model = bound(nets.RotaryCache)
    first, second = model(X), model(X)
    assert torch.equal(first, second)
    assert torch.equal(model(X[:3]), first[:3] * 0 + model(X[:3]))


@pytest.mark.parametrize("build", [nets.Locked], ids=["lock"])
def test_what_cannot_be_copied_is_built(build: Any) -> None:
    assert bound(build)(X).shape == (5, 4)
    with pytest.raises(
        fnlib.UnsupportedModule,
        match=r"can't be copied .*thread.lock.*\n.*\n *ModelFactory = fnlib.Factory\(lambda: Network",
    ):
        fnlib.Factory(build())


def test_an_output_made_of_weights_and_buffers_can_be_written_to() -> None:
    model = bound(nets.ReturnsState)
    output = model(X)
    with torch.no_grad():
        for tensor in (*output["all"], *output["mean"]):
            tensor.add_(5)
    output, buffers = model.with_buffers(X)
    with torch.no_grad():
        output["mean"][0].add_(5)
    assert model.parameters["weight"].eq(1).all()
    assert buffers["mean"].eq(0).all() and model.parameters.buffers["mean"].eq(0).all()
    assert model(X)["all"][0].eq(1).all() and model.weights["weight"].eq(1).all()
    gradient = model.backward(model(X)["all"][0].sum())
    assert gradient["weight"].eq(1).all()


def test_a_function_as_output_keeps_its_weights() -> None:
    ModelFactory = fnlib.Factory(nets.ReturnsFunction)
    one, two = (ModelFactory(fnlib.Parameters(seed=seed)) for seed in (0, 1))
    of_one, of_two = one(X), two(X)
    expected = [
        torch.nn.functional.linear(X, m.parameters["layer.weight"], m.parameters["layer.bias"])
        for m in (one, two)
    ]
    assert torch.equal(of_one(2.0), expected[0] * 2)
    assert torch.equal(of_two(2.0), expected[1] * 2)
    assert one.backward(loss_of(of_one(1.0))) != two.backward(loss_of(of_two(1.0)))


def test_checkpoints_of_several_models_at_once() -> None:
    """What runs again in backward must meet its own weights, not those of the model that ran last."""
    ModelFactory = fnlib.Factory(nets.Checkpointed)
    models = [ModelFactory(fnlib.Parameters(seed=seed), seed=3) for seed in range(3)]
    losses = [loss_of(model(X)) for model in models]
    gradients = [model.backward(loss) for model, loss in zip(models, losses, strict=True)]
    for model, gradient in zip(models, gradients, strict=True):
        assert model.backward(loss_of(model(X))) == gradient
    for _ in range(50):
        model = models[0]
        model.backward(loss_of(model(X)))
    gc.collect()
    assert len(ModelFactory.network.left) <= 8


@pytest.mark.parametrize("function", [torch.tanh, nn.Tanh()], ids=["function", "module"])
def test_an_old_checkpoint_without_weights(function: Any) -> None:
    """It hides nothing, whatever the strides of the gradients."""

    class Strided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.function = nn.Linear(4, 3), function
            self.layer.weight = nn.Parameter(self.layer.weight.detach().t().contiguous().t())

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(checkpoint(self.function, x, use_reentrant=True))

    model = fnlib.Factory(Strided)(fnlib.Parameters(seed=0))
    gradient = model.backward(loss_of(model(X.clone().requires_grad_())))
    stock = Strided()
    stock.load_state_dict(model.parameters.state_dict())
    loss_of(stock(X.clone().requires_grad_())).backward()
    for name, weight in stock.named_parameters():
        assert torch.equal(gradient[name], weight.grad)


def test_a_checkpoint_that_changes_buffers_is_refused() -> None:
    model = bound(nets.CheckpointedNorm)
    output, buffers = model.with_buffers(X)
    before = buffers["body.1.running_mean"]
    with pytest.raises(fnlib.UnsupportedModule) as caught:
        model.backward(loss_of(output))
    assert (
        "runs again in backward (torch.utils.checkpoint) and changes 'body.1.running_mean'"
        in str(caught.value)
    )
    assert torch.equal(buffers["body.1.running_mean"], before), "the second run reached the value"
    frozen = bound(nets.CheckpointedNorm, training={"body.1": False})
    assert len(frozen.backward(loss_of(frozen(X)))) == 4


# --- what a factory is made of ------------------------------------------------------------------


def untouched(module: nn.Module) -> Callable[[], bool]:
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    flags = [part.training for part in module.modules()]
    return lambda: (
        all(
            now is tensors[name] and torch.equal(now, copies[name])
            for name, now in [*module.named_parameters(), *module.named_buffers()]
        )
        and [part.training for part in module.modules()] == flags
        and all(weight.grad is None for weight in module.parameters())
    )


def train_a_little(ModelFactory: fnlib.Factory, parameters: fnlib.Parameters) -> fnlib.Parameters:
    for _ in range(3):
        model = ModelFactory(parameters)
        output, buffers = model.with_buffers(X)
        parameters = model.step(model.backward(loss_of(output)), buffers=buffers)
        model.eval()(X)
    return parameters


def test_modules_that_are_given_stay_as_they_are() -> None:
    network = nn.Sequential(
        nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2)
    ).eval()
    same = untouched(network)
    train_a_little(fnlib.Factory(network), fnlib.Parameters.from_module(network))
    assert same()


def test_a_build_may_hand_out_a_module_that_it_keeps() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    same = untouched(network)
    for start in (fnlib.Parameters(), fnlib.Parameters.from_module(network)):
        ModelFactory = fnlib.Factory(lambda: network)
        assert ModelFactory(start).parameters == fnlib.Parameters.from_module(network)
        train_a_little(ModelFactory, start)
        assert same()


def test_a_build_may_share_a_backbone() -> None:
    backbone = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    same = untouched(backbone)
    ModelFactory = fnlib.Factory(lambda: nn.Sequential(backbone, nn.Linear(4, 2)))
    parameters = ModelFactory(fnlib.Parameters(seed=0)).parameters
    assert torch.equal(parameters["0.0.weight"], backbone[0].weight)
    train_a_little(ModelFactory, parameters)
    assert same()


def test_an_instance_with_a_function_of_itself_is_refused() -> None:
    """Refuse an instance that holds a function which refers to its network."""

    def build() -> nn.Module:
        layer = nn.Linear(4, 4)
        layer.forward = lambda x: torch.tanh(x @ layer.weight.T)  # type: ignore[method-assign]
        return layer

    with pytest.raises(
        fnlib.UnsupportedModule,
        match="'forward' of this network is a function that refers to a part of the network",
    ):
        fnlib.Factory(build())
    model = bound(build)
    assert torch.equal(model(X), torch.tanh(X @ model.parameters["weight"].T))


def test_weights_in_one_memory_are_refused() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight.data = network[0].weight.data
    for make in (fnlib.Parameters.from_module, fnlib.Factory):
        with pytest.raises(
            fnlib.UnsupportedModule,
            match=r"'0.weight' and '1.weight' are two tensors that share memory",
        ):
            make(network)
    whole = torch.randn(8, 4)
    network[0].weight.data, network[1].weight.data = whole[:4], whole[4:]  # side by side: no tie
    assert torch.equal(fnlib.Parameters.from_module(network)["1.weight"], whole[4:])


@pytest.mark.parametrize(
    ("view", "shares"),
    [
        (lambda layer: layer.weight.view(-1), "layer.weight"),
        (lambda layer: [layer.bias.data], "layer.bias"),
        (lambda layer: {"row": (layer.weight[0].detach(),)}, "layer.weight"),
    ],
    ids=["view", "data in a list", "row in a dict"],
)
def test_a_view_of_a_weight_as_attribute_is_refused(view: Any, shares: str) -> None:
    """In stock PyTorch it follows the weight in place; it would stand still here, in silence."""
    for make in (
        lambda: bound(lambda: nets.HoldsView(view)),
        lambda: fnlib.Factory(nets.HoldsView(view)),
    ):
        with pytest.raises(fnlib.UnsupportedModule) as caught:
            make()
        assert str(caught.value).startswith(f"'held' shares memory with '{shares}'")
        assert "held = self.layer.weight.view(-1)        # right in forward" in str(caught.value)


def test_a_hook_that_waits_for_grad_is_refused() -> None:
    def build() -> nn.Module:
        layer = nn.Linear(4, 4)
        layer.weight.register_post_accumulate_grad_hook(lambda weight: None)
        return layer

    with pytest.raises(
        fnlib.UnsupportedModule, match="'weight' has a hook that waits for its .grad"
    ):
        bound(build)


def test_builds_that_differ_are_refused() -> None:
    sizes = iter(range(1, 10))
    with pytest.raises(fnlib.FnlibError, match="twice gave different names|don't match"):
        bound(lambda: nn.Sequential(*(nn.Linear(4, 4) for _ in range(next(sizes))))).eval()(X)


class Interrupted(nn.Module):
    """Is broken off in the middle of its forward, with everything in disorder."""

    by: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop, self.layer = nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(self.norm(x))
        if Interrupted.by is not None:
            self.norm.eval()
            self.note = y
            raise Interrupted.by
        return self.layer(y)


@pytest.mark.parametrize("by", [KeyboardInterrupt, SystemExit, GeneratorExit, ValueError])
def test_a_pass_that_is_broken_off_leaves_no_trace(
    by: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = bound(Interrupted, seed=3)
    expected, expected_buffers = model.with_buffers(X)
    before, drawn = copy.deepcopy(model.parameters), torch.get_rng_state()
    for _ in range(3):
        monkeypatch.setattr(Interrupted, "by", by)
        with pytest.raises(by):
            model.with_buffers(X)
        assert torch.equal(torch.get_rng_state(), drawn)
        monkeypatch.setattr(Interrupted, "by", None)
        output, buffers = model.with_buffers(X)
        assert torch.equal(output, expected) and all(
            torch.equal(buffers[name], expected_buffers[name]) for name in buffers
        )
    assert model.parameters == before
