"""What the museum's last column says of a bug is what its loop does when somebody translates it to fnlib line by line."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch

import fnlib
from fnlib.teaching.museum import EXHIBITS, Exhibit
from tests.museum import literal
from tests.museum.load import load

BY_NAME = [one for one in EXHIBITS if hasattr(literal, f"{one.code}_by_name")]
TRANSLATED = [one for one in EXHIBITS if hasattr(literal, one.code)]
# Harm with the bug and without, where a translation does less harm than the loop, or the table has no harm because PyTorch raises.
HARM = {
    "gan_step_between_backwards": (0, 1),
    "hidden_state_not_detached": (0, 1),
    "hidden_state_retain_graph": (0, 1),
    "train_forgotten": (4, 6),
}


def measured(one: Exhibit, how: str = "") -> float:
    """The harm of the translation; it raises what fnlib raises."""
    module = load(one.file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        return getattr(literal, one.code + how)(SimpleNamespace(**module.setup()), module)


@pytest.mark.parametrize("one", TRANSLATED, ids=lambda one: one.code)
def test_the_verdict_is_what_a_translation_does(one: Exhibit) -> None:
    if one.fnlib == "refused":
        with pytest.raises(fnlib.FnlibError):
            measured(one)
        return
    bug, cure = HARM.get(one.code) or one.harm
    expected = bug if one.fnlib == "can still be written" else cure
    assert measured(one) == pytest.approx(expected, rel=1e-3), one.because


@pytest.mark.parametrize("one", BY_NAME, ids=lambda one: one.code)
def test_a_line_that_asks_for_the_harm_does_it(one: Exhibit) -> None:
    """A bug that the translation doesn't have comes back if a line asks for it, and the room names that line."""
    assert one.fnlib == "does no harm" and "replace(" in one.because
    assert one.harm is not None and measured(one, "_by_name") == pytest.approx(one.harm[0])


def test_each_claim_of_safety_has_a_translation() -> None:
    safe = {one.code for one in EXHIBITS if one.fnlib != "can still be written"}
    assert safe <= {one.code for one in TRANSLATED}
