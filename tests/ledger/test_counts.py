"""The three counts: action at a distance, values overwritten, names rebound."""

from __future__ import annotations

import torch
from torch import nn

import fnlib
from fnlib.ledger import Counts, Ledger

DATA = [(torch.randn(32, 128), torch.randint(0, 10, (32,))) for _ in range(2)]


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10), nn.LogSoftmax(dim=1))


def test_the_stock_loop_acts_at_a_distance_in_three_of_five() -> None:
    model, criterion = network(), nn.NLLLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with Ledger(model=model, optimizer=optimizer) as ledger:
        for feature, label in DATA:
            optimizer.zero_grad()
            output = model(feature)
            loss = criterion(output, label)
            loss.backward()
            optimizer.step()
    second = ledger.iteration(2)
    assert second.counts == Counts(at_a_distance=3, statements=5, overwritten=4, rebound=2)
    far = [entry.source for entry in second.entries if entry.acts_at_a_distance]
    assert far == ["optimizer.zero_grad()", "loss.backward()", "optimizer.step()"]


def test_the_functional_loop_in_none_of_five() -> None:
    criterion = nn.NLLLoss()
    ModelFactory = fnlib.Sequential(*network(), optimizer=fnlib.SGD(lr=0.01))
    model = ModelFactory(fnlib.Parameters())
    parameters = model.parameters
    with Ledger(model=model, parameters=parameters) as ledger:
        for feature, label in DATA:
            output = model(feature)
            loss = criterion(output, label)
            gradient = model.backward(loss)
            parameters = model.step(gradient)
            model = ModelFactory(parameters)
    assert ledger.iteration(2).counts == Counts(
        at_a_distance=0, statements=5, overwritten=0, rebound=5
    )
    assert not [
        change
        for entry in ledger.entries
        for change in entry.changes
        if change.state not in ("name", "graph")
    ]
    assert "the graph behind a loss is used up" in str(ledger)  # what the counts do not say


class Box(nn.Module):
    """The essay's middle proposal: weights, loss and optimizer in one box."""

    def __init__(self, **settings: float) -> None:
        super().__init__()
        self.network, self.criterion = network(), nn.NLLLoss()
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.01, **settings)

    def step(self, feature: torch.Tensor, label: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        self.criterion(self.network(feature), label).backward()
        self.optimizer.step()


def test_a_closed_box_names_and_overwrites_everything() -> None:
    """A closed box's step names all it changes, and overwrites it all the same."""
    model = Box(momentum=0.9)
    with Ledger(model=model, optimizer=model.optimizer) as ledger:
        for feature, label in DATA:
            model.step(feature, label)
    assert ledger.counts.at_a_distance == 0 and ledger.counts.statements == 1
    assert ledger.iteration(2).counts.overwritten == 4 + 4  # weights and momentum


def test_the_box_of_the_package_replaces_its_value() -> None:
    """A step gives the box another value: what a name still holds of the old one is as it was."""
    model = fnlib.encapsulated.Sequential(
        *network(), loss=nn.NLLLoss(), optimizer=fnlib.SGD(lr=0.01)
    )
    feature, label = DATA[0]
    with Ledger(model=model) as ledger:
        model.step(feature, label)
        model.fit(feature, label, epochs=2)
        model.parameters = model.parameters
    assert ledger.counts.at_a_distance == 0 and ledger.counts.overwritten == 0
    states = ("weight", "optimizer state")  # 4 weights and the count of steps
    kinds = [
        [change.kind for change in entry.changes if change.state in states]
        for entry in ledger.entries
    ]
    assert kinds == [["replaced"] * 5, ["replaced"] * 5, []]


def test_a_write_behind_a_boxs_value_is_no_replacement() -> None:
    """Bytes that are overwritten without a new value stay "changed in place"."""
    box = fnlib.encapsulated.Sequential(nn.Linear(2, 1), loss=nn.MSELoss())
    with Ledger(box=box) as ledger:
        box.parameters._content.weights["0.bias"].data.add_(1)
    assert [change.kind for change in ledger.entries[0].changes] == ["changed in place"]


def test_random_state_is_listed_and_not_counted() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout())
    with Ledger(model=model) as ledger:
        output = model(torch.ones(1, 4))
    assert ("random", "torch") in [
        (change.owner, change.place) for change in ledger.entries[0].changes
    ]
    assert ledger.counts == Counts(0, 1, 0, 0) and "the random state of torch moves" in str(ledger)
    del output


class Holder:
    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @property
    def computed(self) -> nn.Module:
        raise AssertionError("looking for owners must not run code")


def test_what_names_an_owner() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    nets, holder, weights = {"first": net}, Holder(net), list(net.parameters())
    outer, bias = nn.Sequential(net), net[1].bias
    with Ledger(model=net) as ledger, torch.no_grad():
        net[0].bias.add_(1)  # another name of the owner
        nets["first"][0].bias.add_(1)  # a constant subscript
        holder.model[0].bias.add_(1)  # a dotted name
        bias.add_(1)  # one of its tensors
        weights[0].add_(1)
        outer[0][0].bias.add_(1)  # a module that contains it
        [weight.add_(1) for weight in weights]  # the list is none of these
        getattr(holder, "mo" + "del")[0].bias.add_(1)  # would have to be called
    assert [entry.acts_at_a_distance for entry in ledger.entries] == [False] * 6 + [True] * 2


def test_a_property_is_not_called_to_find_out() -> None:
    net = nn.Linear(2, 2)
    holder = Holder(net)
    with Ledger(model=net) as ledger:
        try:
            holder.computed.zero_grad()
        except AssertionError:
            pass
    assert (
        ledger.entries[0].source == "holder.computed.zero_grad()"
        and ledger.entries[0].named == frozenset()
    )


def test_names_rebound_counts_names_not_values() -> None:
    with Ledger(x=torch.ones(2)) as ledger:
        a = torch.ones(2)
        a = a + 1
        a += 1  # the same object: changed in place, not bound again
        b = a
        del a
    assert ledger.counts.rebound == 1 and ledger.counts.overwritten == 1
    changes = [
        [(change.owner, change.state, change.kind) for change in entry.changes]
        for entry in ledger.entries
    ]
    assert changes[2] == [("a", "value", "changed in place")]
    assert changes[4] == [("a", "name", "removed")]
    del b


def test_a_module_names_what_it_holds_as_soon_as_it_does() -> None:
    """A module names a tensor as soon as it holds it."""
    model = nn.Linear(2, 2)
    box = nn.Sequential(nn.Linear(2, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Ledger(box=box, optimizer=optimizer, model=model) as ledger:
        box.train()
        box.rule = optimizer
        box.train()
        box.append(model)
        box.train()
        del box.rule
        box.train()
    own, rule, part = {"box"}, {"optimizer"}, {"model"}
    runs = [set(entry.named) for entry in ledger.entries if entry.source == "box.train()"]
    assert runs == [own, own | rule, own | rule | part, own | part]


def test_a_loop_variable_has_no_gradient_of_its_own() -> None:
    """The name left over from a loop over the weights has no gradient of its own."""
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Ledger(model=model, optimizer=optimizer) as ledger:
        for _ in range(2):
            # fmt: off
            model.zero_grad(); model(torch.ones(1, 2)).sum().backward()  # noqa: E702
            # fmt: on
            for p in model.parameters():
                p.grad.mul_(2)
            optimizer.zero_grad()
            model(torch.ones(1, 2)).sum().backward()
    gradients = [
        [change for change in entry.changes if change.state == "gradient"]
        for entry in ledger.entries
    ]
    assert {change.owner for changes in gradients for change in changes} == {"model"}
    assert any(
        "p.grad" in change.also for changes in gradients for change in changes
    )  # a second name, and told as one
    assert (ledger.counts.at_a_distance, ledger.counts.statements) == (
        1,
        4,
    )  # optimizer.zero_grad()
