"""What a name stands for: the frame's own, under the right kind, and nothing that isn't there."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import fnlib
from fnlib.ledger import Ledger
from fnlib.ledger.looks.bytes import checksum

loss = torch.ones(2)
total = 7.0
model = nn.Linear(3, 3)
opt = torch.optim.SGD(model.parameters(), lr=0.5)


def names_of(ledger: Ledger) -> list[tuple[str, str]]:
    entries = ledger.walk()
    found = [change for entry in entries for change in entry.changes if change.state == "name"]
    return [(change.owner, change.kind) for change in found]


def test_unbound_local_names_are_no_globals() -> None:
    """A function's own `loss` and `total` are bound for the first time, whatever globals there are."""

    def run() -> Ledger:
        with Ledger() as ledger:
            total = 0.0
            loss = torch.zeros(1)
            total += loss.item()
        return ledger

    ledger = run()
    assert names_of(ledger)[:2] == [("total", "created"), ("loss", "created")]
    assert ledger.counts.rebound == 1  # by +=


def test_unbound_local_names_watch_no_foreign_object() -> None:
    """The ledger discovers the function's own model and optimizer, not the globals of these names."""

    def run() -> Ledger:
        with Ledger() as ledger:
            model = nn.Linear(2, 1)
            opt = torch.optim.SGD(model.parameters(), lr=0.1)
            model(torch.ones(1, 2)).sum().backward()
            opt.step()
        return ledger

    ledger = run()
    owners = {change.owner for entry in ledger.entries for change in entry.changes}
    assert "model" in owners and not any("(" in owner for owner in owners - {"(unnamed)"}), owners
    assert [event.subject for event in ledger.events if event.kind == "step"] == ["opt"]


def test_cells_and_deleted_names_are_no_globals() -> None:
    """Names of enclosing functions and deleted names don't fall through either."""

    def run() -> Ledger:
        def inner() -> Any:
            return loss  # noqa: F821

        with Ledger() as ledger:
            loss = torch.zeros(1)
            del loss
            total = 1
            del total
        del inner
        return ledger

    assert names_of(run()) == [
        ("loss", "created"),
        ("loss", "removed"),
        ("total", "created"),
        ("total", "removed"),
    ]


def test_globals_and_class_bodies_are_still_read() -> None:
    """A function that only reads a global names it, and so does the body of a class."""
    with Ledger(model=model) as ledger:

        class _Body:
            weight = model.weight.data.mul_(1.5)

        model.bias.data.add_(1)
    assert [entry.named for entry in ledger.entries if entry.kind == "statement"] == [{"model"}]
    with Ledger(loss=loss) as ledger:
        double = loss + loss
    assert double is not None and ledger.entries[0].named == {"loss"}


def a_module_of(name: str) -> Callable[..., nn.Module]:
    """Make a class as a file of that name would have it."""
    source = types.ModuleType(name)
    source.__dict__["nn"] = nn
    text = "class Net(nn.Linear):\n    pass\nclass Ledger(nn.Linear):\n    pass\n"
    exec(compile(text, f"{name}.py", "exec"), source.__dict__)
    return source.__dict__


@pytest.mark.parametrize("name", ["fnlib_experiments", "fnlib2", "fnlibs.net"])
def test_files_whose_name_begins_with_fnlib(name: str) -> None:
    """A user's class is an ordinary one, wherever it is defined."""
    net = a_module_of(name)["Net"](2, 1)
    with Ledger(net=net) as ledger:
        out = net(torch.ones(1, 2))
        out.sum().backward()
        other = net
    gradients = [change.label for change in ledger.entries[1].changes if change.state == "gradient"]
    assert gradients == ["net.weight.grad", "net.bias.grad"] and not ledger.faults
    assert other is net


def test_a_users_class_named_ledger() -> None:
    """Only this package's recordings are left out of the names."""
    kind = a_module_of("mine")["Ledger"]
    with Ledger() as ledger:
        net = kind(2, 1)
        second = Ledger(net=net)
    assert names_of(ledger) == [("net", "created")] and second.watched == ("net",)


@pytest.mark.parametrize(
    "expression", ["net(x).sum()", "net(x).mean() + net(x).sum()", "(net(x) ** 2).sum()"]
)
def test_an_unnamed_loss_gets_no_name(expression: str) -> None:
    """The graph of an expression is built and freed in one statement, under no invented name."""
    net, x = nn.Linear(2, 1), torch.ones(1, 2)
    ledger = Ledger(net=net)
    code = compile(f"({expression}).backward()", "<cell>", "exec")
    ledger.run(code, namespace={"net": net, "x": x})
    assert [event.kind for event in ledger.events if event.kind == "backward"]
    assert not [change for change in ledger.entries[0].changes if change.state == "graph"]
    owners = {change.owner for entry in ledger.entries for change in entry.changes}
    assert owners == {"net"}


def test_an_unnamed_graph_of_an_earlier_statement() -> None:
    """A graph that an earlier statement built is freed visibly, even where no name has it."""
    net, losses = nn.Linear(2, 1), [torch.zeros(())]
    ledger = Ledger(net=net)
    lines = "losses[0] = net(torch.ones(1, 2)).sum()\nlosses[0].backward()"
    ledger.run(
        compile(lines, "<cell>", "exec"), namespace={"net": net, "losses": losses, "torch": torch}
    )
    [graph] = [change for change in ledger.entries[1].changes if change.state == "graph"]
    assert (graph.owner, graph.kind) == ("(unnamed)", "removed")


def test_a_named_part_of_an_unnamed_loss_has_its_name() -> None:
    """The part of the graph that has a name keeps it."""
    net, x = nn.Linear(2, 1), torch.ones(1, 2)
    with Ledger(net=net) as ledger:
        output = net(x)
        output.sum().backward()
    graphs = [change for change in ledger.entries[1].changes if change.state == "graph"]
    assert [change.owner for change in graphs] == ["output"]


def test_a_rebound_name_has_one_word() -> None:
    """Whatever tells of a rebound name calls it rebound."""
    net = nn.Linear(2, 1)
    with Ledger(net=net) as ledger:
        a = 1
        a = 2
        net = nn.Linear(2, 1)
    assert a == 2 and net is not None
    assert ledger.counts.rebound == 2
    assert "net was rebound to another Linear, which is not watched" in str(ledger)
    assert "bound again" not in " ".join(ledger.notes)


def test_values_of_the_package_are_recognised() -> None:
    """Parameters, gradients, models and boxes are fnlib's own; a subclass is one too."""
    factory = fnlib.Sequential(nn.Linear(2, 1), optimizer=fnlib.SGD(lr=0.1))
    parameters = factory(fnlib.Parameters(seed=0)).parameters
    with Ledger(parameters=parameters) as ledger:
        model = factory(parameters)
        gradient = model.backward(model(torch.ones(1, 2)).sum())
    assert gradient is not None
    kinds = {change.owner: change.after for entry in ledger.entries for change in entry.changes}
    assert "2 tensors" in str(kinds["gradient"]) or kinds["gradient"] is not None
    assert not ledger.faults


def test_state_is_named_after_a_weight_that_is_watched_by_itself() -> None:
    """Also if the state is older than the recording."""
    weight = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    weight.sum().backward()
    optimizer.step()
    with Ledger(weight=weight, optimizer=optimizer) as ledger:
        optimizer.step()
    (entry,) = ledger.entries
    assert "optimizer.weight.momentum_buffer" in {change.label for change in entry.changes}


def test_contents_are_those_of_a_drawn_tensor() -> None:
    """Not of its gradient, nor of a tensor in a dict."""

    def drawn() -> torch.Tensor:
        weight = torch.randn(2, requires_grad=True)
        weight.grad = torch.ones(2)
        return weight

    with Ledger() as ledger:
        x = torch.randn(3)
        weight = drawn()
        both = {"drawn": torch.randn(2), "mask": torch.ones(2)}
    found = {
        change.owner: change.after.contents
        for entry in ledger.entries
        for change in entry.changes
        if change.state == "name"
    }
    wanted = {
        name: checksum(bytearray(one.detach().numpy().tobytes()))
        for name, one in {"x": x, "weight": weight}.items()
    }
    assert found == {**wanted, "both": None} and both
