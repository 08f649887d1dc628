"""Lesson 09, "The museum of silent bugs": its exercises."""

from __future__ import annotations

import linecache
import warnings
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

import fnlib
from fnlib.teaching.exercises import Exercise, Mistake
from fnlib.teaching.museum import exhibit


def _froze(freeze: Any) -> Any:
    """Train two steps with momentum and weight decay, freeze the first layer, train three more: what moved after that?"""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
        batches = torch.randn(5, 16, 4)
    answer, at = None, {}
    for index, feature in enumerate(batches):
        optimizer.zero_grad(set_to_none=False)
        if index == 2:
            answer = freeze(network, optimizer)
            at = {name: weight.detach().clone() for name, weight in network.named_parameters()}
        network(feature).pow(2).mean().backward()
        optimizer.step()
    if answer is ...:
        return None
    moved = {
        name for name, weight in network.named_parameters() if not torch.equal(weight, at[name])
    }
    asks = any(weight.requires_grad for weight in network[0].parameters())
    return SimpleNamespace(
        first=bool(moved & {"0.weight", "0.bias"}), last=moved >= {"2.weight", "2.bias"}, asks=asks
    )


def _recorded(answer: Any) -> Any:
    """Run both loops under a ledger that finds by itself what there is to watch."""
    bug, cure = answer
    if any(run is None or run is ... for run in (bug, cure)):
        return None
    if not (callable(bug) and callable(cure)):
        raise TypeError("two functions")
    found = []
    for run in (bug, cure):
        ledger = fnlib.Ledger(depth=3)
        value = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with ledger:
                    value = run()
            except RuntimeError:
                pass
        if value is ...:
            return None
        found.append(SimpleNamespace(
            codes=[finding.code for finding in ledger.findings],
            trains=any(event.kind == "step" for event in ledger.events),
            raised=ledger.raised,
        ))  # fmt: skip
    return SimpleNamespace(sick=found[0], well=found[1])


EXERCISES = (
    Exercise(
        key="09-freeze",
        objective="Given a training that has begun, the learner freezes one layer so that no step moves it.",
        expects="a function of (network, optimizer) that freezes network[0]",
        try_out=_froze,
        passes=lambda seen: not seen.first and seen.last,
        because="A weight whose gradient is None is passed over: neither momentum nor decay moves it.",
        hints=(
            "Which weights does optimizer.step() pass over?",
            "requires_grad_(False) stops new gradients. What lies in .grad already?",
            "for weight in network[0].parameters(): weight.requires_grad_(False); weight.grad = None",
        ),
        right=(lambda: _frozen, lambda: _left_out),
        mistakes=(
            Mistake(
                matches=lambda seen: not seen.first and not seen.last,
                says="The first layer stands still, and so does the last one, which should go on learning.",
                examples=(lambda: _all_frozen,),
            ),
            Mistake(
                matches=lambda seen: seen.first and not seen.asks,
                slug="zero-gradient-no-movement",
                says="The loop sets gradients to zero, not to None.",
                examples=(lambda: _only_flag, lambda: _flag_and_zero),
            ),
            Mistake(
                matches=lambda seen: seen.first,
                slug="eval-is-no-grad",
                says="The layer still gets gradients. eval() and emptying .grad once do not freeze a weight.",
                examples=(lambda: _eval, lambda: _zeroed),
            ),
        ),
    ),
    Exercise(
        key="09-exhibit",
        objective="Given a bug of the learner's own, the learner shows it and its cure so that the ledger tells them apart.",
        expects="two functions without arguments, (bug, cure), each with a training loop",
        try_out=_recorded,
        passes=lambda seen: (
            seen.sick.trains and seen.well.trains and seen.sick.codes and not seen.well.codes
        ),
        because="The ledger finds the bug and leaves the cure in peace: this could hang in the museum.",
        hints=(
            "Start from a loop of a room, and make it your own.",
            "Each function builds its network and optimizer itself, and steps at least twice.",
            "def bug(): build, then loop: loss.backward(), optimizer.step(). def cure(): the same with optimizer.zero_grad().",
        ),
        right=(lambda: (_of_the_museum("bug"), _of_the_museum("cure")),),
        mistakes=(
            Mistake(
                matches=lambda seen: not (seen.sick.trains and seen.well.trains),
                says="One of the two takes no optimizer step (or an error came first), so there is nothing to compare.",
                examples=(
                    lambda: (_nothing, _of_the_museum("cure")),
                    lambda: (_of_the_museum("bug"), _nothing),
                ),
            ),
            Mistake(
                matches=lambda seen: bool(seen.well.codes),
                says="The ledger finds something in the cure too. Print it: with fnlib.Ledger(depth=3) as ledger: cure().",
                examples=(lambda: (_of_the_museum("bug"), _of_the_museum("bug")),),
            ),
            Mistake(
                matches=lambda seen: not seen.sick.codes,
                says="The ledger finds nothing in the bug. If it is one all the same, you have found a case for its authors.",
                examples=(lambda: (_of_the_museum("cure"), _of_the_museum("cure")),),
            ),
        ),
    ),
)


def _frozen(network: nn.Sequential, optimizer: torch.optim.Optimizer) -> None:
    for weight in network[0].parameters():
        weight.requires_grad_(False)
        weight.grad = None


def _left_out(network: nn.Sequential, optimizer: torch.optim.Optimizer) -> None:
    optimizer.param_groups[0]["params"] = list(network[2].parameters())


def _all_frozen(network: nn.Sequential, optimizer: torch.optim.Optimizer) -> None:
    for weight in network[0].parameters():
        weight.requires_grad_(False)
    optimizer.param_groups[0].update(lr=0.0)


def _only_flag(network: nn.Sequential, optimizer: torch.optim.Optimizer) -> None:
    network[0].requires_grad_(False)


def _flag_and_zero(network: nn.Sequential, optimizer: torch.optim.Optimizer) -> None:
    network[0].requires_grad_(False)
    network[0].zero_grad(set_to_none=False)


def _eval(network: nn.Sequential, optimizer: torch.optim.Optimizer) -> None:
    network[0].eval()


def _zeroed(network: nn.Sequential, optimizer: torch.optim.Optimizer) -> None:
    network[0].zero_grad()


def _of_the_museum(part: str) -> Any:
    """A loop of the museum with its arguments: what a learner might hand in."""
    functions: dict[str, Any] = {}
    file = str(exhibit("zero_grad_forgotten").file)
    exec(compile("".join(linecache.getlines(file)), file, "exec"), functions)
    return partial(functions[part], **functions["setup"]())


def _nothing() -> None:
    """A loop that was not written."""
