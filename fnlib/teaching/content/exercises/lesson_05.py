"""Lesson 05, "Do four loops learn the same weights?": its exercises."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from fnlib.teaching.content.pictures.four_runs import NAMELESS
from fnlib.teaching.exercises import Exercise, Mistake, Unreadable, in_words, names_in

Weights = dict[str, Tensor]
Fifth = Callable[[nn.Module, Any, Weights, list[tuple[Tensor, Tensor]], float], Any]

# --- 05-which: four ledgers without names -----------------------------------------------------------

_LOOPS = ("stock", "encapsulated", "fit", "functional")
_ALSO = {
    "step": "encapsulated",
    "box.step": "encapsulated",
    "box.fit": "fit",
    "box": "encapsulated",
}


def _named(answer: Any) -> Any:
    """Read the answer: letter -> loop, each loop once."""
    if not isinstance(answer, Mapping):
        raise Unreadable(
            f'The answer is a dict, such as {{"A": "stock", "B": "fit"}}; you gave {in_words(answer)}.'
        )
    if any(name is ... or name is None for name in answer.values()):
        return None
    named = {str(letter).strip().upper(): _loop_name(name) for letter, name in answer.items()}
    if set(named) != set(NAMELESS):
        raise Unreadable("Give one loop for each of the letters A, B, C and D.")
    twice = [name for name in _LOOPS if list(named.values()).count(name) > 1]
    if twice:
        raise Unreadable(f'"{twice[0]}" stands at two letters. Each loop wrote one ledger.')
    return named


def _loop_name(said: Any) -> str:
    plain = str(said).strip().lower()
    name = _ALSO.get(plain, plain)
    if name not in _LOOPS:
        raise Unreadable(f'"{said}" is none of the four: {", ".join(_LOOPS)}.')
    return name


def _wrong(named: dict[str, str]) -> str:
    """Say which letters are wrong, and what to look at in one of their ledgers."""
    wrong = [letter for letter in NAMELESS if named[letter] != NAMELESS[letter]]
    right = f"{4 - len(wrong)} of 4. Look again at {_and(wrong)}. "
    place = {name: letter for letter, name in named.items()}
    if place["functional"] in "AC":
        return right + (
            f"The functional loop has a statement for each result. {place['functional']} has "
            "one statement, and in it a weight is replaced."
        )
    if place["stock"] in "AC":
        return right + (
            "The stock loop has five statements a step. Count the numbered lines of "
            f"{place['stock']}."
        )
    if place["stock"] == "B":
        return right + "The stock loop writes into its weights. Which ledger says `in place`?"
    return right + "Compare the step counts: how many steps are in each of the two statements?"


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[:-1] else words)


def _with(**loops: str) -> dict[str, str]:
    return {**NAMELESS, **loops}


# --- 05-fifth: a loop of one's own with the same bits ----------------------------------------------


def _train(fifth: Fifth) -> Any:
    """Let ``fifth`` take 30 steps, and compare its weights with those of the stock loop."""
    torch_state = torch.get_rng_state()
    torch.manual_seed(0)
    network, criterion = (
        nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3), nn.LogSoftmax(dim=1)),
        nn.NLLLoss(),
    )
    batches = [(torch.randn(8, 6), torch.randint(3, (8,))) for _ in range(30)]
    torch.set_rng_state(torch_state)
    weights = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    first = {name: weight.clone() for name, weight in weights.items()}
    given = fifth(network, criterion, weights, batches, 0.3)
    if given is None or given is ...:
        return None
    intact = _same(weights, first)
    network_intact = _same(dict(network.named_parameters()), first)
    network.load_state_dict(first)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.3)
    for feature, label in batches:
        optimizer.zero_grad()
        criterion(network(feature), label).backward()
        optimizer.step()
    wanted = {name: weight.detach() for name, weight in network.named_parameters()}
    return SimpleNamespace(
        given=given,
        wanted=wanted,
        first=first,
        intact=intact,
        network_intact=network_intact,
        names=names_in(fifth),
    )


def _same(weights: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return weights.keys() == others.keys() and all(
        torch.equal(weights[name], others[name]) for name in others
    )


def _apart(seen: Any) -> float:
    """The largest distance from the stock loop's weights."""
    return max(
        float((seen.given[name].detach() - w).abs().max()) for name, w in seen.wanted.items()
    )


def _how_far(seen: Any) -> str:
    """Say how far a dict of the right names and shapes is from the stock loop's."""
    if not isinstance(seen.given, Mapping):
        return ""
    if seen.given.keys() != seen.wanted.keys():
        return f"Wanted a dict with the names {', '.join(seen.wanted)}; got {', '.join(map(str, seen.given))}."
    return (
        f"Wanted the stock loop's bits, got weights that are up to {_apart(seen):.1g} away. "
        "Compare yours with one step of `torch.optim.SGD`, for the first batch alone."
    )


def _loop(move: Callable[[Tensor, Tensor, float], Tensor]) -> Fifth:
    """A loop in plain PyTorch that moves each weight by ``move(weight, gradient, lr)``."""

    def fifth(
        network: nn.Module,
        criterion: Any,
        weights: Weights,
        batches: list[tuple[Tensor, Tensor]],
        lr: float,
    ) -> Weights:
        def loss_of(weights: Weights, feature: Tensor, label: Tensor) -> Tensor:
            return criterion(torch.func.functional_call(network, weights, (feature,)), label)

        for feature, label in batches:
            gradient = torch.func.grad(loss_of)(weights, feature, label)
            weights = {name: move(weights[name], gradient[name], lr) for name in weights}
        return weights

    return fifth


def _result_lost(
    network: nn.Module,
    criterion: Any,
    weights: Weights,
    batches: list[tuple[Tensor, Tensor]],
    lr: float,
) -> Weights:
    _loop(lambda weight, gradient, lr: torch.add(weight, gradient, alpha=-lr))(
        network, criterion, weights, batches, lr
    )
    return weights


def _into_the_network(
    network: nn.Module,
    criterion: Any,
    weights: Weights,
    batches: list[tuple[Tensor, Tensor]],
    lr: float,
) -> Weights:
    for feature, label in batches:
        network.zero_grad()
        criterion(network(feature), label).backward()
        with torch.no_grad():
            for weight in network.parameters():
                weight.sub_(weight.grad, alpha=lr)  # type: ignore[arg-type]
    return dict(network.named_parameters())


def _with_optim(
    network: nn.Module,
    criterion: Any,
    weights: Weights,
    batches: list[tuple[Tensor, Tensor]],
    lr: float,
) -> Weights:
    copied = copy.deepcopy(network)
    optimizer = torch.optim.SGD(copied.parameters(), lr=lr)
    for feature, label in batches:
        optimizer.zero_grad()
        criterion(copied(feature), label).backward()
        optimizer.step()
    return dict(copied.named_parameters())


EXERCISES = (
    Exercise(
        key="05-which",
        objective="Given the ledgers of four loops without names, the learner says which loop wrote each.",
        expects='a dict such as {"A": "stock", "B": "fit", "C": "functional", "D": "encapsulated"}',
        try_out=_named,
        passes=lambda named: named == NAMELESS,
        so_far=_wrong,
        because="D acts at a distance, the boxes A and C replace their values, and B changes only names and graphs.",
        hints=(
            "Count the statements of each ledger first: a box needs one.",
            "Of the two ledgers with five statements, one writes into tensors and the other gives names to results.",
            "Of the two ledgers with one statement, one took a single step and the other took all four.",
        ),
        right=(
            lambda: dict(NAMELESS),
            lambda: {letter.lower(): name.upper() for letter, name in NAMELESS.items()},
        ),
        mistakes=(
            Mistake(
                matches=lambda named: named == _with(B="stock", D="functional"),
                slug="in-place-replaces",
                says="2 of 4. Look again at B and D. Which of the two changes something in place, and which binds a name in each line?",
                examples=(lambda: _with(B="stock", D="functional"),),
            ),
            Mistake(
                matches=lambda named: named == _with(A="fit", C="encapsulated"),
                says="2 of 4. Look again at A and C: the boxes are where you put them. Compare the step counts in the two statements.",
                examples=(lambda: _with(A="fit", C="encapsulated"),),
            ),
        ),
    ),
    Exercise(
        key="05-fifth",
        objective="Given a stock loop, the learner writes a loop on values that gives the same bits.",
        expects="a dict of the new weights, with the names that went in",
        try_out=_train,
        so_far=_how_far,
        passes=lambda seen: (
            _same(seen.given, seen.wanted)
            and seen.intact
            and seen.network_intact
            and "optim" not in seen.names
        ),
        because="After 30 steps your weights match torch.optim.SGD's bit for bit, and what went in is unchanged.",
        hints=(
            'Lesson 01 has such a loop under "Run it: functional". Its `w - lr * gradient[k]` rounds twice: use the task\'s `torch.add` there.',
            "`torch.func.grad(loss_of)` needs a function of the weights that returns the loss. `functional_call` runs the network with them.",
            "Of each weight and its gradient, `torch.add` with `alpha=` makes a new tensor. Collect those in a dict.",
        ),
        right=(lambda: _loop(lambda weight, gradient, lr: torch.add(weight, gradient, alpha=-lr)),),
        mistakes=(
            Mistake(
                matches=lambda seen: not seen.intact,
                slug="in-place-replaces",
                says="The dict that went in holds other numbers now. A method with `_` at its end writes in place: use one that makes a new tensor.",
                examples=(
                    lambda: _loop(lambda weight, gradient, lr: weight.add_(gradient, alpha=-lr)),
                ),
            ),
            Mistake(
                matches=lambda seen: not seen.network_intact,
                says="`weights` is as it was, but your loop trained `network` itself. Pass the weights to it with `torch.func.functional_call`.",
                examples=(lambda: _into_the_network,),
            ),
            Mistake(
                matches=lambda seen: _same(seen.given, seen.wanted) and "optim" in seen.names,
                says="The bits are right, but `torch.optim` took the steps. Write the update yourself.",
                examples=(lambda: _with_optim,),
            ),
            Mistake(
                matches=lambda seen: _same(seen.given, seen.first),
                slug="result-not-needed",
                says="These are the weights that went in. Give the result of each step a name, and start the next step from it.",
                examples=(lambda: _result_lost,),
            ),
            Mistake(
                matches=lambda seen: not _same(seen.given, seen.wanted) and 0 < _apart(seen) < 1e-4,
                slug="style-changes-numbers",
                says=(
                    "Right up to rounding. `w - lr * g` rounds the product and then the difference; "
                    "the task names a call that rounds as SGD does."
                ),
                examples=(lambda: _loop(lambda weight, gradient, lr: weight - lr * gradient),),
            ),
        ),
    ),
)
