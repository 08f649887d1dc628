"""What learners typed into the checks of lessons 08 and 09, and what they read; see `test_answers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import fnlib
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


# --- 09 -------------------------------------------------------------------------------------------


def _each(change: Callable[[Any], Any]) -> Callable[..., None]:
    """Do something to each weight of the first layer."""

    def freeze(network: Any, optimizer: Any) -> None:
        for weight in network[0].parameters():
            change(weight)

    return freeze


def _off(weight: Any) -> None:
    weight.requires_grad_(False)


def _none_once(weight: Any) -> None:
    weight.grad = None


def _both(weight: Any) -> None:
    weight.requires_grad = False
    weight.grad = None


def _hook(weight: Any) -> None:
    weight.register_hook(lambda gradient: gradient * 0)


def _no_momentum(network: Any, optimizer: Any) -> None:
    _each(_off)(network, optimizer)
    optimizer.state.clear()


def _rate_of_all(network: Any, optimizer: Any) -> None:
    optimizer.param_groups[0]["lr"] = 0.0


def _own_group(network: Any, optimizer: Any) -> None:
    first = list(network[0].parameters())
    (group,) = optimizer.param_groups
    group["params"] = [weight for weight in group["params"] if all(weight is not f for f in first)]
    optimizer.add_param_group({"params": first, "lr": 0.0})


def _weight_alone(network: Any, optimizer: Any) -> None:
    _both(network[0].weight)


def _removed(network: Any, optimizer: Any) -> None:
    optimizer.param_groups[0]["params"] = list(network[2].parameters())


def _whole_network(network: Any, optimizer: Any) -> None:
    network.requires_grad_(False)


FREEZE: list[tuple[Callable[..., Any], Outcome, str]] = [
    (_each(_both), PASSED, "left the first one alone"),
    (_removed, PASSED, "left the first one alone"),
    (_own_group, PASSED, ""),
    (_each(_off), NOT_YET, "which is half of it"),
    (_each(_none_once), NOT_YET, "computes gradients for the layer again"),
    (_each(_hook), NOT_YET, "gradients are zeros in every step"),
    (_no_momentum, NOT_YET, "which is half of it"),
    (_rate_of_all, NOT_YET, "so does the last one"),
    (_weight_alone, NOT_YET, "computes gradients for the layer again"),
    (lambda network, optimizer: network[0].eval(), NOT_YET, "computes gradients for the layer"),
    (lambda network, optimizer: network[0].zero_grad(), NOT_YET, "computes gradients for the"),
    (lambda network, optimizer: network[0].weight.zero_(), ERROR, "a leaf Variable"),
    (lambda network, optimizer: nn.init.zeros_(network[0].weight), NOT_YET, "changed weights"),
    (_whole_network, ERROR, "does not require grad"),
]


def _loop(
    zero: bool = True, divide: int = 1, clip_late: bool = False, layers: Any = nn.ModuleList
) -> Callable[[], None]:
    """A loop as learners bring one: right as it stands, with one thing to spoil."""

    def run() -> None:
        network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        for feature in torch.randn(3, 8, 4):
            if zero:
                optimizer.zero_grad()
            loss = network(feature).pow(2).mean() / divide
            loss.backward()
            if not clip_late:
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            if clip_late:
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)

    return run


def _functional(named: bool = True) -> Callable[[], None]:
    def run() -> None:
        factory = fnlib.Factory(lambda: nn.Linear(4, 1), optimizer=fnlib.SGD(lr=0.1))
        model = factory(fnlib.Parameters(seed=0))
        for feature in torch.randn(3, 8, 4):
            gradient = model.backward(model(feature).pow(2).mean())
            if named:
                model = factory(model.step(gradient))
            else:
                model.step(gradient)

    return run


def _broken() -> None:
    raise KeyError("weights")


def _alias() -> None:
    network = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    best = network.state_dict()
    for feature in torch.randn(3, 8, 4):
        optimizer.zero_grad()
        network(feature).pow(2).mean().backward()
        optimizer.step()
    network.load_state_dict(best)


BROUGHT: list[tuple[Any, Outcome, str]] = [
    ((_loop(zero=False), _loop()), PASSED, "finds something in the bug and nothing in the cure"),
    ((_alias, _loop()), PASSED, ""),
    ((_functional(named=False), _functional()), PASSED, ""),
    ([_loop(zero=False), _loop()], PASSED, ""),
    ((_loop(), _loop(zero=False)), NOT_YET, "finds something in the cure too"),
    ((_loop(divide=4), _loop()), NOT_YET, "a loss that isn't divided"),
    ((_loop(zero=False), lambda: None), NOT_YET, "One of the two doesn't train"),
    ((_loop(zero=False), _alias), NOT_YET, "finds something in the cure too"),
    ((lambda: 3, _loop()), NOT_YET, "One of the two doesn't train"),
    ((1, 2), NOT_YET, "without calling them"),
    ((_broken, _loop()), ERROR, "KeyError"),
    ((_loop(zero=False),), ERROR, "not enough values"),
]


@pytest.mark.parametrize(("answer", "outcome", "said"), FREEZE)
def test_freeze(answer: Any, outcome: Outcome, said: str) -> None:
    """Ways to freeze a layer in the middle of a training, or nearly."""
    _judged("09-freeze", answer, outcome, said)


@pytest.mark.parametrize(("answer", "outcome", "said"), BROUGHT)
def test_exhibit(answer: Any, outcome: Outcome, said: str) -> None:
    """Bugs that learners bring, with their cures."""
    _judged("09-exhibit", answer, outcome, said)
