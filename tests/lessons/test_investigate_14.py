"""Lesson 14: the changes that "Investigate" asks for, and what the text claims."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from torch import Tensor

import fnlib
from fnlib import teaching
from tests.lessons.tried import Tried

OWN = ("predict", "own", "own-run")
RULES = (*OWN, "rules", "rules-run")
EQUAL = (*RULES, "join", "both", "equal")
HAND = "1.0 1.5 -2.0\n0.25 2.0 -2.0\n0.0 2.25 -1.0\n0.0625 2.25 0.0\n"
MOVED = "sgd: -0.0001 and -100\nmomentum: -0.0001 and -100\nadam: -0.1 and -0.1\n"


def test_14_a_note_is_not_in_the_state_dict() -> None:
    more = """
optimizer.note = torch.ones(1)
saved = optimizer.state_dict()
"""
    tried = Tried("14", OWN, {}, more)
    assert tried.error is None and HAND in tried.said
    assert tried.names["saved"].keys() == {"state", "param_groups"}
    assert tried.names["saved"]["state"].keys() == {0}
    assert tried.names["saved"]["param_groups"][0]["params"] == [0]


def test_14_named_parameters_are_saved_with_names() -> None:
    """As the text says of the groups; the state is kept by position all the same."""
    more = """
layer = nn.Linear(2, 1)
layer(torch.ones(1, 2)).sum().backward()
named = Momentum(layer.named_parameters(), lr=0.1, momentum=0.9)
named.step()
saved = named.state_dict()
"""
    tried = Tried("14", OWN, {}, more)
    assert tried.error is None
    (group,) = tried.names["saved"]["param_groups"]
    assert group["param_names"] == ["weight", "bias"] and group["params"] == [0, 1]
    assert tried.names["saved"]["state"].keys() == {0, 1}


def test_14_adam_without_its_divisors_goes_too_far() -> None:
    change = {
        "rules": [
            ("root = square.sqrt() / (1 - b2**t) ** 0.5 + eps", "root = square.sqrt() + eps"),
            ("value=-lr / (1 - b1**t)", "value=-lr"),
        ]
    }
    tried = Tried("14", EQUAL, change)
    assert tried.error is None and "adam: -0.32 and -0.316" in tried.said
    assert 3 * 0.1 < 0.1 * 0.1 / math.sqrt(0.001) < 0.32
    assert "SGD True\nmomentum True\nAdam False" in tried.said


def test_14_a_rule_that_writes_harms_its_caller() -> None:
    """Not in a factory, which hands copies to somebody else's rule."""
    change = {
        "rules": [
            (
                "    return torch.add(weight, gradient, alpha=-lr), state\n",
                "    weight.add_(gradient, alpha=-lr)\n    return weight, state\n",
            )
        ]
    }
    tried = Tried("14", EQUAL, change)
    assert tried.error is None and "sgd: -0.0001 and -100" in tried.said
    assert "momentum: -0.0001 and -100" not in tried.said
    assert "adam: nan and -100" in tried.said
    assert tried.said.count("True") == 4
    assert Tried("14", EQUAL, {}).said.count(MOVED) == 1


def test_14_the_ledger_shows_both_owners() -> None:
    tried = Tried("14", OWN, {})
    (step,) = tried.names["ledger"].entries
    changed = {(change.owner, change.kind) for change in step.changes}
    assert changed == {("weight", "changed in place"), ("optimizer", "changed in place")}


def test_14_the_ledger_misses_what_is_kept_outside() -> None:
    """The answer to the first question says so of a velocity in ``self.velocity``."""
    change = {
        "own": [
            ('{"lr": lr, "momentum": momentum})', '{"lr": lr, "momentum": momentum}); self.velocity = {}'),
            ("kept = self.state[weight]", "kept = self.velocity.setdefault(weight, {})"),
        ],
        "own-run": [('optimizer.state[weight]["velocity"]', 'optimizer.velocity[weight]["velocity"]')],
    }  # fmt: skip
    tried = Tried("14", OWN, change)
    assert tried.error is None and HAND in tried.said and "{'state': {}" in tried.said
    (step,) = tried.names["ledger"].entries
    assert {change.owner for change in step.changes} == {"weight"}


def test_14_a_factory_asks_whose_state_it_is() -> None:
    """The comment beside `name`, and the guide."""
    more = """
def started(rule, first_state):
    return fnlib.Sequential(nn.Linear(2, 1), optimizer=EachWeight(rule, first_state))
first, second = started(momentum, torch.zeros_like), started(adam, two_averages)
model = first(fnlib.Parameters(seed=0))
after = model.step(model.backward(model(torch.ones(1, 2)).sum()))
model = second(after)
try:
    model.step(model.backward(model(torch.ones(1, 2)).sum()))
    refused = None
except fnlib.WrongRule as error:
    refused = str(error)
"""
    tried = Tried("14", EQUAL, {}, more)
    assert tried.error is None
    assert "momentum" in tried.names["refused"] and "adam" in tried.names["refused"]


def test_14_groups_and_schedulers_come_with_the_class() -> None:
    """And with `fnlib`'s rules; a rule of one's own has no rate that a factory could read or set."""
    more = """
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
optimizer.step()
scheduler.step()
two = Momentum([{"params": [torch.ones(1)], "lr": 0.5}, {"params": [torch.ones(1)]}], 0.1, 0.9)
model = fnlib.Sequential(nn.Linear(2, 1), optimizer=own_momentum)(fnlib.Parameters(seed=0))
"""
    tried = Tried("14", EQUAL, {}, more)
    assert tried.error is None
    assert tried.names["optimizer"].param_groups[0]["lr"] == 0.125
    assert [group["lr"] for group in tried.names["two"].param_groups] == [0.5, 0.1]
    with pytest.raises(fnlib.WrongParameters):
        tried.names["model"].rates  # noqa: B018
    rule = fnlib.SGD(
        lr=lambda step: 0.1 * 0.5**step, groups=lambda name, weight: {"lr": 0.0} if "bias" in name else {}
    )  # fmt: skip
    model = fnlib.Sequential(torch.nn.Linear(2, 1), optimizer=rule)(fnlib.Parameters(seed=0))
    after = model.step(model.backward(model(torch.ones(1, 2)).sum()))
    same = {name: torch.equal(weight, after[name]) for name, weight in model.parameters.items()}
    assert same == {"0.weight": False, "0.bias": True}


def test_14_the_slope_is_minus_a_product() -> None:
    small = teaching.hand_sized()
    before = torch.func.grad(small.loss)(torch.tensor(1.0))
    after = torch.func.grad(small.loss)(torch.tensor(1.0) - 0.25 * before)
    assert (before.item(), after.item(), -(before * after).item()) == (-2.0, -1.0, -2.0)


def test_14_a_learned_rate_lowers_the_loss() -> None:
    tried = Tried("14", (*RULES, "slope", "learn"), {})
    assert tried.error is None
    rates, losses = tried.names["rates"], tried.names["losses"]
    assert rates[0] == pytest.approx(0.001) and rates == sorted(rates) and rates[-1] > 0.1
    assert losses[0] > 2 and losses[-1] < 1


def test_14_adams_slope_is_nan_where_no_pixel_is() -> None:
    """Columns of pixels that are 0 in all images; SGD with momentum has a slope there."""
    more = """
with_momentum = torch.func.grad(lambda r: loss_after(fnlib.SGD(lr=r, momentum=0.9)))
slopes = through_adam(torch.tensor(0.01)), with_momentum(torch.tensor(0.01))
"""
    tried = Tried("14", (*RULES, "slope"), {}, more)
    assert tried.error is None and "slope, one weight, rate 1/4: -2.0" in tried.said
    assert [bool(slope.isnan()) for slope in tried.names["slopes"]] == [True, False]
    digits = tried.names["digits"]
    assert ((digits.train.feature == 0).all(0) & (digits.test.feature == 0).all(0)).any()
    root = torch.func.grad(torch.sqrt)
    assert root(torch.tensor(0.0)) == math.inf


def test_14_own_rules_are_refused_by_a_transform() -> None:
    """The guide says so, and that `alpha=` takes plain numbers only."""
    more = """
rule = EachWeight(sgd, no_state)
network = nn.Sequential(*layers())
start = fnlib.Parameters.from_module(network)
step = fnlib.train_step(fnlib.Factory(network, optimizer=rule), criterion)
def loss_of(weights):
    return step(step(start.replace(weights=weights), *batches[0])[0], *batches[1])[1]
"""
    tried = Tried("14", EQUAL, {}, more)
    assert tried.error is None
    with pytest.raises(fnlib.CannotTransform):
        torch.func.grad(tried.names["loss_of"])(dict(tried.names["start"]))
    one = torch.tensor(1.0)
    with pytest.raises(TypeError, match="must be Number"):
        torch.func.grad(lambda rate: tried.names["sgd"](one, one, None, rate)[0])(one)


def test_14_a_slope_costs_memory_for_each_step() -> None:
    """What autograd saves grows by as much with each step."""

    def saved(steps: int) -> int:
        sizes: list[int] = []

        def pack(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        rate = torch.tensor(0.1, requires_grad=True)
        weight = torch.ones(100, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            for _ in range(steps):
                loss = (weight**4).sum()
                (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
                weight = weight - rate * gradient
        return sum(sizes)

    assert saved(8) - saved(4) == saved(12) - saved(8) > 0


def test_14_stock_optimizers_can_be_differentiated() -> None:
    for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
        assert "differentiable" in inspect.signature(kind).parameters
    small = teaching.hand_sized()
    rate = torch.tensor(0.25, requires_grad=True)
    weight = torch.tensor(1.0, requires_grad=True).clone()
    weight.grad = torch.tensor(-2.0)
    torch.optim.SGD([weight], lr=rate, differentiable=True).step()
    assert torch.autograd.grad(small.loss(weight), rate)[0].item() == -2.0


def test_14_lbfgs_calls_the_function_several_times() -> None:
    """In both styles, with the same bits; and the loss falls as the picture in words says."""
    more = """
stock = nn.Sequential(*layers())
stock.load_state_dict(LBFGSFactory(fnlib.Parameters(seed=0)).parameters.state_dict())
optimizer = torch.optim.LBFGS(stock.parameters())
calls = []
def closure():
    calls.append(1)
    optimizer.zero_grad()
    loss = criterion(stock(feature), label)
    loss.backward()
    return loss
for _ in range(2):
    optimizer.step(closure)
same = all(torch.equal(model.parameters[name], w) for name, w in stock.named_parameters())
"""
    tried = Tried("14", ("predict", "decide"), {}, more)
    assert tried.error is None and tried.names["same"]
    assert len(tried.names["calls"]) == len(tried.names["seen"]) > 4
    assert tried.names["seen"][-1] < 0.01 * tried.names["seen"][0]


def test_14_a_wrapped_attribute_goes_along() -> None:
    """The exit question says so of `fnlib.wrap`."""

    class Own(torch.optim.Optimizer):
        def __init__(self, weights: object, lr: float = 0.1) -> None:
            super().__init__(weights, {"lr": lr})  # type: ignore[arg-type]
            self.velocity: dict[Tensor, Tensor] = {}

        @torch.no_grad()
        def step(self) -> None:  # type: ignore[override]
            for weight in self.param_groups[0]["params"]:
                self.velocity[weight] = self.velocity.get(weight, 0) * 0.9 + weight.grad
                weight.sub_(0.1 * self.velocity[weight])

    factory = fnlib.Sequential(torch.nn.Linear(2, 1), optimizer=fnlib.wrap(Own))
    model = factory(fnlib.Parameters(seed=0))
    path = [model.parameters]
    for _ in range(2):
        model = factory(model.step(model.backward(model(torch.ones(1, 2)).sum())))
        path.append(model.parameters)
    bias = [float(parameters["0.bias"]) for parameters in path]
    assert bias[0] - bias[1] == pytest.approx(0.1) and bias[1] - bias[2] == pytest.approx(0.19)


def test_14_the_decayed_rule_has_the_bits_of_adamw() -> None:
    more = """
def adamw(weight, gradient, state):
    return with_decay(adam, weight, gradient, state, lr=0.01, decay=0.1)
same = same_bits(EachWeight(adamw, two_averages), optim.AdamW, lr=0.01, weight_decay=0.1)
other = same_bits(EachWeight(adamw, two_averages), optim.Adam, lr=0.01, weight_decay=0.1)
"""
    tried = Tried("14", (*EQUAL, "modify"), {}, more)
    assert tried.error is None and (tried.names["same"], tried.names["other"]) == (True, False)


def test_14_the_rule_that_tunes_itself_joins() -> None:
    """The answer of "Make", with the numbers of the hand-sized example."""
    more = """
weight, state = torch.tensor(1.0), (torch.tensor(0.25), torch.tensor(0.0))
path = []
for _ in range(3):
    weight, state = self_tuning(weight, 2 * weight - 4, state)
    path.append((weight.item(), state[0].item()))
"""
    tried = Tried("14", ("predict", "make"), {}, more)
    assert tried.error is None and "14-rate: passed" in tried.said
    assert tried.names["path"] == [(1.5, 0.25), (2.0, 0.5), (2.0, 0.5)]


def test_14_runs_again_from_any_cell() -> None:
    """Every cell once after all that come later, and then the lesson once more."""
    cells = (*EQUAL, "slope", "learn", "modify", "decide", "make")
    tried = Tried("14", (*cells, *reversed(cells[1:]), *cells[1:]), {})
    assert tried.error is None
    for once in (MOVED, "Adam True", "the class Momentum, wrapped True", "slope, 20 steps"):
        assert tried.said.count(once) == 3
    assert tried.said.count(HAND) == 6
    assert tried.said.count("14-adamw: passed") == 3
