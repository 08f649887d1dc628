"""Rules as values: finished when made, holding nothing that somebody else can change, and a frame for rules of one's own."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fnlib
from fnlib import optim
from tests.core import networks as nets
from tests.core.loops import assert_same_run, functional_run, stock_run
from tests.core.tables import BRAIN, EXPERTS, loss_of

X = torch.linspace(-1, 1, 20).reshape(5, 4)


def stepped(rule: Any, steps: int = 2, **step: Any) -> fnlib.Parameters:
    ModelFactory = fnlib.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2), optimizer=rule)
    model = ModelFactory(fnlib.Parameters(seed=0))
    for _ in range(steps):
        model = ModelFactory(model.step(model.backward(loss_of(model(X))), **step))
    return model.parameters


FINISHED: dict[str, Callable[[], Any]] = {
    "SGD": lambda: fnlib.SGD(lr=0.1),
    "Adam": lambda: fnlib.Adam(lr=0.1, groups=lambda name, weight: {}),
    "AdamW": lambda: fnlib.AdamW(lr=lambda step: 0.1),
    "wrapped": lambda: fnlib.wrap(torch.optim.RMSprop, lr=0.1),
}


@pytest.mark.parametrize("name", FINISHED)
def test_a_finished_rule_cannot_be_changed(name: str) -> None:
    rule = FINISHED[name]()
    before, shown = stepped(rule), repr(rule)
    for attribute in (
        "lr",
        "momentum",
        "betas",
        "settings",
        "_settings",
        "groups",
        "step_count",
        "anything",
    ):
        with pytest.raises(fnlib.Immutable, match="An update rule is finished when it is made"):
            setattr(rule, attribute, 0.5)
    assert repr(rule) == shown and stepped(rule) == before
    assert stepped(copy.deepcopy(rule)) == stepped(copy.copy(rule)) == before


def test_rules_go_through_pickle() -> None:
    for rule in (
        fnlib.SGD(lr=0.1, momentum=0.9),
        fnlib.AdamW(betas=(0.8, 0.9)),
        fnlib.wrap(torch.optim.NAdam, lr=0.1),
    ):
        again = pickle.loads(pickle.dumps(rule))
        assert repr(again) == repr(rule) and stepped(again) == stepped(rule)
        with pytest.raises(fnlib.Immutable):
            again.lr = 1.0


def test_settings_that_their_owner_changes_later() -> None:
    """A list of betas, a rate that is a tensor: the rule took copies, and so did the values that it made."""
    betas, rate = [0.8, 0.9], torch.tensor(0.1)
    rules = [fnlib.Adam(lr=rate, betas=betas), fnlib.wrap(torch.optim.NAdam, lr=0.1, betas=betas)]  # type: ignore[arg-type]
    before = [stepped(rule) for rule in rules]
    snapshots = copy.deepcopy(before)
    betas[0] = 0.1
    rate.fill_(7)
    assert before == snapshots
    assert [stepped(rule) for rule in rules] == snapshots


class Clipped(optim.SGD):
    """Built on one of ours: what the lessons call a rule of one's own, with a setting of its own."""

    def __init__(self, lr: float, most: float) -> None:
        super().__init__(lr=lr, momentum=0.9)
        self.most = most

    def update(self, weights: Any, gradient: Any, state: Any) -> Any:  # type: ignore[override]
        for tensor in gradient.values():
            tensor.clamp_(-self.most, self.most)  # in place, as one may
        return super().update(weights, gradient, state)


@pytest.mark.parametrize("donate", [False, True])
def test_a_rule_built_on_one_of_ours(donate: bool) -> None:
    rule = Clipped(0.1, most=0.01)
    assert stepped(rule, donate=donate)["0.weight"].isfinite().all()
    module = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    module.load_state_dict(stepped(rule, steps=0).state_dict())
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        loss_of(module(X)).backward()
        nn.utils.clip_grad_value_(module.parameters(), 0.01)
        optimizer.step()
    found = stepped(rule, donate=donate)
    for name, weight in module.named_parameters():
        assert torch.equal(found[name], weight)
    with pytest.raises(fnlib.WrongRule, match="torch.optim.sgd.SGD"):
        fnlib.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2), optimizer=rule)(
            stepped(fnlib.SGD())
        ).step(fnlib.Gradient({}))
    with pytest.raises(fnlib.Immutable):
        rule.most = 1.0
    step = fnlib.train_step(fnlib.Sequential(nn.Linear(4, 2), optimizer=rule), nn.MSELoss())
    assert step(fnlib.Parameters(seed=0), X, torch.zeros(5, 2))[0].step_count == 1


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.SGD, {"foreach": True, "groups": lambda name, weight: {"momentum": 0.9}}),
        (torch.optim.SGD, {"groups": lambda name, weight: {"fused": True}}),
        (
            torch.optim.AdamW,
            {"groups": lambda name, weight: {"foreach": True, "betas": (0.5, 0.6)}},
        ),
    ],
    ids=["foreach and momentum", "fused", "foreach"],
)
def test_settings_of_groups_decide_as_settings_of_the_rule_do(kind: Any, settings: Any) -> None:
    """Half precision is rounded in another order by some implementations: whoever asks for them gets their bits."""
    own = settings["groups"]("", None)
    plain = {key: value for key, value in settings.items() if key != "groups"}
    stock = stock_run(
        BRAIN, lambda module: kind([{"params": list(module.parameters()), **own}], lr=0.01, **plain)
    )
    rule = {torch.optim.SGD: fnlib.SGD, torch.optim.AdamW: fnlib.AdamW}[kind](lr=0.01, **settings)
    assert_same_run(*functional_run(BRAIN, rule), *stock)
    broken = fnlib.SGD(groups=lambda name, weight: {"fused": True, "momentum": 0.9})
    for refused in (
        broken,
        fnlib.wrap(
            torch.optim.SGD, lr=0.1, groups=lambda name, weight: {"fused": True, "momentum": 0.9}
        ),
    ):
        with pytest.raises(fnlib.CannotWrap, match="uninitialised memory"):
            functional_run(BRAIN, refused, steps=1)


@pytest.mark.parametrize(
    "rule",
    [
        lambda: fnlib.SGD(lr=lambda step: 0.1 / (2 - step)),
        lambda: fnlib.Adam(groups=lambda name, weight: {"rate": 1}),
        lambda: fnlib.SGD(groups=lambda name, weight: {"lr": lambda step: 0.1 / (2 - step)}),
    ],
    ids=["schedule", "groups", "schedule of a group"],
)
def test_an_error_of_a_schedule_gives_nothing_away(rule: Callable[[], Any]) -> None:
    ModelFactory = fnlib.Sequential(nn.Linear(4, 2), optimizer=rule())
    model = ModelFactory(fnlib.Parameters(seed=0))
    with pytest.raises((ZeroDivisionError, fnlib.WrongParameters)):
        for _ in range(3):
            model = ModelFactory(model.step(model.backward(loss_of(model(X))), donate=True))
    assert model(X).isfinite().all()


def test_a_value_keeps_its_own_settings() -> None:
    """What a value says of the rate of its step is no reference into the rule."""
    rule = fnlib.SGD(lr=0.1)
    parameters = stepped(rule)
    rule._settings["lr"] = 7.0  # as nobody should
    assert parameters.optimizer_state["param_groups"][0]["lr"] == 0.1


class Reversed(nn.Module):
    """The names of nets.Unused in another order."""

    forward = nets.Unused.forward

    def __init__(self) -> None:
        super().__init__()
        self.last, self.spare, self.first = nn.Linear(4, 2), nn.Linear(4, 4), nn.Linear(4, 4)


@pytest.mark.parametrize(
    "rule",
    [fnlib.SGD(lr=0.1, momentum=0.9), fnlib.Adam(lr=0.1), fnlib.wrap(torch.optim.RMSprop, lr=0.1)],
    ids=repr,
)
@pytest.mark.parametrize("donate", [False, True])
def test_one_value_under_factories_that_name_its_weights_in_another_order(
    rule: Any, donate: bool
) -> None:
    """Names decide, not places; and binding a value changes nothing about it, its order included."""
    one, two = fnlib.Factory(nets.Unused, optimizer=rule), fnlib.Factory(Reversed, optimizer=rule)
    start = one(fnlib.Parameters(seed=0)).parameters
    names = list(start)
    first, second = one(start), two(start)
    assert list(start) == names == list(first.parameters) and list(second.weights) == list(
        reversed_names(names)
    )
    x = torch.randn(5, 4)
    assert torch.equal(first(x), second(x))
    gradients = [model.backward(loss_of(model(x))) for model in (first, second)]
    assert dict(gradients[0]).keys() == dict(gradients[1]).keys()
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])
    expected = first.step(gradients[0])
    found = two(second.step(gradients[1], donate=donate)).parameters
    assert found == expected and list(found) == list(reversed_names(names))
    again = one(found)
    later = again.step(again.backward(loss_of(again(x))))
    reference = one(expected)
    assert later == reference.step(reference.backward(loss_of(reference(x))))
    step = fnlib.train_step(two, lambda output, label: loss_of(output))
    assert step(expected, x, None)[0] == later


def reversed_names(names: list[str]) -> list[str]:
    parts = {
        part: [name for name in names if name.startswith(part)]
        for part in ("last", "spare", "first")
    }
    return [name for part in parts.values() for name in part]


def test_experts_train_under_a_rule_built_on_ours_as_under_ours() -> None:
    class Same(optim.Adam):
        def update(self, weights: dict[str, Tensor], gradient: Any, state: Any) -> Any:  # type: ignore[override]
            return super().update(weights, gradient, state)

    stock = stock_run(EXPERTS, lambda module: torch.optim.Adam(module.parameters(), lr=0.01))
    assert_same_run(*functional_run(EXPERTS, Same(lr=0.01)), *stock)


class Slowing(torch.optim.SGD):
    """Lowers the rate in its groups at each step, as schedule-free optimizers do with settings of theirs."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step()
        for group in self.param_groups:
            group["lr"] *= 0.5


def test_what_an_optimizer_changes_in_its_groups_goes_on() -> None:
    stock = stock_run(EXPERTS, lambda module: Slowing(module.parameters(), lr=0.1), steps=4)
    parameters, losses = functional_run(EXPERTS, fnlib.wrap(Slowing, lr=0.1), steps=4)
    assert_same_run(parameters, losses, *stock)
    assert parameters.optimizer_state["param_groups"][0]["lr"] == 0.1 / 16
