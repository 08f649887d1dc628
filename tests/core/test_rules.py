"""Rules as values: finished when made, holding nothing that somebody else can change, and a frame for rules of one's own."""

from __future__ import annotations

import concurrent.futures
import copy
import dataclasses
import gc
import pickle
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy
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
        with pytest.raises(fnlib.Immutable, match="An update rule can't be changed once it's made"):
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


STATES: dict[str, Any] = {
    "SGD": lambda: fnlib.SGD(lr=0.1, momentum=0.9),
    "Adam": lambda: fnlib.Adam(lr=0.1),
    "RMSprop": lambda: fnlib.wrap(torch.optim.RMSprop, lr=0.1),
    "Adagrad": lambda: fnlib.wrap(torch.optim.Adagrad, lr=0.1),
}


@pytest.mark.parametrize("reader", STATES)
@pytest.mark.parametrize("maker", STATES)
def test_a_state_that_is_put_in_belongs_to_its_rule(maker: str, reader: str) -> None:
    """`replace` doesn't know who made a state: the rule that reads it takes or refuses it."""
    made, start = stepped(STATES[maker]()), stepped(STATES[reader]())
    replaced = start.replace(optimizer_state=made.optimizer_state)
    ModelFactory = fnlib.Sequential(
        nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2), optimizer=STATES[reader]()
    )
    model = ModelFactory(replaced)
    gradient = model.backward(loss_of(model(X)))
    if maker == reader:
        assert model.step(gradient) == ModelFactory(made).step(gradient)
        return
    with pytest.raises(fnlib.WrongParameters, match="can't continue from this optimizer_state"):
        model.step(gradient)
    # Nor does it keep the name of the rule that was there before.
    own = fnlib.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2), optimizer=STATES[maker]())(
        replaced
    )
    assert own.step(gradient).step_count == replaced.step_count + 1


class OtherAdam(torch.optim.Adam):
    """A class of somebody's own, which isn't torch's."""


# A rule, the same rule with a setting that reads an entry more, and that entry; "" if torch.optim goes on too.
SWITCHED: dict[str, tuple[Callable[..., Any], dict[str, Any], str]] = {
    "Adam": (fnlib.Adam, {"amsgrad": True}, "max_exp_avg_sq"),
    "AdamW": (fnlib.AdamW, {"amsgrad": True}, "max_exp_avg_sq"),
    "Adam, fused": (fnlib.Adam, {"amsgrad": True, "fused": True}, "max_exp_avg_sq"),
    "Adam, foreach": (fnlib.Adam, {"amsgrad": True, "foreach": True}, "max_exp_avg_sq"),
    "Adam, one group": (fnlib.Adam, {"groups": lambda name, weight: {"amsgrad": name == "2.bias"}}, "max_exp_avg_sq"),
    "SGD": (fnlib.SGD, {"momentum": 0.9}, ""),
    "wrapped Adam": (partial(fnlib.wrap, torch.optim.Adam), {"amsgrad": True}, "max_exp_avg_sq"),
    "wrapped RMSprop": (partial(fnlib.wrap, torch.optim.RMSprop), {"momentum": 0.9}, "momentum_buffer"),
    "RMSprop, one group": (partial(fnlib.wrap, torch.optim.RMSprop), {"groups": lambda n, _: {"centered": n == "2.bias"}}, "grad_avg"),
    "wrapped NAdam": (partial(fnlib.wrap, torch.optim.NAdam), {"weight_decay": 0.1, "decoupled_weight_decay": True}, ""),
    "wrapped SGD": (partial(fnlib.wrap, torch.optim.SGD), {"momentum": 0.9}, ""),
    "wrapped, somebody's": (partial(fnlib.wrap, OtherAdam), {"amsgrad": True}, "max_exp_avg_sq"),
}  # fmt: skip


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", SWITCHED)
def test_a_setting_that_is_switched_on_later(name: str, compiled: bool) -> None:
    """A rule that needs an entry its predecessor didn't keep says which, and leaves the value whole."""
    rule, more, entry = SWITCHED[name]
    before = stepped(rule(lr=0.1))
    kept = copy.deepcopy(before.optimizer_state)
    ModelFactory = fnlib.Sequential(
        nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2), optimizer=rule(lr=0.1, **more)
    )

    def step(parameters: fnlib.Parameters) -> fnlib.Parameters:
        if compiled:
            return fnlib.train_step(ModelFactory, lambda output, _: loss_of(output))(
                parameters, X, None
            )[0]
        model = ModelFactory(parameters)
        return model.step(model.backward(loss_of(model(X))))

    if not entry:
        assert step(step(before)).step_count == before.step_count + 2
        return
    needs = f"it needs '{entry}', which the steps so far"
    with pytest.raises(fnlib.WrongParameters, match=needs) as caught:
        step(before)
    assert "groups" not in more or "'0.weight'" not in str(caught.value)  # it isn't in that group
    assert str(before.optimizer_state) == str(kept)
    afresh = step(before.replace(optimizer_state=None))  # the line that the error says
    assert step(afresh).optimizer_state["state"]["2.bias"].keys() >= {entry}


def test_a_step_that_gives_its_value_away_checks_it_first() -> None:
    before = stepped(fnlib.Adam(lr=0.1))
    model = fnlib.Sequential(
        nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2), optimizer=fnlib.Adam(lr=0.1, amsgrad=True)
    )(before)
    gradient = model.backward(loss_of(model(X)))
    with pytest.raises(fnlib.WrongParameters, match="start the rule afresh"):
        model.step(gradient, donate=True)
    assert before["2.bias"].isfinite().all()


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Signs(optim.SGD):
    """A rule of one's own as ours are written: a frozen dataclass with another formula."""

    scale: float = 1.0

    def move(self, w: Tensor, g: Tensor, kept: Any, t: Any, out: Any) -> Any:
        return w.sub_(self.lr * self.scale * g.sign()), kept  # in place, as one may


def test_a_formula_of_ones_own() -> None:
    rule = Signs(lr=0.5, scale=0.5)
    start, found = stepped(rule, steps=0), stepped(rule, steps=1)
    assert torch.allclose((found["2.bias"] - start["2.bias"]).abs(), torch.full((2,), 0.25))
    assert start == stepped(rule, steps=0) and repr(rule) == "fnlib.Signs(lr=0.5, scale=0.5)"
    with pytest.raises((fnlib.Immutable, dataclasses.FrozenInstanceError)):
        rule.scale = 1.0  # type: ignore[misc]


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
def test_one_value_under_factories_of_another_order(rule: Any, donate: bool) -> None:
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


# --- schedules of any setting --------------------------------------------------------------------


def cycle(step: int) -> float:
    """A number that moves, as OneCycleLR moves the momentum."""
    return 0.95 - 0.02 * step


SCHEDULED: dict[str, tuple[Any, dict[str, Any]]] = {
    "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": cycle}),
    "dampening": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": cycle}),
    "rate and decay": (torch.optim.SGD, {"lr": cycle, "weight_decay": lambda step: 0.1 * step}),
    "betas": (torch.optim.Adam, {"betas": lambda step: (cycle(step), 0.999)}),
    "one of the betas": (torch.optim.AdamW, {"betas": (0.9, cycle)}),
    "eps": (torch.optim.Adam, {"eps": lambda step: 1e-8 * 10**step}),
    "decay of AdamW": (torch.optim.AdamW, {"weight_decay": cycle}),
    "fused": (torch.optim.AdamW, {"betas": (cycle, 0.99), "fused": True}),
    "by torch.optim": (torch.optim.Adam, {"betas": (cycle, 0.99), "foreach": True}),
}
WRAPPED_ONLY: dict[str, tuple[Any, dict[str, Any]]] = {
    "alpha": (torch.optim.RMSprop, {"alpha": cycle, "momentum": 0.5}),
    "etas": (torch.optim.Rprop, {"etas": (lambda step: 0.5, lambda step: 1.1 + 0.1 * step)}),
}


def at(value: Any, step: int) -> Any:
    if isinstance(value, tuple):
        return tuple(at(part, step) for part in value)
    return value(step) if callable(value) else value


def scheduled_stock_run(kind: Any, settings: dict[str, Any], steps: int) -> Any:
    """The stock loop of somebody who writes each setting into the groups before each step."""

    class Scheduled(kind):  # type: ignore[misc]
        count = 0

        def step(self) -> None:
            for group in self.param_groups:
                group.update({key: at(value, self.count) for key, value in settings.items()})
            self.count += 1
            super().step()

    first = {key: at(value, 0) for key, value in settings.items()}
    return stock_run(EXPERTS, lambda module: Scheduled(module.parameters(), **first), steps=steps)


@pytest.mark.parametrize("name", [*SCHEDULED, *WRAPPED_ONLY])
@pytest.mark.parametrize("where", ["rule", "groups"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["own", "wrapped"])
def test_any_number_follows_the_step_count(name: str, where: str, wrapped: bool) -> None:
    """The first step uses f(0), in the rule's settings and in those of a group."""
    kind, settings = {**SCHEDULED, **WRAPPED_ONLY}[name]
    if not wrapped and name in WRAPPED_ONLY:
        pytest.skip("only wrapped")
    ours = {
        torch.optim.SGD: fnlib.SGD,
        torch.optim.Adam: fnlib.Adam,
        torch.optim.AdamW: fnlib.AdamW,
    }
    make = (lambda **given: fnlib.wrap(kind, **given)) if wrapped else ours[kind]
    if where == "rule":
        rule = make(**settings)
    else:
        moving = {key: value for key, value in settings.items() if at(value, 0) != value}
        rest = {key: value for key, value in settings.items() if key not in moving}
        rule = make(**rest, groups=lambda name, weight: moving)
    parameters, losses = functional_run(EXPERTS, rule, steps=5)
    assert_same_run(parameters, losses, *scheduled_stock_run(kind, settings, steps=5))
    kept = parameters.optimizer_state["param_groups"][0]
    for key, value in settings.items():
        assert kept[key] == at(value, 4)


def test_a_function_that_is_no_schedule_is_passed_on() -> None:
    """An optimizer that takes a function where no number is its default gets the function."""

    class Shaped(torch.optim.SGD):
        def __init__(self, params: Any, lr: float, shape: Any = None) -> None:
            super().__init__(params, lr=lr)
            self.shape = shape

        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            for group in self.param_groups:
                for weight in group["params"]:
                    weight.grad = self.shape(weight.grad)
            super().step()

    found = stepped(fnlib.wrap(Shaped, lr=0.1, shape=torch.sign), steps=1)
    start = stepped(fnlib.SGD(), steps=0)
    assert torch.allclose((found["2.bias"] - start["2.bias"]).abs(), torch.full((2,), 0.1))


@pytest.mark.parametrize("returned", [None, "fast", True, (0.1, None)], ids=repr)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_schedule_that_returns_no_number(returned: Any, wrapped: bool) -> None:
    with pytest.raises(fnlib.WrongParameters, match="lr= returned .* at step 0"):
        schedule = lambda step: returned  # noqa: E731
        fnlib.wrap(torch.optim.SGD, lr=schedule) if wrapped else fnlib.SGD(lr=schedule)


@pytest.mark.parametrize("returned", [None, 0.1, ["lr"], "lr"], ids=repr)
@pytest.mark.parametrize("wrapped", [False, True])
def test_groups_that_return_no_settings(returned: Any, wrapped: bool) -> None:
    groups: Any = lambda name, weight: returned  # noqa: E731
    rule = fnlib.wrap(torch.optim.SGD, groups=groups) if wrapped else fnlib.SGD(groups=groups)
    with pytest.raises(fnlib.WrongParameters, match="for '0.weight' it returned"):
        stepped(rule, steps=1)


NUMPY: dict[str, Callable[[Any], Any]] = {
    "setting": lambda number: fnlib.SGD(lr=number(0.25), momentum=number(0.5)),
    "pair": lambda number: fnlib.Adam(lr=number(0.25), betas=(number(0.5), number(0.75))),
    "schedule": lambda number: fnlib.SGD(lr=lambda step: number(0.25)),
    "schedule of a pair": lambda number: fnlib.AdamW(
        betas=lambda step: (number(0.5), number(0.75))
    ),
    "group": lambda number: fnlib.SGD(groups=lambda name, weight: {"weight_decay": number(0.25)}),
    "fused": lambda number: fnlib.Adam(lr=number(0.25), eps=number(0.5), fused=True),
    "wrapped": lambda number: fnlib.wrap(torch.optim.RMSprop, lr=number(0.25), alpha=number(0.5)),
    "wrapped schedule": lambda number: fnlib.wrap(torch.optim.SGD, lr=lambda step: number(0.25)),
}


@pytest.mark.parametrize("name", NUMPY)
def test_numbers_of_numpy_are_numbers(name: str) -> None:
    expected = stepped(NUMPY[name](float))
    for number in (numpy.float32, numpy.float64, numpy.array):
        found = stepped(NUMPY[name](number))
        assert found == expected
        for group in found.optimizer_state["param_groups"]:
            assert not any(isinstance(value, numpy.generic) for value in group.values())


# --- what a wrapped optimizer of torch.optim keeps between steps ----------------------------------


def test_a_wrapped_object_serves_many_values() -> None:
    """One object is refilled: values of other sizes, steps and states do not meet in it."""
    rule = fnlib.wrap(torch.optim.Adagrad, lr=0.1, initial_accumulator_value=0.5)
    sizes = [(4, 3), (4, 2), (4, 3)]
    factories = [fnlib.Sequential(nn.Linear(*size), optimizer=rule) for size in sizes]
    values = [[F(fnlib.Parameters(seed=i)).parameters] for i, F in enumerate(factories)]
    for turn in (0, 1, 2, 2, 0, 1, 0):
        model = factories[turn](values[turn][-1])
        values[turn].append(model.step(model.backward(loss_of(model(X)))))
    for i, size in enumerate(sizes):
        alone = fnlib.Sequential(
            nn.Linear(*size),
            optimizer=fnlib.wrap(torch.optim.Adagrad, lr=0.1, initial_accumulator_value=0.5),
        )
        again = [alone(fnlib.Parameters(seed=i)).parameters]
        for _ in values[i][1:]:
            model = alone(again[-1])
            again.append(model.step(model.backward(loss_of(model(X)))))
        assert values[i] == again


def test_a_wrapped_object_keeps_no_tensor() -> None:
    rule = fnlib.wrap(torch.optim.AdamW, lr=0.1)
    parameters = stepped(rule)
    held = [weakref.ref(rule._unused[0])]
    assert not rule._unused[0].param_groups and not rule._unused[0].state
    assert all(parameters[name].grad is None for name in parameters)
    del rule
    gc.collect()
    assert held[0]() is None


def test_an_error_in_a_wrapped_step_leaves_nothing_behind() -> None:
    rule = fnlib.wrap(torch.optim.SparseAdam, lr=0.1)
    weights = {"w": torch.ones(3, 2)}
    state = rule.init(weights)
    with pytest.raises(RuntimeError, match="does not support dense gradients"):
        rule.update(weights, {"w": torch.ones(3, 2)}, state)
    table = torch.ones(3, 2, requires_grad=True)
    nn.functional.embedding(torch.tensor([1]), table, sparse=True).sum().backward()
    sparse: Any = table.grad
    moved, _ = rule.update(weights, {"w": sparse}, state)
    assert weights["w"].grad is None and moved["w"].grad is None
    assert (moved["w"] != 1).any(dim=1).tolist() == [False, True, False]


def test_threads_have_an_object_each() -> None:
    rule = fnlib.wrap(torch.optim.RMSprop, lr=0.01, momentum=0.9)
    ModelFactory = fnlib.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2), optimizer=rule)
    start = ModelFactory(fnlib.Parameters(seed=0)).parameters

    def train(_: int = 0) -> fnlib.Parameters:
        model = ModelFactory(start)
        for _ in range(20):
            model = ModelFactory(model.step(model.backward(loss_of(model(X)))))
        return model.parameters

    expected = train()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(value == expected for value in pool.map(train, range(8)))


class ScheduleFree(torch.optim.Optimizer):
    """Schedule-free SGD: gradients at y, a sequence z, and train() and eval() move weights to y and x.

    After Defazio et al., "The Road Less Scheduled" (2024): x is the average of z, y lies between.
    """

    def __init__(self, params: Any, lr: float, beta: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "beta": beta, "k": 0, "train_mode": False})

    @torch.no_grad()
    def _turn(self, mode: bool) -> None:
        for group in self.param_groups:
            beta = group["beta"]
            for weight in group["params"] if group["train_mode"] is not mode else ():
                if "z" in self.state.get(weight, {}):
                    z = self.state[weight]["z"]
                    weight.lerp_(z, 1 - beta if mode else 1 - 1 / beta)
            group["train_mode"] = mode

    def train(self) -> None:
        self._turn(True)

    def eval(self) -> None:
        self._turn(False)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.train()
        for group in self.param_groups:
            group["k"] += 1
            share, beta, lr = 1 / group["k"], group["beta"], group["lr"]
            for y in [weight for weight in group["params"] if weight.grad is not None]:
                z = self.state[y].setdefault("z", y.clone())
                y.lerp_(z, share).add_(y.grad, alpha=lr * (beta * (1 - share) - 1))
                z.sub_(y.grad, alpha=lr)


def averaged(parameters: fnlib.Parameters) -> fnlib.Parameters:
    """The weights for evaluation, which eval() would put in the place of the others."""
    kept, (group,) = (parameters.optimizer_state[key] for key in ("state", "param_groups"))
    weights = {
        name: parameters[name].lerp(entry["z"], 1 - 1 / group["beta"])
        for name, entry in kept.items()
    }
    return parameters.replace(weights=weights)


def test_an_optimizer_with_modes() -> None:
    """Train in one mode, evaluate in the other and train on; nothing is switched here."""
    rule = {"lr": 0.1}
    torch.manual_seed(0)
    module = EXPERTS.build()
    optimizer = ScheduleFree(module.parameters(), **rule)
    torch.manual_seed(0)
    ModelFactory = fnlib.Factory(EXPERTS.build, optimizer=fnlib.wrap(ScheduleFree, **rule))
    parameters = ModelFactory(fnlib.Parameters()).parameters
    for step in range(6):
        (x,), _ = EXPERTS.batch(step)
        optimizer.zero_grad()
        loss_of(module(x)).backward()
        optimizer.step()
        model = ModelFactory(parameters)
        parameters = model.step(model.backward(loss_of(model(x))))
        assert parameters.optimizer_state["param_groups"][0]["train_mode"] is True
        optimizer.eval()
        for name, weight in module.named_parameters():
            assert torch.equal(averaged(parameters)[name], weight), name
        assert torch.equal(ModelFactory(averaged(parameters)).eval()(x), module(x))
        optimizer.train()
        # Going there and back rounds, so the values go on from there too.
        back = {name: weight.detach() for name, weight in module.named_parameters()}
        parameters = parameters.replace(weights=back)


class GlobalNorm(torch.optim.Optimizer):
    """A step as long as all gradients together say: not one weight after the other."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        weights = [w for group in self.param_groups for w in group["params"] if w.grad is not None]
        norm = torch.stack([weight.grad.norm() for weight in weights]).norm()
        for weight in weights:
            weight.sub_(weight.grad * (self.param_groups[0]["lr"] / norm))


@pytest.mark.parametrize("kind", [torch.optim.Adam, GlobalNorm], ids=lambda kind: kind.__name__)
def test_one_rule_over_several_models(kind: Any) -> None:
    """What steps weight by weight takes two factories; any other rule takes both in one network."""
    build = {"left": lambda: torch.nn.Linear(4, 3), "right": lambda: torch.nn.Linear(3, 2)}
    together = lambda: torch.nn.ModuleDict({name: make() for name, make in build.items()})  # noqa: E731
    torch.manual_seed(0)
    stock = together()
    optimizer = kind(stock.parameters(), lr=0.1)
    for step in range(5):
        optimizer.zero_grad()
        loss_of(stock["right"](stock["left"](EXPERTS.batch(step)[0][0]))).backward()
        optimizer.step()
    expected = dict(stock.named_parameters())
    torch.manual_seed(0)
    rule = fnlib.wrap(kind, lr=0.1)
    if kind is GlobalNorm:

        class Both(torch.nn.ModuleDict):
            def forward(self, x: Tensor) -> Tensor:
                return self["right"](self["left"](x))

        Together = fnlib.Factory(lambda: Both({n: make() for n, make in build.items()}), rule)
        model = Together(fnlib.Parameters())
        for step in range(5):
            loss = loss_of(model(EXPERTS.batch(step)[0][0]))
            model = Together(model.step(model.backward(loss)))
        found = dict(model.parameters)
    else:
        factories = [fnlib.Factory(make, rule) for make in build.values()]
        models = [ModelFactory(fnlib.Parameters()) for ModelFactory in factories]
        for step in range(5):
            loss = loss_of(models[1](models[0](EXPERTS.batch(step)[0][0])))
            gradients = fnlib.backward(loss, *models)
            values = [m.step(g) for m, g in zip(models, gradients, strict=True)]
            models = [f(p) for f, p in zip(factories, values, strict=True)]
        found = {
            f"{name}.{key}": weight
            for name, model in zip(build, models, strict=True)
            for key, weight in model.parameters.items()
        }
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.equal(found[name], weight), name
