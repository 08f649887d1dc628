"""What learners typed into the checks of lessons 08 and 09, and what they read; see `test_answers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fnlib.teaching.exercises import Outcome
from tests.teaching.test_answers import ERROR, NOT_YET, PASSED, _judged

# --- 08 -------------------------------------------------------------------------------------------


def _first_only_h(hidden: Any) -> Any:
    hidden[0].detach()
    return hidden[0].detach(), hidden[1]


def _in_place(hidden: Any) -> Any:
    h, c = hidden
    return h.detach_(), c.detach_()


def _without_grad(hidden: Any) -> Any:
    with torch.no_grad():
        return tuple(part * 1 for part in hidden)


def _not_tracked(hidden: Any) -> Any:
    with torch.no_grad():
        return hidden


def _not_kept(hidden: Any) -> Any:
    for part in hidden:
        part.detach()
    return hidden


def _h_alone(hidden: Any) -> Any:
    h, _ = hidden
    return h.detach()


CUT: list[tuple[Callable[[Any], Any], Outcome, str]] = [
    (lambda hidden: (hidden[0].detach(), hidden[1].detach()), PASSED, "neither has a graph"),
    (lambda hidden: [part.detach() for part in hidden], PASSED, ""),
    (lambda hidden: tuple(part.data for part in hidden), PASSED, ""),
    (lambda hidden: tuple(torch.tensor(part.tolist()) for part in hidden), PASSED, ""),
    (_without_grad, PASSED, ""),
    (_not_tracked, NOT_YET, "both tensors still have their graph"),
    (_not_kept, NOT_YET, "both tensors still have their graph"),
    (_first_only_h, NOT_YET, "One of the two still has its graph"),
    (_h_alone, NOT_YET, "needs a pair of tensors"),
    (lambda hidden: (hidden[1].detach(), hidden[0].detach()), NOT_YET, "changed places"),
    (lambda hidden: tuple(part.detach() / 2 for part in hidden), NOT_YET, "in `h` and `c`"),
    (lambda hidden: (hidden[0].detach(), hidden[1].detach() * 0), NOT_YET, "numbers in `c`"),
    (lambda hidden: (None, None), NOT_YET, "needs a pair of tensors"),
    (lambda hidden: hidden.detach(), ERROR, "'tuple' object has no attribute 'detach'"),
    (lambda hidden: tuple(part.numpy() for part in hidden), ERROR, "Can't call numpy()"),
    (_in_place, PASSED, ""),
]


def _reading(
    step: Callable[[Any, Any, Any], None],
    *,
    at: Callable[[int, int], bool] = lambda number, reach: (number + 1) % reach == 0,
    hold: Callable[[Any], Any] = lambda hidden: hidden,
    cut: Callable[[Any], Any] = lambda hidden: hidden.detach(),
    collect: Callable[[Any], Any] = sum,
) -> Callable[..., Any]:
    """A loop that keeps the losses in a list, as learners often do, with one part replaced."""

    def read(network: Any, optimizer: Any, criterion: Any, pieces: Any, reach: int) -> Any:
        hidden, losses = None, []
        for number, (feature, label) in enumerate(pieces):
            output, hidden = network(feature, hidden)
            losses.append(criterion(output, label))
            hidden = hold(hidden)
            if at(number, reach):
                step(optimizer, collect(losses), losses)
                hidden, losses = cut(hidden), []
        return network

    return read


def _stock_step(optimizer: Any, total: Any, losses: Any) -> None:
    optimizer.zero_grad()
    total.backward()
    optimizer.step()


def _one_backward_each(optimizer: Any, total: Any, losses: Any) -> None:
    optimizer.zero_grad()
    for loss in losses:
        loss.backward(retain_graph=True)
    optimizer.step()


def _no_zero_grad(optimizer: Any, total: Any, losses: Any) -> None:
    total.backward()
    optimizer.step()


def _no_step(optimizer: Any, total: Any, losses: Any) -> None:
    optimizer.zero_grad()
    total.backward()


def _zero_grad_late(optimizer: Any, total: Any, losses: Any) -> None:
    total.backward()
    optimizer.step()
    optimizer.zero_grad()


def _sum_of_items(optimizer: Any, total: Any, losses: Any) -> None:
    optimizer.zero_grad()
    sum(loss.item() for loss in losses).backward()
    optimizer.step()


REACHES: list[tuple[Callable[..., Any], Outcome, str]] = [
    (_reading(_stock_step), PASSED, "through all the pieces since the last cut"),
    (_reading(_one_backward_each), PASSED, ""),
    (_reading(_zero_grad_late), PASSED, ""),
    (_reading(_stock_step, collect=lambda losses: torch.stack(losses).sum()), PASSED, ""),
    (
        _reading(_stock_step, collect=lambda losses: torch.stack(losses).mean()),
        NOT_YET,
        "that of the mean",
    ),
    (_reading(_stock_step, collect=lambda losses: losses[-1]), NOT_YET, "the last piece alone"),
    (_reading(_stock_step, hold=lambda hidden: hidden.detach()), NOT_YET, "cut after every piece"),
    (_reading(_stock_step, cut=lambda hidden: None), NOT_YET, "an empty hidden state"),
    (_reading(_stock_step, cut=lambda hidden: hidden), NOT_YET, "a graph that was freed"),
    (
        _reading(_stock_step, at=lambda number, reach: number % reach == 0),
        NOT_YET,
        "first step comes after one piece",
    ),
    (_reading(_stock_step, at=lambda number, reach: True), NOT_YET, "steps after every piece"),
    (_reading(_stock_step, at=lambda number, reach: number == 5), NOT_YET, "steps once"),
    (_reading(_no_zero_grad), NOT_YET, "still in `.grad`"),
    (_reading(_no_step), NOT_YET, "still has its first weights"),
    (_reading(_sum_of_items), NOT_YET, "A plain number has no"),
    (_reading(_stock_step, collect=lambda losses: 0.1 * sum(losses)), NOT_YET, "Wanted a network"),
]


@pytest.mark.parametrize(("answer", "outcome", "said"), CUT)
def test_truncate(answer: Any, outcome: Outcome, said: str) -> None:
    """Ways to cut a pair of tensors, or nearly."""
    _judged("08-truncate", answer, outcome, said)


@pytest.mark.parametrize(("answer", "outcome", "said"), REACHES)
def test_reach(answer: Any, outcome: Outcome, said: str) -> None:
    """Loops that step after several pieces, or nearly."""
    _judged("08-reach", answer, outcome, said)
