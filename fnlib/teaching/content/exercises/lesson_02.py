"""Lesson 02, "What does sharing buy?": its exercises."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from fnlib.teaching.exercises import Exercise, Mistake, names_in


def _pair() -> tuple[nn.Module, nn.Module]:
    return nn.Linear(4, 2), nn.Linear(2, 4)


def _read(build: Any) -> Any:
    """Build an optimizer over two fresh networks, and see what rate each of their weights has."""
    encoder, decoder = _pair()
    optimizer = build(encoder, decoder)
    if not isinstance(optimizer, torch.optim.Optimizer):
        return optimizer
    rates = {
        id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]
    }
    seen = [
        [rates.get(id(weight)) for weight in network.parameters()] for network in (encoder, decoder)
    ]
    return SimpleNamespace(encoder=seen[0], decoder=seen[1], given=optimizer)


def _all(rates: list[Any], rate: float) -> bool:
    return all(found == rate for found in rates)


# --- 02-replace: a layer is replaced, and the optimizer hears of it ------------------------------


def _replaced(replace: Callable[..., Any]) -> SimpleNamespace:
    """Replace the second of two layers after one step with momentum, and see what the optimizer holds then."""
    network, layer = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), nn.Linear(3, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.25, momentum=0.5)
    network(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    gone, kept = list(network[1].parameters()), list(network[0].parameters())
    moments = {weight: optimizer.state[weight]["momentum_buffer"].clone() for weight in kept}
    given = replace(network, 1, layer, optimizer)
    used = given if isinstance(given, torch.optim.Optimizer) else optimizer
    held = [id(weight) for group in used.param_groups for weight in group["params"]]
    counts = {
        name: [held.count(id(weight)) for weight in tensors]
        for name, tensors in {"new": list(layer.parameters()), "gone": gone, "kept": kept}.items()
    }
    remembered = all(
        "momentum_buffer" in used.state.get(weight, {})
        and torch.equal(used.state[weight]["momentum_buffer"], moments[weight])
        for weight in kept
    )
    left = any(weight in used.state for weight in gone)
    built = bool({"SGD", "Adam", "Optimizer"} & names_in(replace)) and given is None
    return SimpleNamespace(
        **counts, installed=network[1] is layer, remembered=remembered, left=left, built=built
    )


def _whole(
    network: nn.Sequential, index: int, layer: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    gone = set(network[index].parameters())
    network[index] = layer
    for group in optimizer.param_groups:
        group["params"] = [weight for weight in group["params"] if weight not in gone]
    for weight in gone:
        optimizer.state.pop(weight, None)
    optimizer.add_param_group({"params": layer.parameters()})


def _in_the_same_group(
    network: nn.Sequential, index: int, layer: nn.Module, optimizer: torch.optim.Optimizer
) -> torch.optim.Optimizer:
    for old in network[index].parameters():
        optimizer.state.pop(old, None)
    network[index] = layer
    optimizer.param_groups[0]["params"] = list(network.parameters())
    return optimizer


def _only_added(
    network: nn.Sequential, index: int, layer: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    network[index] = layer
    optimizer.add_param_group({"params": layer.parameters()})


def _built_anew(
    network: nn.Sequential, index: int, layer: nn.Module, optimizer: torch.optim.Optimizer
) -> torch.optim.Optimizer:
    network[index] = layer
    return torch.optim.SGD(network.parameters(), lr=0.25, momentum=0.5)


def _built_and_lost(
    network: nn.Sequential, index: int, layer: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    network[index] = layer
    optimizer = torch.optim.SGD(network.parameters(), lr=0.25, momentum=0.5)  # noqa: F841  # that is the mistake


def _state_left(
    network: nn.Sequential, index: int, layer: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    network[index] = layer
    optimizer.param_groups[0]["params"] = list(network.parameters())


EXERCISES = (
    Exercise(
        key="02-two-rates",
        objective="Given two networks, the learner builds one optimizer that steps both, each at its own rate.",
        expects="a function of two networks that returns one torch.optim.SGD",
        try_out=_read,
        passes=lambda seen: _all(seen.encoder, 0.25) and _all(seen.decoder, 0.0625),
        so_far=lambda seen: (
            f"The encoder has the rate {seen.encoder[0]:g} and the decoder {seen.decoder[0]:g}; 0.25 and 0.0625 are asked for."
        ),
        because="One step() now moves both networks, each at its own rate, and neither knows of the other.",
        hints=(
            "An optimizer takes an iterable of tensors, or a list of dicts: one dict a group.",
            'A group is {"params": encoder.parameters(), "lr": 0.25}.',
            'torch.optim.SGD([{"params": encoder.parameters(), "lr": 0.25}, {"params": decoder.parameters(), "lr": 0.0625}])',
        ),
        right=(
            lambda: (
                lambda encoder, decoder: torch.optim.SGD(
                    [
                        {"params": encoder.parameters(), "lr": 0.25},
                        {"params": decoder.parameters(), "lr": 0.0625},
                    ]
                )
            ),
            lambda: (
                lambda encoder, decoder: torch.optim.SGD(
                    [
                        {"params": encoder.parameters()},
                        {"params": decoder.parameters(), "lr": 0.0625},
                    ],
                    lr=0.25,
                )
            ),
        ),
        mistakes=(
            Mistake(
                matches=lambda seen: (
                    isinstance(seen, (tuple, list)) and all(isinstance(one, dict) for one in seen)
                ),
                says="These are the groups. Hand the list to torch.optim.SGD, and return the optimizer that it makes.",
                examples=(
                    lambda: (
                        lambda encoder, decoder: [
                            {"params": encoder.parameters(), "lr": 0.25},
                            {"params": decoder.parameters(), "lr": 0.0625},
                        ]
                    ),
                ),
            ),
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
                examples=(
                    lambda: lambda encoder, decoder: torch.optim.SGD(encoder.parameters(), lr=0.25),
                ),
            ),
            Mistake(
                matches=lambda seen: _all(seen.encoder, 0.0625) and _all(seen.decoder, 0.25),
                says="The two rates are the wrong way round.",
                examples=(
                    lambda: (
                        lambda encoder, decoder: torch.optim.SGD(
                            [
                                {"params": encoder.parameters(), "lr": 0.0625},
                                {"params": decoder.parameters(), "lr": 0.25},
                            ]
                        )
                    ),
                ),
            ),
            Mistake(
                matches=lambda seen: len({*seen.encoder, *seen.decoder}) == 1,
                says="Both networks have the same rate: a group without lr of its own takes the one given for all.",
                examples=(
                    lambda: (
                        lambda encoder, decoder: torch.optim.SGD(
                            [*encoder.parameters(), *decoder.parameters()], lr=0.25
                        )
                    ),
                ),
            ),
        ),
    ),
    Exercise(
        key="02-replace",
        objective="Given a network and its optimizer, the learner replaces a layer so that the next step moves the new one, no moment lost.",
        expects="a function that changes the network and the optimizer",
        try_out=_replaced,
        passes=lambda seen: (
            seen.installed
            and seen.new == seen.kept == [1, 1]
            and seen.gone == [0, 0]
            and seen.remembered
            and not seen.left
        ),
        because="The new layer moves, the old one is let go, and the others keep their moments: nobody had to be told but the optimizer.",
        hints=(
            "The optimizer holds tensors in two places: optimizer.param_groups says which, optimizer.state what it remembers of each.",
            "Take the old tensors out of every group['params'] and out of optimizer.state, then hand over the new ones.",
            'optimizer.add_param_group({"params": layer.parameters()}) hands over; optimizer.state.pop(weight, None) forgets.',
        ),
        right=(lambda: _whole, lambda: _in_the_same_group),
        mistakes=(
            Mistake(
                matches=lambda seen: not seen.installed,
                says="The network still has its old layer: network[index] = layer.",
                examples=(
                    lambda: (
                        lambda network, index, layer, optimizer: optimizer.add_param_group(
                            {"params": layer.parameters()}
                        )
                    ),
                ),
            ),
            Mistake(
                matches=lambda seen: seen.new == [0, 0] and seen.built,
                slug="names-are-boxes",
                says="You built another optimizer and gave it the name; the caller still has the old one. Change the one that came in.",
                examples=(lambda: _built_and_lost,),
            ),
            Mistake(
                matches=lambda seen: seen.new == [0, 0],
                slug="optimizer-follows",
                examples=(
                    lambda: (
                        lambda network, index, layer, optimizer: (
                            network.__setitem__(index, layer) or network
                        )
                    ),
                ),
            ),
            Mistake(
                matches=lambda seen: seen.gone != [0, 0],
                says="The new tensors are held, and so are the old ones: they are kept alive for nothing, and so are their moments.",
                examples=(lambda: _only_added,),
            ),
            Mistake(
                matches=lambda seen: not seen.remembered,
                slug="state-lives-in-module",
                says="A new optimizer begins without moments: the layer that stayed has lost its own. Change the one that is there.",
                examples=(lambda: _built_anew,),
            ),
            Mistake(
                matches=lambda seen: seen.left,
                says="The moments of the old tensors are still in optimizer.state, and keep those tensors alive.",
                examples=(lambda: _state_left,),
            ),
        ),
    ),
)
