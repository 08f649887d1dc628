"""The player shows each statement's changes, and without widgets the table stands in its place."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

import fnlib
from fnlib.ledger import Ledger


def recorded() -> Ledger:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    with fnlib.Ledger(model=model, optimizer=optimizer) as ledger:
        loss = model(torch.ones(1, 2)).sum()
        loss.backward()
        optimizer.step()
    return ledger


def test_every_step_shows_its_statement_and_its_changes() -> None:
    ledger = recorded()
    player = ledger.replay()
    assert "Before the first statement" in player.shown.value
    for number, entry in enumerate(ledger.entries, 1):
        player.slider.value = number
        assert f"▶ {entry.source}" in player.shown.value
        for change in entry.changes:
            assert change.kind in player.shown.value and change.owner in player.shown.value
    assert "action at a distance" in player.shown.value and "momentum_buffer" in player.shown.value
    assert player.slider.max == len(ledger.entries)
    player.play.click()
    assert player.slider.value == 0


def test_without_widgets_the_table_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    ledger = recorded()
    player = ledger.replay()
    player.slider.value = 2
    assert "▶ loss.backward()" in player.shown.value
    assert str(player) == str(ledger) and player._repr_html_() == ledger._repr_html_()
