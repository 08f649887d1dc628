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
from fnlib.teaching.exercises import Exercise, Mistake, Unreadable
from fnlib.teaching.museum import exhibit

STEPS_BEFORE, STEPS_AFTER = 2, 3


def _froze(freeze: Any) -> Any:
    """Train with momentum and decay, call ``freeze`` in the middle, and see what moves afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
        batches = torch.randn(STEPS_BEFORE + STEPS_AFTER, 16, 4)
    answer, at = None, {}
    for index, feature in enumerate(batches):
        optimizer.zero_grad(set_to_none=False)
        if index == STEPS_BEFORE:
            before = _weights(network)
            answer = freeze(network, optimizer)
            at = _weights(network)
            changed = _moved(before, at)
        network(feature).pow(2).mean().backward()
        optimizer.step()
    if answer is ...:
        return None
    moved = _moved(at, _weights(network))
    gradients = [weight.grad for weight in network[0].parameters()]
    return SimpleNamespace(
        first=moved & {"0.weight", "0.bias"},
        last=moved >= {"2.weight", "2.bias"},
        changed=changed,
        asks=any(weight.requires_grad for weight in network[0].parameters()),
        zeros=all(gradient is not None and not gradient.any() for gradient in gradients),
    )


def _weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in network.named_parameters()}


def _moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def _what_moved(seen: Any) -> str:
    return f"Wanted: no step moves `network[0]`. Got steps that move {' and '.join(sorted(seen.first))}."


def _recorded(answer: Any) -> Any:
    """Run both loops under a ledger that finds by itself what there is to watch."""
    bug, cure = answer
    if any(run is None or run is ... for run in (bug, cure)):
        return None
    if not (callable(bug) and callable(cure)):
        raise Unreadable("Hand over the two functions, `(bug, cure)`, without calling them.")
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
            trains=any(event.kind in ("step", "backward") for event in ledger.events)
            or any(entry.iterations for entry in ledger.walk()),
            raised=ledger.raised,
        ))  # fmt: skip
    return SimpleNamespace(sick=found[0], well=found[1])


EXERCISES = (
    Exercise(
        key="09-freeze",
        objective="Given a training that has begun, the learner freezes one layer so that no step moves it.",
        expects="a function of (network, optimizer) that freezes network[0]",
        try_out=_froze,
        passes=lambda seen: not seen.first and seen.last and not seen.changed,
        so_far=_what_moved,
        because="Three more steps with momentum and weight decay moved the last layer, and left the first one alone.",
        hints=(
            "`requires_grad_(False)` stops new gradients. What's in `.grad` already?",
            "In `optimizer.step()`, a gradient of zeros and no gradient are two different things. Lesson 01 has a weight that moves with a gradient of zero.",
            "For which value of `weight.grad` does `optimizer.step()` leave a weight alone? The documentation of `zero_grad` says it.",
        ),
        right=(lambda: _frozen, lambda: _left_out),
        mistakes=(
            Mistake(
                matches=lambda seen: bool(seen.changed),
                says="Your function changed weights itself, before any step. Freezing leaves the numbers as they are.",
                examples=(lambda: _emptied,),
            ),
            Mistake(
                matches=lambda seen: not seen.first and not seen.last,
                says="The first layer stays as it is, and so does the last one, which should go on learning.",
                examples=(lambda: _all_frozen,),
            ),
            Mistake(
                matches=lambda seen: seen.first and not seen.asks,
                slug="zero-gradient-no-movement",
                says=(
                    "No new gradients are computed for the layer, which is half of it. But `zero_grad(set_to_none=False)` keeps the old ones as zeros, "
                    "and momentum and decay still move the weights. Print `network[0].weight.grad` at the end of your function."
                ),
                examples=(lambda: _only_flag, lambda: _flag_and_zero),
            ),
            Mistake(
                matches=lambda seen: seen.first and seen.zeros,
                slug="zero-gradient-no-movement",
                says="The layer's gradients are zeros in every step, and still its weights move: momentum and decay move a weight whose gradient is zero. `step` skips only a weight whose `.grad` is None.",
                examples=(lambda: _hooked,),
            ),
            Mistake(
                matches=lambda seen: seen.first,
                says="The next `backward` computes gradients for the layer again, and `step` uses them. Print `network[0].weight.requires_grad` at the end of your function.",
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
        because="The ledger finds something in the bug and nothing in the cure. This belongs in the museum.",
        hints=(
            "Start from a loop of a room: copy its `setup` and `bug` into one function that needs no arguments.",
            "Each of your functions builds its own network and optimizer, and trains for at least two steps.",
            "Look at what the ledger sees: `visit.watch(bug)[0]` shows the table, and `visit.watch(bug)[0].findings` the findings.",
        ),
        right=(lambda: (_of_the_museum("bug"), _of_the_museum("cure")),),
        mistakes=(
            Mistake(
                matches=lambda seen: not (seen.sick.trains and seen.well.trains),
                says="One of the two doesn't train: the ledger saw no loop, no backward and no step. Call `bug()` and `cure()` in a cell of their own.",
                examples=(
                    lambda: (_nothing, _of_the_museum("cure")),
                    lambda: (_of_the_museum("bug"), _nothing),
                ),
            ),
            Mistake(
                matches=lambda seen: bool(seen.well.codes),
                says="The ledger finds something in the cure too. Print `visit.watch(cure)[0].findings`.",
                examples=(lambda: (_of_the_museum("bug"), _of_the_museum("bug")),),
            ),
            Mistake(
                matches=lambda seen: not seen.sick.codes,
                says=(
                    "The ledger finds nothing in the bug. There are bugs it doesn't know, such as a loss that isn't divided. "
                    "If yours is one of them, tell us, and bring another."
                ),
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


def _emptied(network: nn.Sequential, optimizer: torch.optim.Optimizer) -> None:
    for weight in network[0].parameters():
        weight.data.zero_()
        weight.requires_grad_(False)
        weight.grad = None


def _hooked(network: nn.Sequential, optimizer: torch.optim.Optimizer) -> None:
    for weight in network[0].parameters():
        weight.register_hook(torch.zeros_like)


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
