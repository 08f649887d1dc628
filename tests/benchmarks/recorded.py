"""What recording costs: a loop with the ledger around it against the same loop without, and a statement of a large model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

from fnlib.ledger import Ledger

Rule = Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]


class Recorded:
    """The loop that everybody writes, a round of it at a time, each round one recording.

    Args:
        rule: makes the optimizer.
        recorded: whether a ledger stands around it.
        steps: in a round.
    """

    def __init__(self, rule: Rule, *, recorded: bool, steps: int) -> None:
        torch.manual_seed(0)
        self.module = nn.Sequential(
            nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10), nn.LogSoftmax(dim=1)
        )
        self.optimizer, self.recorded, self.steps = rule(self.module.parameters()), recorded, steps
        generator = torch.Generator().manual_seed(1)
        self.feature, self.label = (
            torch.randn(32, 128, generator=generator),
            torch.randint(10, (32,), generator=generator),
        )

    def round(self) -> None:
        model, optimizer, feature, label, steps = (
            self.module,
            self.optimizer,
            self.feature,
            self.label,
            self.steps,
        )
        criterion = nn.NLLLoss()
        with (
            Ledger(model=model, optimizer=optimizer) if self.recorded else contextlib.nullcontext()
        ):
            for _ in range(steps):
                optimizer.zero_grad()
                output = model(feature)
                loss = criterion(output, label)
                loss.backward()
                optimizer.step()

    def state(self) -> dict[str, torch.Tensor]:
        return self.module.state_dict()


def statements(weights: int, watch: set[str] | None) -> float:
    """Return the seconds that the ledger itself took at most for a statement of a network of so many weights, trained by Adam.

    The first iteration, in which the moments are made, is left out. Each figure holds two looks, one of them for the line that
    reads the clock, so that it is too large rather than too small.
    """
    width = round((weights / 4) ** 0.5)
    model = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(4)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    feature = torch.randn(4, width)
    spent: list[float] = []
    with Ledger(model=model, optimizer=optimizer, watch=watch) as ledger:
        for _ in range(3):
            optimizer.zero_grad()
            spent.append(ledger.overhead)
            loss = model(feature).square().mean()
            spent.append(ledger.overhead)
            loss.backward()
            spent.append(ledger.overhead)
            optimizer.step()
            spent.append(ledger.overhead)
    return max(after - before for before, after in zip(spent[4:], spent[5:], strict=False))
