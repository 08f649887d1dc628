"""Lesson 02, "What does sharing buy?": its exercises and questions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from fnlib.teaching.exercises import Exercise, Mistake
from fnlib.teaching.questions import Option, Question


def _pair() -> tuple[nn.Module, nn.Module]:
    return nn.Linear(4, 2), nn.Linear(2, 4)


def _read(build: Any) -> Any:
    """Build an optimizer over two fresh networks, and see what rate each of their weights has."""
    encoder, decoder = _pair()
    optimizer = build(encoder, decoder)
    if not isinstance(optimizer, torch.optim.Optimizer):
        return optimizer
    rates = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    seen = [[rates.get(id(weight)) for weight in network.parameters()] for network in (encoder, decoder)]
    return SimpleNamespace(encoder=seen[0], decoder=seen[1])


def _all(rates: list[Any], rate: float) -> bool:
    return all(found == rate for found in rates)


EXERCISES = (
    Exercise(
        key="02-two-rates",
        objective="Given two networks, the learner builds one optimizer that steps both, each at its own rate.",
        expects="a function of two networks that returns one torch.optim.SGD",
        try_out=_read,
        passes=lambda seen: _all(seen.encoder, 0.25) and _all(seen.decoder, 0.0625),
        because="One step() now moves both networks, each at its own rate, and neither knows of the other.",
        hints=(
            "An optimizer takes an iterable of tensors, or a list of dicts: one dict a group.",
            'A group is {"params": encoder.parameters(), "lr": 0.25}.',
            'torch.optim.SGD([{"params": encoder.parameters(), "lr": 0.25}, {"params": decoder.parameters(), "lr": 0.0625}])',
        ),
        right=(
            lambda: (
                lambda encoder, decoder: torch.optim.SGD(
                    [{"params": encoder.parameters(), "lr": 0.25}, {"params": decoder.parameters(), "lr": 0.0625}]
                )
            ),
            lambda: (
                lambda encoder, decoder: torch.optim.SGD(
                    [{"params": encoder.parameters()}, {"params": decoder.parameters(), "lr": 0.0625}], lr=0.25
                )
            ),
        ),
        mistakes=(
            Mistake(
                matches=lambda seen: isinstance(seen, (tuple, list)),
                says="These are several optimizers, and the loop would have to step each. One optimizer can hold both networks, in two groups.",
                examples=(
                    lambda: (
                        lambda encoder, decoder: (
                            torch.optim.SGD(encoder.parameters(), lr=0.25),
                            torch.optim.SGD(decoder.parameters(), lr=0.0625),
                        )
                    ),
                ),
            ),
            Mistake(
                matches=lambda seen: None in seen.encoder or None in seen.decoder,
                slug="optimizer-follows",
                says="One of the two networks was never handed over: an optimizer moves the tensors that it was given, and no others.",
                examples=(lambda: lambda encoder, decoder: torch.optim.SGD(encoder.parameters(), lr=0.25),),
            ),
            Mistake(
                matches=lambda seen: _all(seen.encoder, 0.0625) and _all(seen.decoder, 0.25),
                says="The two rates are the wrong way round.",
                examples=(
                    lambda: (
                        lambda encoder, decoder: torch.optim.SGD(
                            [{"params": encoder.parameters(), "lr": 0.0625}, {"params": decoder.parameters(), "lr": 0.25}]
                        )
                    ),
                ),
            ),
            Mistake(
                matches=lambda seen: len({*seen.encoder, *seen.decoder}) == 1,
                says="Both networks have the same rate: a group without lr of its own takes the one given for all.",
                examples=(lambda: lambda encoder, decoder: torch.optim.SGD([*encoder.parameters(), *decoder.parameters()], lr=0.25),),
            ),
        ),
    ),
)

QUESTIONS = (
    Question(
        key="02-replaced",
        kind="predict",
        prompt="The decoder gets a new layer after the optimizer was built. Then one loop runs. Which weights of the decoder does `step()` move?",
        code=(
            "optimizer = torch.optim.SGD([*encoder.parameters(), *decoder.parameters()], lr=0.25)\n"
            "decoder[0] = nn.Linear(16, 128)\n"
            "optimizer.zero_grad(); loss(encoder, decoder).backward(); optimizer.step()"
        ),
        options=(
            Option("Those of the new layer: it is in the decoder now", "optimizer-follows"),
            Option(
                "Those of the old layer, which is gone",
                why="The optimizer still holds them, but no gradient reaches them, so it skips them.",
            ),
            Option(
                "None at all",
                why="The optimizer holds the old tensors, which get no gradient; the new tensors get one, which nobody applies.",
            ),
            Option(
                "It raises: the optimizer finds a layer missing", "optimizer-follows", "It never looks at the model, so it misses nothing."
            ),
        ),
        right=2,
        proof=(
            "import torch\n"
            "from torch import nn\n"
            "decoder = nn.Sequential(nn.Linear(2, 3))\n"
            "optimizer = torch.optim.SGD(decoder.parameters(), lr=0.25)\n"
            "decoder[0] = nn.Linear(2, 3)\n"
            "before = decoder[0].weight.detach().clone()\n"
            "decoder(torch.ones(1, 2)).sum().backward()\n"
            "optimizer.step()\n"
            "assert torch.equal(decoder[0].weight, before) and decoder[0].weight.grad is not None"
        ),
    ),
    Question(
        key="02-exit",
        kind="exit",
        prompt="`loss_a` and `loss_b` both depend on `w`. After these two lines, what does `w.grad` hold?",
        code="loss_a.backward()\nloss_b.backward()",
        options=(
            Option("The gradient of `loss_b`", "backward-overwrites"),
            Option("The gradient of `loss_a + loss_b`", why="`backward` adds to what is there: two calls leave the gradient of the sum."),
            Option("The gradient of `loss_a`", why="The second call adds to it."),
            Option("Nothing: the optimizer has not stepped yet", "optimizer-computes-gradient"),
        ),
        right=1,
        proof=(
            "import torch\nw = torch.tensor(1.0, requires_grad=True)\n(2 * w).backward()\n(3 * w).backward()\nassert w.grad.item() == 5.0"
        ),
    ),
)
