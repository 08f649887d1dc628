"""A wrong mode is told once, at the statement that runs the whole model, with the model's own name in the fix."""

from __future__ import annotations

import torch
from torch import nn

import fnlib


class Block(nn.Module):
    def __init__(self, *more: nn.Module) -> None:
        super().__init__()
        self.linear, self.more = nn.Linear(4, 4), nn.Sequential(*more)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.linear(x)
        return self.more(hidden)


class Net(nn.Module):
    def __init__(self, *more: nn.Module) -> None:
        super().__init__()
        self.first, self.second = Block(*more), Block(nn.Dropout(0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        x = self.second(x)
        return x


def findings(net: Net) -> list[fnlib.ledger.Finding]:
    with fnlib.Ledger(net=net, depth=5) as ledger, torch.no_grad():
        net(torch.randn(8, 4))
    lines = {entry.source: entry.line for entry in ledger.walk()}
    assert "hidden = self.linear(x)" in lines, "the forwards inside were not recorded"
    assert {one.line for one in ledger.findings} == {lines["net(torch.randn(8, 4))"]}
    return ledger.findings


def test_random_parts_are_one_finding_where_the_model_is_called() -> None:
    (found,) = findings(Net(nn.Dropout(0.5)))
    assert (found.code, found.place) == (
        "training-mode-without-gradient",
        "net.first.more.0 and 1 more",
    )
    assert found.fix == "net.eval()      # once, since it is never trained"


def test_moved_statistics_are_told_there_too() -> None:
    found = {one.code: one for one in findings(Net(nn.BatchNorm1d(4)))}
    moved = found["statistics-moved-without-gradient"]
    assert (
        moved.place == "net.first.more.0.num_batches_tracked and 2 more"
        and moved.fix.startswith("net.eval()")
    )


def test_a_part_called_alone_is_reported_at_its_call() -> None:
    """A part that is called by itself is reported at the line of the call."""
    net = Net(nn.Dropout(0.5))
    with fnlib.Ledger(net=net, depth=5) as ledger, torch.no_grad():
        net.first(torch.randn(8, 4))
    (found,) = ledger.findings
    assert found.fix.startswith("net.first.eval()")


def test_zero_grad_without_parentheses_is_pointed_out() -> None:
    """Point out `zero_grad` without parentheses beside the bug that follows from it."""
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with fnlib.Ledger(model=model, optimizer=optimizer) as ledger:
        for _ in range(2):
            optimizer.zero_grad  # noqa: B018
            loss = model(torch.randn(8, 4)).mean()
            loss.backward()
            optimizer.step()
    lines = {entry.source: entry.line for entry in ledger.entries}
    found = next(one for one in ledger.findings if one.code == "gradient-used-twice")
    assert found.line == lines["optimizer.step()"] and "it has already used" in found.what
    bare = next(line for source, line in lines.items() if source.startswith("optimizer.zero_grad"))
    assert (
        f"Line {bare} only names optimizer.zero_grad: without parentheses nothing is called."
        in found.why
    )
