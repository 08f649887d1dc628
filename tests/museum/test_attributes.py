"""Snapshots that are kept on an object: found when they are loaded back, and nothing said of copies."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import fnlib


class Trainer:
    def __init__(self) -> None:
        self.model, self.other = nn.Linear(4, 2), nn.Linear(4, 2)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.best: Any = None
        self.score = 0.0

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.model(torch.randn(8, 4)).pow(2).mean().backward()
        self.optimizer.step()


def the_state_itself(self: Trainer) -> None:
    self.best = self.model.state_dict()
    self.step()
    self.model.load_state_dict(self.best)


def two_values_at_once(self: Trainer) -> None:
    self.score, self.best = 0.5, self.model.state_dict()
    self.step()
    if self.best is not None:
        self.model.load_state_dict(self.best)


def in_a_box(self: Trainer) -> None:
    self.best = {"model": self.model.state_dict(), "epoch": 1}
    self.step()
    self.model.load_state_dict(self.best["model"])


def a_copy(self: Trainer) -> None:
    self.best = copy.deepcopy(self.model.state_dict())
    self.step()
    self.model.load_state_dict(self.best)


def a_copy_of_each(self: Trainer) -> None:
    self.best = {name: value.clone() for name, value in self.model.state_dict().items()}
    self.step()
    self.model.load_state_dict(self.best)


def a_copy_made_later(self: Trainer) -> None:
    self.best = self.model.state_dict()
    self.best = copy.deepcopy(self.best)
    self.step()
    self.model.load_state_dict(self.best)


def into_another_model(self: Trainer) -> None:
    self.best = self.model.state_dict()
    self.step()
    self.other.load_state_dict(self.best)


def before_anything_moves(self: Trainer) -> None:
    self.step()
    self.best = self.model.state_dict()
    self.model.load_state_dict(self.best)


def found(run: Callable[[Trainer], None]) -> list[tuple[str, str, str]]:
    trainer = Trainer()
    with fnlib.Ledger(depth=3) as ledger:
        run(trainer)
    assert [event for event in ledger.events if event.kind == "load_state_dict"], (
        "nothing was restored"
    )
    return [
        (one.code, one.severity, one.fix.partition(" = ")[0])
        for one in ledger.findings
        if one.code == "snapshot-moved"
    ]


@pytest.mark.parametrize(
    "run", [the_state_itself, two_values_at_once, in_a_box], ids=lambda run: run.__name__
)
def test_a_kept_state_that_moves_is_certain(run: Callable[[Trainer], None]) -> None:
    assert found(run) == [("snapshot-moved", "certain", "self.best")]


@pytest.mark.parametrize(
    "run",
    [a_copy, a_copy_of_each, a_copy_made_later, into_another_model, before_anything_moves],
    ids=lambda run: run.__name__,
)
def test_nothing_is_said_of_a_copy_or_of_what_has_not_moved(run: Callable[[Trainer], None]) -> None:
    assert not found(run)


def test_a_target_network_that_also_acts_without_gradient() -> None:
    """In Q-learning the acting network runs without gradient too; the target is still no network of its own."""
    policy = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
    with fnlib.Ledger(policy=policy, optimizer=optimizer) as ledger:
        target = policy
        for _ in range(2):
            with torch.no_grad():
                action = policy(torch.randn(1, 4)).argmax()
                value = target(torch.randn(8, 4)).max(1).values
            loss = (policy(torch.randn(8, 4))[:, action] - value).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert [(one.code, one.severity) for one in ledger.findings] == [
        ("one-module-two-names", "question")
    ]
