"""A rate for one step, joint clipping, map, moving averages: each beside stock, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim
from torch.optim import lr_scheduler, swa_utils

import fnlib

X, Y = torch.linspace(-1, 1, 32).reshape(8, 4), torch.linspace(0, 1, 16).reshape(8, 2)


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))


def loss_of(output: Tensor) -> Tensor:
    return (output - Y).square().mean()


class Own(torch.optim.Optimizer):
    """An optimizer that nobody at PyTorch wrote."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.add_(p.grad.sign(), alpha=-group["lr"])


RULES: list[tuple[Any, Any, dict[str, Any]]] = [
    (fnlib.SGD(lr=0.3), optim.SGD, {}),
    (fnlib.SGD(lr=0.3, momentum=0.9), optim.SGD, {"momentum": 0.9}),
    (fnlib.SGD(lr=0.3, momentum=0.9, fused=True), optim.SGD, {"momentum": 0.9, "fused": True}),
    (fnlib.SGD(lr=0.3, foreach=True), optim.SGD, {"foreach": True}),
    (fnlib.Adam(lr=0.3), optim.Adam, {}),
    (fnlib.AdamW(lr=lambda step: 0.3 / (step + 1)), optim.AdamW, {}),
    (fnlib.wrap(optim.RMSprop, lr=0.3), optim.RMSprop, {}),
    (fnlib.wrap(optim.Adagrad, lr=0.3), optim.Adagrad, {}),
    (fnlib.wrap(optim.Adadelta), optim.Adadelta, {}),
    (fnlib.wrap(Own, lr=0.3), Own, {}),
]


@pytest.mark.parametrize(("rule", "kind", "settings"), RULES, ids=[str(r[0])[:48] for r in RULES])
def test_a_rate_for_one_step(rule: Any, kind: Any, settings: dict[str, Any]) -> None:
    """A plateau schedule reads the loss; the rate goes with each step. Same bits as stock."""
    ModelFactory = fnlib.Factory(build, optimizer=rule)
    parameters = ModelFactory(fnlib.Parameters(seed=0)).parameters
    module = build()
    module.load_state_dict(parameters.state_dict())
    optimizer = kind(module.parameters(), lr=0.05, **settings)
    plateau = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.9)
    for _ in range(8):
        rate = optimizer.param_groups[0]["lr"]
        optimizer.zero_grad()
        loss = loss_of(module(X))
        loss.backward()
        optimizer.step()
        plateau.step(loss.detach())
        model = ModelFactory(parameters)
        output, buffers = model.with_buffers(X)
        parameters = model.step(model.backward(loss_of(output)), buffers=buffers, lr=rate)
        for name, weight in module.named_parameters():
            assert torch.equal(parameters[name], weight)
    assert optimizer.param_groups[0]["lr"] < 0.05, "the schedule moved"


def by_kind(name: str, weight: Tensor) -> dict[str, Any]:
    return {"lr": 0.02} if name.endswith("bias") else {}


GROUPED = [
    fnlib.SGD(lr=lambda step: 0.1 * 0.5**step, groups=by_kind),
    fnlib.wrap(optim.RMSprop, lr=lambda step: 0.1 * 0.5**step, groups=by_kind),
    fnlib.wrap(Own, lr=lambda step: 0.1 * 0.5**step, groups=by_kind),
]


@pytest.mark.parametrize("rule", GROUPED, ids=["formula", "wrapped", "third-party"])
def test_rates_of_groups(rule: Any) -> None:
    """Rates are what the next step uses, and giving them back changes nothing."""
    ModelFactory = fnlib.Sequential(nn.Linear(4, 2), nn.Linear(2, 2), optimizer=rule)
    model = ModelFactory(fnlib.Parameters(seed=0))
    gradient = model.backward(loss_of(model(X)))
    assert model.rates == {0: 0.1, 1: 0.02}
    after = model.step(gradient)
    assert model.step(gradient, lr=model.rates) == after
    assert ModelFactory(after).rates == {0: 0.05, 1: 0.02}
    half = model.step(gradient, lr={0: 0.1, 1: 0.0})
    assert torch.equal(half["0.weight"], after["0.weight"])
    assert torch.equal(half["0.bias"], model.parameters["0.bias"])
    both = model.step(gradient, lr=0.02)
    assert torch.equal(both["0.bias"], after["0.bias"])
    assert not torch.equal(both["0.weight"], after["0.weight"])


def test_one_rate_is_a_number_and_lasts_a_step() -> None:
    ModelFactory = fnlib.Sequential(nn.Linear(4, 2), optimizer=fnlib.SGD(lr=0.1, momentum=0.9))
    model = ModelFactory(fnlib.Parameters(seed=0))
    assert model.rates == 0.1
    once = ModelFactory(model.step(model.backward(loss_of(model(X))), lr=0.7))
    assert once.parameters.optimizer_state["param_groups"][0]["lr"] == 0.7
    assert once.rates == 0.1
    as_tensor = model.step(model.backward(loss_of(model(X))), lr=torch.tensor(0.5))
    assert as_tensor == model.step(model.backward(loss_of(model(X))), lr=0.5)


class Plain:
    def init(self, weights: Any) -> Any:
        return None

    def update(self, weights: Any, gradient: Any, state: Any) -> Any:
        return {name: weights[name] - gradient[name] for name in weights}, state


@pytest.mark.parametrize("lr", [-1.0, "0.1", {}, {1: 0.1}, {0: 0.1, 1: 0.1}, float("nan"), True])
def test_wrong_rates_are_named(lr: Any) -> None:
    for rule in (fnlib.SGD(lr=0.1), fnlib.wrap(Own, lr=0.1)):
        model = fnlib.Sequential(nn.Linear(4, 2), optimizer=rule)(fnlib.Parameters(seed=0))
        with pytest.raises(fnlib.WrongParameters, match="lr= "):
            model.step(model.backward(loss_of(model(X))), lr=lr)


def test_a_rule_without_a_rate_says_so() -> None:
    model = fnlib.Sequential(nn.Linear(4, 2), optimizer=Plain())(fnlib.Parameters(seed=0))
    gradient = model.backward(loss_of(model(X)))
    with pytest.raises(fnlib.WrongParameters, match="no learning rate"):
        model.step(gradient, lr=0.1)
    with pytest.raises(fnlib.WrongParameters, match="no learning rate"):
        model.rates  # noqa: B018


# --- gradients --------------------------------------------------------------------------------


def test_joint_clipping_as_stock() -> None:
    """One length over two networks, as clip_grad_norm_ over the parameters of both."""
    First, Second = fnlib.Sequential(nn.Linear(4, 3)), fnlib.Sequential(nn.Linear(3, 2))
    a, b = First(fnlib.Parameters(seed=0)), Second(fnlib.Parameters(seed=1))
    stock = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    with torch.no_grad():
        for weight, value in zip(
            stock.parameters(), [*a.parameters.values(), *b.parameters.values()], strict=True
        ):
            weight.copy_(value)
    loss_of(stock(X)).backward()
    torch.nn.utils.clip_grad_norm_(stock.parameters(), 0.1)
    g, h = fnlib.clip_norm(0.1, *fnlib.backward(loss_of(b(a(X))), a, b))
    for mine, weight in zip([*g.values(), *h.values()], stock.parameters(), strict=True):
        assert torch.equal(mine, weight.grad)
    assert fnlib.clip_norm(0.1, g)[0] == g.clip_norm(0.1)
    with pytest.raises(fnlib.WrongParameters, match="clip_norm takes"):
        fnlib.clip_norm(g, h)  # type: ignore[arg-type]


def test_map_as_clip_grad_value() -> None:
    model = fnlib.Sequential(nn.Linear(4, 2))(fnlib.Parameters(seed=0))
    gradient = model.backward(loss_of(model(X)))
    before = {name: gradient[name].clone() for name in gradient}
    module = nn.Sequential(nn.Linear(4, 2))
    module.load_state_dict(model.parameters.state_dict())
    loss_of(module(X)).backward()
    torch.nn.utils.clip_grad_value_(module.parameters(), 0.1)
    clipped = gradient.map(lambda g: g.clamp_(-0.1, 0.1))
    for name, weight in module.named_parameters():
        assert torch.equal(clipped[name], weight.grad)
        assert torch.equal(gradient[name], before[name]), "map hands out copies"
    for wrong in (lambda g: g.sum(), lambda g: g.double(), lambda g: 3):
        with pytest.raises(fnlib.WrongParameters):
            gradient.map(wrong)


def test_scaled_losses_as_a_scaler() -> None:
    """`GradScaler` by hand: a gradient that isn't finite leaves the old value as it is."""
    ModelFactory = fnlib.Sequential(nn.Linear(4, 2), optimizer=fnlib.Adam(lr=0.1))
    parameters = ModelFactory(fnlib.Parameters(seed=0)).parameters
    module = nn.Sequential(nn.Linear(4, 2))
    module.load_state_dict(parameters.state_dict())
    optimizer = optim.Adam(module.parameters(), lr=0.1)
    scaler, scale = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=100), 8.0
    for factor in (1.0, float("inf"), 2.0, 1.0):
        optimizer.zero_grad()
        scaler.scale(loss_of(module(X)) * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        model = ModelFactory(parameters)
        gradient = model.backward(loss_of(model(X)) * factor * scale) / scale
        if gradient.norm().isfinite():
            parameters = model.step(gradient)
        else:
            scale /= 2
        assert scale == scaler.get_scale()
        for name, weight in module.named_parameters():
            assert torch.equal(parameters[name], weight)
    assert parameters.step_count == 3


# --- averages ---------------------------------------------------------------------------------


def values(count: int) -> list[fnlib.Parameters]:
    ModelFactory = fnlib.Factory(build, optimizer=fnlib.SGD(lr=0.1, momentum=0.9))
    found = [ModelFactory(fnlib.Parameters(seed=0)).parameters]
    for _ in range(count - 1):
        model = ModelFactory(found[-1])
        output, buffers = model.with_buffers(X)
        found.append(model.step(model.backward(loss_of(output)), buffers=buffers))
    return found


AVERAGES = [
    ("moving", swa_utils.get_ema_multi_avg_fn(0.9), lambda n: 1 - 0.9),
    ("equal", swa_utils.get_swa_multi_avg_fn(), lambda n: 1 / (n + 1)),
]


CASES = [(*AVERAGES[0], "other"), (*AVERAGES[0], "lerp"), (*AVERAGES[1], "other")]


# PyTorch's own equal average of counters raises, so there is no line for it.
@pytest.mark.parametrize(
    ("name", "stock", "weight", "buffers"), CASES, ids=[f"{c[0]}-{c[3]}" for c in CASES]
)
def test_lerp_as_averaged_model(name: str, stock: Any, weight: Any, buffers: Any) -> None:
    run = values(5)
    module = build()
    module.load_state_dict(run[0].state_dict())
    averaged = swa_utils.AveragedModel(module, multi_avg_fn=stock, use_buffers=buffers == "lerp")
    averaged.update_parameters(module)
    average = run[0]
    for n, parameters in enumerate(run[1:], start=1):
        module.load_state_dict(parameters.state_dict())
        averaged.update_parameters(module)
        average = average.lerp(parameters, weight(n), buffers=buffers)
        for key, tensor in averaged.module.named_parameters():
            assert torch.equal(average[key], tensor)
        for key, tensor in averaged.module.named_buffers():
            if tensor.is_floating_point():
                assert torch.equal(average.buffers[key], tensor)
    assert average.optimizer_state == run[0].optimizer_state and average.step_count == 0


def test_lerp_keeps_own_buffers_when_asked() -> None:
    first, second = values(2)
    own = first.lerp(second, 0.5, buffers="own")
    assert torch.equal(own.buffers["1.running_mean"], first.buffers["1.running_mean"])
    assert torch.equal(own["0.bias"], torch.lerp(first["0.bias"], second["0.bias"], 0.5))
    _ = own["0.bias"].zero_()
    assert not own["0.bias"].eq(0).all()


def test_lerp_names_what_is_wrong() -> None:
    first = values(1)[0]
    other = fnlib.Parameters.from_module(nn.Linear(2, 2))
    for given, options in ((other, {}), (first, {"buffers": "mean"}), (3, {})):
        with pytest.raises(fnlib.WrongParameters, match=r"average\.lerp"):
            first.lerp(given, 0.5, **options)  # type: ignore[arg-type]


def cumulative() -> nn.Module:
    module = build()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d):
            part.momentum = None
    return module


def test_cumulative_statistics_as_update_bn() -> None:
    """SWA's last pass: fresh statistics, averaged over all batches, from the averaged weights."""
    run = values(3)
    average = run[0].lerp(run[2], 0.5)
    module = build()
    module.load_state_dict(average.state_dict())
    batches = [X + i for i in range(4)]
    swa_utils.update_bn(batches, module)  # type: ignore[arg-type]
    fresh = fnlib.Factory(build)(fnlib.Parameters(seed=0)).parameters.buffers
    Cumulative = fnlib.Factory(cumulative)
    model = Cumulative(average.replace(buffers=fresh))
    buffers: Any = fresh
    for batch in batches:
        _, buffers = model.with_buffers(batch)
        model = model.carry(buffers)
    found = average.replace(buffers=buffers)
    for name, tensor in module.named_buffers():
        assert torch.equal(found.buffers[name], tensor)
