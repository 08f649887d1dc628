"""The player shows each statement's changes, and without widgets the table stands in its place."""

from __future__ import annotations

import asyncio
import sys

import pytest
import torch
from torch import nn

import fnlib
from fnlib.ledger import Ledger
from fnlib.ledger.views import replay as replaying


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
    player.next.click()
    assert player.slider.value == 0
    assert (
        player.shown.value.count("as it was") >= 3
    )  # a box for each kind of state, none of them changed yet


def test_it_plays_to_the_end_one_player_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A replay plays to the end without blocking, one player at a time."""
    monkeypatch.setattr(replaying, "SECONDS", 0.01)
    ledger = recorded()

    async def watch() -> None:
        player = ledger.replay()
        player.play.value = True
        assert (
            player.play.description == "Pause" and player.slider.value == 1
        )  # pressing it returns at once
        await asyncio.sleep(0.3)
        assert (
            player.slider.value == player.slider.max
            and not player.play.value
            and player.play.description == "Play"
        )
        player.slider.value = 0
        player.play.value = True
        player.play.value = False
        await asyncio.sleep(0.05)
        assert player.slider.value == 1  # paused
        player.play.value = True
        again = ledger.replay()  # the cell is run once more
        assert not player.play.value
        stood = player.slider.value
        again.play.value = True
        await asyncio.sleep(0.3)
        assert player.slider.value == stood and again.slider.value == again.slider.max
        again.close()

    asyncio.run(watch())
    assert not replaying._playing


def test_without_a_loop_that_runs_play_is_one_statement() -> None:
    player = recorded().replay()
    player.play.value = True
    assert player.slider.value == 1 and not player.play.value


def test_a_long_recording_shows_the_lines_around_the_present_one() -> None:
    weight = torch.ones(2)
    with fnlib.Ledger(weight=weight) as ledger:
        for number in range(60):
            weight.add_(number)
    player = ledger.replay()
    player.slider.value = 30
    assert (
        player.shown.value.count("weight.add_(number)") == 11
        and "19 statements before" in player.shown.value
    )


def test_without_widgets_the_table_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    ledger = recorded()
    player = ledger.replay()
    player.slider.value = 2
    assert "▶ loss.backward()" in player.shown.value
    assert str(player) == str(ledger) and player._repr_html_() == ledger._repr_html_()
