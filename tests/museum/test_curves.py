"""The curves of the rooms: the losses of the loop as written and cured, by name, on one scale; and the two helpers of lesson 09."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import pytest
import torch
from torch import nn

from fnlib.teaching import museum_visit
from fnlib.teaching.museum import EXHIBITS, Exhibit, function_of
from fnlib.teaching.museum_curves import PASSES, _long, listening, side_by_side

# Its cure has another target, so its loss can't be compared.
OTHER_LOSS = {"target_network_is_the_network"}
IN_ROOMS = [one for one in EXHIBITS if not one.core]


def shows_harm(bug: Mapping[str, list[float]], cure: Mapping[str, list[float]]) -> bool:
    """Say whether one loss ends higher with the bug, by a tenth of the picture's height or more."""
    if len(bug) != 1 or bug.keys() != cure.keys():
        return False
    ((name, losses),) = bug.items()
    every = losses + cure[name]
    return losses[-1] - cure[name][-1] >= 0.1 * (max(every) - min(every)) > 0


@pytest.mark.parametrize("one", IN_ROOMS, ids=lambda one: one.code)
def test_a_curve_is_drawn_if_it_shows_the_harm(one: Exhibit) -> None:
    """A picture in which the bug looks better, or like its cure, would say the opposite."""
    setup, bug, cure = (function_of(one.code, part) for part in ("setup", "bug", "cure"))
    harm = shows_harm(_long(setup, bug), _long(setup, cure)) and one.code not in OTHER_LOSS
    assert one.curve == harm


@pytest.mark.parametrize("code", [one.code for one in IN_ROOMS if one.curve])
def test_a_curve_is_a_picture_with_words(code: str) -> None:
    picture = side_by_side(code, function_of(code, "setup"), function_of(code, "bug"))
    assert picture is not None
    assert picture.alt.startswith("Mean loss of each pass") and picture.alt.count("from") == 2
    assert picture.width <= 760 and len(picture.png) < 100_000


def test_losses_are_noted_once_by_their_names() -> None:
    layer, backward, mse_loss = nn.Linear(2, 1), torch.Tensor.backward, nn.functional.mse_loss
    with listening() as losses:
        for _ in range(3):
            loss_g = layer(torch.ones(1, 2)).pow(2).mean()
            loss_g.backward()
        loss = nn.functional.mse_loss(layer(torch.ones(1, 2)), torch.zeros(1, 1))
        loss.backward()
        with torch.no_grad():
            nn.functional.mse_loss(
                layer(torch.ones(1, 2)), torch.zeros(1, 1)
            )  # nobody trains on it
    assert {name: len(values) for name, values in losses.items()} == {"loss_g": 3, "loss": 1}
    assert losses["loss"] == [loss.item()]
    assert (torch.Tensor.backward, nn.functional.mse_loss) == (backward, mse_loss)


def test_a_functional_loss_is_noted_inside_its_transform() -> None:
    weights = {"weight": torch.ones(1, 2), "bias": torch.zeros(1)}
    layer = nn.Linear(2, 1)

    def loss(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        return nn.functional.mse_loss(
            torch.func.functional_call(layer, weights, (torch.ones(1, 2),)), torch.zeros(1, 1)
        )

    with listening() as losses:
        torch.func.grad(loss)(weights)
    assert losses == {"loss": [4.0]}


def test_a_curve_shows_what_the_loop_does() -> None:
    """The loop that never moves is flat; the reader's own change of the loop is drawn, and one that raises draws nothing."""
    setup, bug = (function_of("zero_grad_before_step", part) for part in ("setup", "bug"))
    flat = side_by_side("zero_grad_before_step", setup, bug)
    assert flat is not None and "As written: from 1.1 to 1.1." in flat.alt
    cured = side_by_side(
        "zero_grad_before_step", setup, function_of("zero_grad_before_step", "cure")
    )
    assert cured is not None and cured.alt != flat.alt

    def broken(model: nn.Module, optimizer: torch.optim.Optimizer, batches: list[object]) -> None:
        raise RuntimeError("a loop that its reader broke")

    assert side_by_side("zero_grad_before_step", setup, broken) is None
    assert PASSES >= 20


def test_a_row_is_printed_only_if_the_finding_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    setup, bug, cure = (function_of("best_state_dict", part) for part in ("setup", "bug", "cure"))
    with pytest.raises(AssertionError, match="not snapshot-moved"):
        museum_visit.caught("best_state_dict", lambda: cure(**setup()))
    assert not capsys.readouterr().out
    museum_visit.caught("best_state_dict", lambda: bug(**setup()))
    assert "CERTAIN snapshot-moved" in capsys.readouterr().out


def test_a_checkpoint_that_is_copied_twice_can_be_loaded_twice() -> None:
    """An optimizer keeps the tensors that it loads, so the cure of the room copies on the way in."""
    weight = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.Adam([weight])
    weight.grad = torch.ones(1)
    optimizer.step()
    for copied in (False, True):
        checkpoint = copy.deepcopy(optimizer.state_dict())
        before = float(checkpoint["state"][0]["step"])
        optimizer.load_state_dict(copy.deepcopy(checkpoint) if copied else checkpoint)
        optimizer.step()
        assert (float(checkpoint["state"][0]["step"]) == before) == copied
