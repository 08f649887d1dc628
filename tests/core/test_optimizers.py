"""Promise 2 over optimizers: weights, buffers, optimizer state and losses have the bits of the stock loop."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

import fnlib
from tests.core.loops import STEPS, assert_same_run, functional_run, seed_everything, stock_run
from tests.core.tables import EXPERTS, OPTIMIZERS, Network, Optimizer, loss_of

OWN: dict[Any, Any] = {
    torch.optim.SGD: fnlib.SGD,
    torch.optim.Adam: fnlib.Adam,
    torch.optim.AdamW: fnlib.AdamW,
}
DRAWN_UP = [row for row in OPTIMIZERS if row.kind in OWN]


@pytest.mark.parametrize("row", OPTIMIZERS, ids=str)
def test_wrapped_optimizer_has_the_bits_of_the_stock_loop(row: Optimizer) -> None:
    stock = stock_run(row.network, lambda module: row.kind(module.parameters(), **row.arguments))
    assert_same_run(*functional_run(row.network, fnlib.wrap(row.kind, **row.arguments)), *stock)


@pytest.mark.parametrize("row", DRAWN_UP, ids=str)
@pytest.mark.parametrize("donate", [False, True], ids=["kept", "donated"])
def test_own_rule_has_the_bits_of_the_stock_loop(row: Optimizer, donate: bool) -> None:
    stock = stock_run(row.network, lambda module: row.kind(module.parameters(), **row.arguments))
    assert_same_run(
        *functional_run(row.network, OWN[row.kind](**row.arguments), donate=donate), *stock
    )


def decay(step: int) -> float:
    return 0.1 * 0.9**step


@pytest.mark.parametrize(
    "kind",
    [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.NAdam],
    ids=lambda kind: kind.__name__,
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_scheduled_rate(kind: Any, wrapped: bool) -> None:
    """lr(0) at the first step, and each later one where the stock loop sets it."""
    if not wrapped and kind not in OWN:
        pytest.skip("only wrapped")
    rule = fnlib.wrap(kind, lr=decay) if wrapped else OWN[kind](lr=decay)
    stock = stock_run(EXPERTS, lambda module: kind(module.parameters(), lr=1.0), schedule=decay)
    parameters, losses = functional_run(EXPERTS, rule)
    assert_same_run(parameters, losses, *stock)
    assert parameters.optimizer_state["param_groups"][0]["lr"] == decay(STEPS - 1)


def test_scheduler_of_torch_gives_the_same_bits() -> None:
    """The closed form of a stock scheduler, written as a function of the step count."""
    seed_everything()
    module = EXPERTS.build()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(module(*EXPERTS.batch(step)[0]))
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.detach())
    assert_same_run(
        *functional_run(EXPERTS, fnlib.SGD(lr=lambda step: 0.1 * 0.5**step)),
        module,
        optimizer,
        losses,
    )


def by_name(name: str, weight: torch.Tensor) -> dict[str, Any]:
    if name.endswith("bias"):
        return {"weight_decay": 0.0}
    return {"lr": 0.5} if name.startswith("last") else {}


@pytest.mark.parametrize(
    "kind",
    [
        torch.optim.SGD,
        torch.optim.Adam,
        torch.optim.AdamW,
        torch.optim.RMSprop,
        torch.optim.Adagrad,
    ],
    ids=lambda kind: kind.__name__,
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_groups(kind: Any, wrapped: bool) -> None:
    if not wrapped and kind not in OWN:
        pytest.skip("only wrapped")

    def optimize(module: torch.nn.Module) -> torch.optim.Optimizer:
        parts: dict[str, Any] = {}
        for name, weight in module.named_parameters():
            settings = by_name(name, weight)
            parts.setdefault(str(settings), {"params": [], **settings})["params"].append(weight)
        return kind(list(parts.values()), lr=0.05, weight_decay=0.1)

    settings: dict[str, Any] = {"lr": 0.05, "weight_decay": 0.1, "groups": by_name}
    row = Network(
        "three layers", lambda: torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(3)))
    )
    parameters, losses = functional_run(
        row, fnlib.wrap(kind, **settings) if wrapped else OWN[kind](**settings)
    )
    stock = stock_run(row, optimize)
    assert_same_run(parameters, losses, *stock)
    for mine, group in zip(
        parameters.optimizer_state["param_groups"], stock[1].param_groups, strict=True
    ):
        assert {key: mine[key] for key in ("lr", "weight_decay")} == {
            key: group[key] for key in ("lr", "weight_decay")
        }


def test_groups_with_their_own_schedule() -> None:
    rule = fnlib.SGD(
        lr=0.1, groups=lambda name, weight: {"lr": decay} if name.endswith("bias") else {}
    )
    row = Network("linear", lambda: torch.nn.Linear(4, 2))

    class Scheduled(torch.optim.SGD):
        at = 0

        def step(self) -> None:  # type: ignore[override]
            self.param_groups[1]["lr"] = decay(self.at)
            self.at += 1
            super().step()

    stock = stock_run(
        row,
        lambda module: Scheduled([{"params": [module.weight]}, {"params": [module.bias]}], lr=0.1),
    )
    assert_same_run(*functional_run(row, rule), *stock)


def test_step_sees_the_factory_rate_not_the_saved_one() -> None:
    """A factory with another rate, given parameters of the first, uses its own rate, as a schedule would."""
    row = Network("linear", lambda: torch.nn.Linear(4, 2))
    for make in (fnlib.SGD, lambda **kw: fnlib.wrap(torch.optim.SGD, **kw)):
        parameters, _ = functional_run(row, make(lr=0.1), steps=1)
        model = fnlib.Factory(row.build, optimizer=make(lr=0.0))(parameters)
        gradient = model.backward(loss_of(model(*row.batch(0)[0])))
        assert dict(model.step(gradient)).keys() == dict(parameters).keys()
        assert all(torch.equal(model.step(gradient)[name], parameters[name]) for name in parameters)


@pytest.mark.parametrize("fused", [None, True])
def test_adam_counts_in_the_default_dtype_as_torch_does(fused: bool | None) -> None:
    row = Network(
        "float64",
        lambda: torch.nn.Linear(4, 2),
        (lambda generator: torch.randn(5, 4, generator=generator),),
    )
    torch.set_default_dtype(torch.float64)
    try:
        stock = stock_run(
            row, lambda module: torch.optim.Adam(module.parameters(), fused=fused), steps=3
        )
        assert_same_run(*functional_run(row, fnlib.Adam(fused=fused), steps=3), *stock)
    finally:
        torch.set_default_dtype(torch.float32)


class Signs:
    """A student's own rule, in place as one would write it after torch.optim."""

    def init(self, weights: Mapping[str, Tensor]) -> Any:
        return {
            "n": 0,
            "last": {name: torch.zeros_like(weight) for name, weight in weights.items()},
            "note": ("a", 1.5, None),
        }

    def update(self, weights: Any, gradient: Any, state: Any) -> Any:
        for name in gradient:
            gradient[name].sign_()
            state["last"][name].copy_(gradient[name])
            weights[name].sub_(0.01 * gradient[name])
        state["n"] += 1
        return weights, state


def test_own_rule_in_place_harms_nobody() -> None:
    ModelFactory = fnlib.Factory(lambda: torch.nn.Linear(4, 2), optimizer=Signs())
    model = ModelFactory(fnlib.Parameters(seed=0))
    values = []
    for step in range(3):
        gradient = model.backward(loss_of(model(*EXPERTS.batch(step)[0])))
        values.append(
            (model.parameters, copy.deepcopy(model.parameters), gradient, copy.deepcopy(gradient))
        )
        model = ModelFactory(model.step(gradient))
    for parameters, snapshot, gradient, gradient_snapshot in values:
        assert parameters == snapshot
        assert gradient == gradient_snapshot
    assert model.parameters.optimizer_state["n"] == 3
    assert model.parameters.optimizer_state["note"] == ("a", 1.5, None)
