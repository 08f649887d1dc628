"""The player in a notebook: the page of `save` in a frame, with or without widgets."""

from __future__ import annotations

import html
import re
import sys
from typing import Any

import pytest
import torch
from torch import nn

import fnlib
from fnlib.ledger import Ledger
from tests.ledger.test_page import data_of


def recorded() -> Ledger:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    with fnlib.Ledger(model=model, optimizer=optimizer) as ledger:
        loss = model(torch.ones(1, 2)).sum()
        loss.backward()
        optimizer.step()
    return ledger


def shown(player: Any) -> dict[str, Any]:
    """What the page in a player's frame reads."""
    text = getattr(player, "value", None) or player._repr_html_()
    (content,) = re.findall(r'srcdoc="([^"]*)"', text)
    return data_of(html.unescape(content))


@pytest.fixture(params=["with widgets", "without"])
def player(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "without":
        monkeypatch.setitem(sys.modules, "ipywidgets", None)
    return recorded().replay()


def test_it_begins_where_it_is_set(player: Any) -> None:
    """`slider.value` is the statement that the frame begins with, within the recording."""
    assert shown(player)["start"] == 0 and player.slider.max == 3
    for number, begins in ((2, 2), (99, 3), (-1, 0)):
        player.slider.value = number
        assert player.slider.value == shown(player)["start"] == begins


def test_it_is_the_saved_page(player: Any) -> None:
    """The frame holds the same recording as a saved file, and knows that it is in a notebook."""
    data = shown(player)
    assert data["embedded"] and len(data["steps"]) == player.slider.max
    saved = fnlib.ledger.views.page.content(player.ledger)
    assert {name: data[name] for name in ("code", "boxes", "places")} == {
        name: [list(one) for one in saved[name]] for name in ("code", "boxes", "places")
    }


def test_it_reads_as_the_table(player: Any) -> None:
    """Where HTML isn't shown, the player is the table of the recording."""
    assert str(player) == str(player.ledger)


def test_one_iteration_has_a_player_of_its_own() -> None:
    """A part of a recording is replayed alone."""
    weight = torch.ones(2)
    with fnlib.Ledger(weight=weight) as ledger:
        for number in range(3):
            weight.add_(number)
            weight.mul_(2)
    second = ledger.iteration(2)
    assert second.replay().slider.max == len(second.entries) < ledger.replay().slider.max
