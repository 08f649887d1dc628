"""Rules that evaluate the loss themselves: LBFGS and SAM, bit for bit with stock."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

import fnlib

X, Y = torch.linspace(-1, 1, 32).reshape(8, 4), torch.linspace(0, 1, 16).reshape(8, 2)


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.2), nn.Linear(3, 2))


class Renormed(nn.Module):
    """Its forward pass writes to a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(8, 3, max_norm=0.5), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Any:
        return self.out(self.embed(torch.arange(8)) + x[:, :3])


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Any:
        return self.used(x)


class SAM(optim.Optimizer):
    """Sharpness-aware minimisation as people write it: two gradients, an optimizer inside."""

    def __init__(self, params: Any, base: Any = optim.SGD, rho: float = 0.05, **kw: Any) -> None:
        super().__init__(params, {"rho": rho, **kw})
        self.base_optimizer = base(self.param_groups, **kw)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def step(self, closure: Any) -> None:  # type: ignore[override]
        params = [p for group in self.param_groups for p in group["params"]]
        params = [p for p in params if p.grad is not None]
        norm = torch.stack([p.grad.norm() for p in params]).norm()
        for p in params:
            self.state[p]["old"] = p.data.clone()
            p.add_(p.grad * (self.param_groups[0]["rho"] / (norm + 1e-12)))
        torch.enable_grad()(closure)()
        for p in params:
            p.data = self.state[p]["old"]
        self.base_optimizer.step()


class Backtracking(optim.Optimizer):
    """Halves its step until the loss falls."""

    def __init__(self, params: Any, lr: float = 8.0) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        closure = torch.enable_grad()(closure)
        first, rate = closure(), self.param_groups[0]["lr"]
        params = self.param_groups[0]["params"]
        start = [(p, p.clone(), p.grad.clone()) for p in params if p.grad is not None]
        while rate > 1e-4:
            for p, before, slope in start:
                p.copy_(before - rate * slope)
            if closure() < first:
                break
            rate /= 2
        return first


WOLFE = {"lr": 1.0, "max_iter": 5, "history_size": 4, "line_search_fn": "strong_wolfe"}
RULES: dict[str, tuple[Any, dict[str, Any], bool]] = {  # and whether the step takes a gradient
    "LBFGS": (optim.LBFGS, {"lr": 0.1, "max_iter": 4}, False),
    "LBFGS, line search": (optim.LBFGS, WOLFE, False),
    "LBFGS, one iteration": (optim.LBFGS, {"lr": 0.5, "max_iter": 1}, False),
    "SAM": (SAM, {"lr": 0.1}, True),
    "SAM, momentum": (SAM, {"lr": 0.1, "momentum": 0.9}, True),
    "SAM, Adam": (SAM, {"base": optim.Adam, "lr": 0.01}, True),
    "backtracking": (Backtracking, {}, False),
    "Adam, by a closure": (optim.Adam, {"lr": 0.01}, False),
    "Rprop, by a closure": (optim.Rprop, {"lr": 0.01}, False),
}


@pytest.mark.parametrize("build", [plain, normed, Renormed, Unused], ids=lambda b: b.__name__)
@pytest.mark.parametrize("name", RULES)
def test_objective_has_the_bits_of_a_closure(name: str, build: Any) -> None:
    """Weights, buffers and generator after each step are stock's, dropout included."""
    kind, settings, both = RULES[name]
    torch.manual_seed(3)
    module = build()
    optimizer = kind(module.parameters(), **settings)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = (module(X) - Y).square().mean()
        loss.backward()
        return loss

    torch.manual_seed(4)
    expected = []
    for _ in range(5):
        if both:
            closure()
        optimizer.step(closure)
        state = {key: value.detach().clone() for key, value in module.state_dict().items()}
        expected.append((state, torch.get_rng_state()))
    torch.manual_seed(3)
    ModelFactory = fnlib.Factory(build, optimizer=fnlib.wrap(kind, **settings))
    parameters = ModelFactory(fnlib.Parameters()).parameters

    def objective(model: fnlib.Model) -> Any:
        output, buffers = model.with_buffers(X)
        return (output - Y).square().mean(), buffers

    torch.manual_seed(4)
    for state, generator in expected:
        model = ModelFactory(parameters)
        gradient = buffers = None
        if both:
            loss, buffers = objective(model)
            gradient = model.backward(loss)
        parameters = model.step(gradient, buffers=buffers, objective=objective)
        assert torch.equal(torch.get_rng_state(), generator)
        for key, tensor in parameters.state_dict().items():
            assert torch.equal(tensor, state[key]), key
        model = None  # type: ignore[assignment]
    assert parameters.step_count == 5


@pytest.mark.parametrize("name", ["LBFGS, line search", "SAM, momentum"])
def test_resumed_from_a_file(name: str, tmp_path: Any) -> None:
    """What LBFGS remembers, and what the optimizer inside of SAM keeps, is in the value."""
    kind, settings, both = RULES[name]
    objective = lambda model: (model(X) - Y).square().mean()  # noqa: E731

    def steps(parameters: fnlib.Parameters, count: int) -> fnlib.Parameters:
        ModelFactory = fnlib.Factory(plain, optimizer=fnlib.wrap(kind, **settings))
        for _ in range(count):
            model = ModelFactory(parameters)
            gradient = model.backward(objective(model)) if both else None
            parameters = model.step(gradient, objective=objective, donate=True)
        return parameters

    whole = steps(fnlib.Parameters(seed=0), 6)
    half = steps(fnlib.Parameters(seed=0), 3)
    half.save(tmp_path / "half.safetensors")
    assert steps(fnlib.Parameters.load(tmp_path / "half.safetensors"), 3) == whole


def test_rules_of_fnlib_evaluate_once() -> None:
    objective = lambda model: (model(X) - Y).square().mean()  # noqa: E731
    for rule in (fnlib.SGD(lr=0.1, momentum=0.9), fnlib.Adam()):
        model = fnlib.Factory(plain, optimizer=rule)(fnlib.Parameters(seed=0))
        expected = model.step(model.backward(objective(model)), lr=0.3)
        assert model.step(objective=objective, lr=0.3) == expected


def test_an_error_of_the_objective_stays_its_own() -> None:
    """Its KeyError isn't taken for an entry that the optimizer's state lacks."""
    model = fnlib.Factory(plain, optimizer=fnlib.wrap(optim.LBFGS))(fnlib.Parameters(seed=0))
    later = model.factory(model.step(objective=lambda model: (model(X) - Y).square().mean()))
    with pytest.raises(KeyError, match="mask"):
        later.step(objective=lambda model: (model(X) * {"weight": Y}["mask"]).mean())


def test_a_failing_objective_changes_nothing() -> None:
    rule = fnlib.wrap(optim.LBFGS, lr=0.1)
    model = fnlib.Factory(plain, optimizer=rule)(fnlib.Parameters(seed=0))
    before = fnlib.Factory(plain)(fnlib.Parameters(seed=0)).parameters

    def broken(trial: fnlib.Model) -> Tensor:
        trial(X)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        model.step(objective=broken, donate=True)
    assert model.parameters == before


def test_what_a_step_lacks_is_named() -> None:
    lbfgs = fnlib.Factory(plain, optimizer=fnlib.wrap(optim.LBFGS))(fnlib.Parameters(seed=0))
    sgd = fnlib.Factory(plain)(fnlib.Parameters(seed=0))
    objective = lambda model: (model(X) - Y).square().mean()  # noqa: E731
    gradient = lbfgs.backward(objective(lbfgs))
    for act in (lambda: lbfgs.step(gradient, donate=True), lambda: lbfgs.step()):
        with pytest.raises(fnlib.MissingObjective, match=r"step\(objective=objective\)"):
            act()
    assert lbfgs.parameters == sgd.parameters, "nothing was given away"
    with pytest.raises(fnlib.WrongParameters, match="takes a gradient"):
        sgd.step()
    for model in (lbfgs, sgd):
        with pytest.raises(fnlib.WrongParameters, match="got both"):
            model.step(gradient, objective=objective)
    dropping = fnlib.Factory(normed, optimizer=fnlib.wrap(optim.LBFGS))(fnlib.Parameters(seed=0))
    with pytest.raises(fnlib.StateDropped):
        dropping.step(objective=objective)
    with pytest.raises(fnlib.MissingBuffers):
        dropping.step(objective=lambda model: model.with_buffers(X)[0].sum())
