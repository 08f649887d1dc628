"""Lesson 02, "What does sharing buy?": its exercises."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from fnlib.teaching.exercises import Exercise, Mistake, Unreadable, names_in


def _pair() -> tuple[nn.Module, nn.Module]:
    return nn.Linear(4, 2), nn.Linear(2, 4)


def _read(build: Any) -> Any:
    """Build an optimizer over two fresh networks, and look up the rate of each of their weights."""
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


def _rates(seen: Any) -> str:
    """Say which rates were found; a network whose tensors differ has more than one."""
    encoder, decoder = (
        " and ".join(f"{rate:g}" for rate in dict.fromkeys(rates))
        for rates in (seen.encoder, seen.decoder)
    )
    return f"Wanted the encoder at 0.25 and the decoder at 0.0625, got {encoder} and {decoder}."


def _all(rates: list[Any], rate: float) -> bool:
    return all(found == rate for found in rates)


# --- 02-replace: a layer is replaced, and the optimizer is repaired ------------------------------


def _replaced(replace: Callable[..., Any]) -> SimpleNamespace:
    """Replace the second of two layers after one step with momentum, and look at the optimizer."""
    network, layer = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), nn.Linear(3, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.25, momentum=0.5)
    network(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    gone, kept = list(network[1].parameters()), list(network[0].parameters())
    moments = {weight: optimizer.state[weight]["momentum_buffer"].clone() for weight in kept}
    try:
        given = replace(network, 1, layer, optimizer)
    except RuntimeError as problem:
        if "size of tensor" in str(problem) or "Boolean value of Tensor" in str(problem):
            raise Unreadable(
                "`in` and `==` compare two tensors number by number. Compare with `is`, or look the tensor up in a set."
            ) from problem
        raise
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
    return SimpleNamespace(
        **counts,
        installed=network[1] is layer,
        remembered=remembered,
        left=left,
        inherited=any(used.state.get(weight) for weight in layer.parameters()),
        another=used is not optimizer,
        built=bool({"SGD", "Adam", "Optimizer"} & names_in(replace)) and given is None,
    )


def _held(seen: Any) -> str:
    """Say how many of the tensors the optimizer holds, and how often."""
    if max(*seen.new, *seen.kept) > 1:
        return "The optimizer holds some tensors twice, so it would step them twice. Print `optimizer.param_groups`."
    return (
        f"The optimizer holds {sum(seen.new)} of 2 new tensors, {sum(seen.gone)} of 2 old ones "
        f"and {sum(seen.kept)} of the 2 that stay. Wanted 2, 0 and 2."
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
    optimizer.add_param_group({"params": layer.parameters(), "lr": group["lr"]})


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


def _moments_passed_on(
    network: nn.Sequential, index: int, layer: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    olds = list(network[index].parameters())
    _in_the_same_group(network, index, layer, optimizer)
    for old, new in zip(olds, layer.parameters(), strict=True):
        optimizer.state[new] = {"momentum_buffer": torch.ones_like(old)}


def _state_cleared(
    network: nn.Sequential, index: int, layer: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    network[index] = layer
    optimizer.param_groups[0]["params"] = list(network.parameters())
    optimizer.state.clear()


def _state_left(
    network: nn.Sequential, index: int, layer: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    network[index] = layer
    optimizer.param_groups[0]["params"] = list(network.parameters())


EXERCISES = (
    Exercise(
        key="02-two-rates",
        objective="Given two networks, the learner builds one optimizer that trains both, each at its own rate.",
        expects="a function of two networks that returns one optimizer",
        try_out=_read,
        passes=lambda seen: _all(seen.encoder, 0.25) and _all(seen.decoder, 0.0625),
        so_far=_rates,
        because="One `step()` now trains both networks, each at its own rate.",
        hints=(
            "Give `torch.optim.SGD` a list with one dictionary per network.",
            'In each dictionary, `"params"` takes what `parameters()` returns, and `"lr"` a number.',
            "A group without `lr` takes the one that follows the list, as in `SGD(groups, lr=...)`.",
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
                says="These are the right groups for an optimizer. Pass the list to `torch.optim.SGD` and return the result.",
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
                says="You returned more than one optimizer, and the loop would have to step each. Put both networks into one, as two groups.",
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
                matches=lambda seen: None in seen.decoder and not any(seen.decoder),
                says="The optimizer holds tensors of the encoder and none of the decoder. Print `optimizer.param_groups`.",
                examples=(
                    lambda: lambda encoder, decoder: torch.optim.SGD(encoder.parameters(), lr=0.25),
                ),
            ),
            Mistake(
                matches=lambda seen: None in seen.encoder and not any(seen.encoder),
                says="The optimizer holds tensors of the decoder and none of the encoder. Print `optimizer.param_groups`.",
                examples=(
                    lambda: (
                        lambda encoder, decoder: torch.optim.SGD(decoder.parameters(), lr=0.0625)
                    ),
                ),
            ),
            Mistake(
                matches=lambda seen: None in (*seen.encoder, *seen.decoder),
                says="The optimizer holds only a part of a network. Compare your groups with `list(encoder.parameters())`.",
                examples=(
                    lambda: (
                        lambda encoder, decoder: torch.optim.SGD(
                            [
                                {"params": [encoder.weight], "lr": 0.25},
                                {"params": [decoder.weight], "lr": 0.0625},
                            ]
                        )
                    ),
                ),
            ),
            Mistake(
                matches=lambda seen: _all(seen.encoder, 0.0625) and _all(seen.decoder, 0.25),
                says="Both networks are there, with their rates swapped: the encoder should have 0.25.",
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
                says="Both networks are there, at the same rate. Give each its own group, and print `optimizer.param_groups`.",
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
        objective="Given a network and its optimizer, the learner replaces a layer and repairs the optimizer, the other layers' moments kept.",
        expects="a function that changes the network and the optimizer",
        try_out=_replaced,
        passes=lambda seen: (
            seen.installed
            and seen.new == seen.kept == [1, 1]
            and seen.gone == [0, 0]
            and seen.remembered
            and not seen.left
            and not seen.inherited
        ),
        so_far=_held,
        because="The next step trains the new layer. The old one is gone from the optimizer, and the layer that stays has its moments.",
        hints=(
            "Print `optimizer.param_groups`, which lists the tensors it updates, and `optimizer.state`, which has their moments.",
            "Collect the old layer's tensors before you replace it: afterwards the network can't tell you which they were.",
            "A group's `group['params']` is a list that you can change, and `optimizer.state.pop` takes one tensor's moments out.",
        ),
        right=(lambda: _whole, lambda: _in_the_same_group),
        mistakes=(
            Mistake(
                matches=lambda seen: not seen.installed,
                says="The network still has its old layer. Print `network` after your function.",
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
                says="You built a new optimizer under a local name, so the caller still has the old one. Change the optimizer you were given.",
                examples=(lambda: _built_and_lost,),
            ),
            Mistake(
                matches=lambda seen: seen.new == [0, 0],
                slug="optimizer-follows",
                says="The network has its new layer, and the optimizer holds none of its tensors. Print `optimizer.param_groups`.",
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
                says="The optimizer holds the new tensors, and still the old ones. Take those out of each `group['params']`.",
                examples=(lambda: _only_added,),
            ),
            Mistake(
                matches=lambda seen: 0 in seen.kept,
                says="The optimizer holds the new layer, and no longer the one that stays. Take out the old layer's tensors alone.",
                examples=(
                    lambda: (
                        lambda network, index, layer, optimizer: (
                            network.__setitem__(index, layer)
                            or optimizer.param_groups[0].update(params=list(layer.parameters()))
                        )
                    ),
                ),
            ),
            Mistake(
                matches=lambda seen: not seen.remembered and seen.another,
                slug="state-lives-in-module",
                says="A new optimizer starts without moments, so the layer that stays has lost its own. Change the one you were given.",
                examples=(lambda: _built_anew,),
            ),
            Mistake(
                matches=lambda seen: not seen.remembered,
                says="The groups are right. The layer that stays has lost its moments: look at what you removed from `optimizer.state`.",
                examples=(lambda: _state_cleared,),
            ),
            Mistake(
                matches=lambda seen: seen.inherited,
                says="The groups are right. The new tensors have moments already, and should start without: print `optimizer.state`.",
                examples=(lambda: _moments_passed_on,),
            ),
            Mistake(
                matches=lambda seen: seen.left,
                says="The groups are right. `optimizer.state` still has the moments of the old tensors: print `len(optimizer.state)`.",
                examples=(lambda: _state_left,),
            ),
        ),
    ),
)
