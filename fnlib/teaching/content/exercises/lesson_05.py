"""Lesson 05, "Do four loops learn the same?": its exercises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from fnlib.teaching.content.pictures.four_loops import NAMELESS
from fnlib.teaching.exercises import Exercise, Mistake, Unreadable, in_words

Weights = dict[str, Tensor]
Fifth = Callable[[nn.Module, Any, Weights, list[tuple[Tensor, Tensor]], float], Any]

# --- 05-which: four anonymous ledgers --------------------------------------------------------------

_WHICH = NAMELESS


def _named(answer: Any) -> Any:
    """The answer with its letters and names as they are asked for."""
    if not isinstance(answer, Mapping):
        raise Unreadable(
            f'The answer is a dict, such as {{"A": "stock", "B": "fit"}}; you gave {in_words(answer)}.'
        )
    if any(name is ... for name in answer.values()):
        return None
    for name in answer.values():
        if str(name).strip().lower() not in _WHICH.values():
            raise Unreadable(
                f'"{name}" is none of the four names: stock, encapsulated, fit, functional.'
            )
    return {
        str(letter).strip().upper(): str(name).strip().lower() for letter, name in answer.items()
    }


def _swapped(one: str, other: str) -> dict[str, str]:
    return {**_WHICH, one: _WHICH[other], other: _WHICH[one]}


# --- 05-fifth: a loop of one's own with the same bits ----------------------------------------------


def _train(fifth: Fifth) -> Any:
    """Let ``fifth`` take 30 steps, and lay its weights beside those of the stock loop."""
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
    untouched = _same(weights, first) and _same(dict(network.named_parameters()), first)
    network.load_state_dict(first)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.3)
    for feature, label in batches:
        optimizer.zero_grad()
        criterion(network(feature), label).backward()
        optimizer.step()
    wanted = {name: weight.detach() for name, weight in network.named_parameters()}
    return SimpleNamespace(given=given, wanted=wanted, first=first, untouched=untouched)


def _same(weights: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return weights.keys() == others.keys() and all(
        torch.equal(weights[name], others[name]) for name in others
    )


def _close(weights: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return weights.keys() == others.keys() and all(
        torch.allclose(weights[name], others[name], atol=1e-4) for name in others
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


EXERCISES = (
    Exercise(
        key="05-which",
        objective="Given the ledger of a loop without names, the learner says which of four styles wrote it.",
        expects='a dictionary such as {"A": "stock", "B": "fit", "C": "functional", "D": "encapsulated"}, each loop once',
        try_out=_named,
        passes=lambda named: named == _WHICH,
        so_far=lambda named: (
            f"{sum(named.get(letter) == name for letter, name in _WHICH.items())} of 4 right."
        ),
        because="D works at a distance, A and C inside a box, and B changes nothing in place.",
        hints=(
            "Look for 'changed in place' first. One of the four never says it.",
            "How many statements does one step take? And in which ledger does one statement use up four graphs?",
            "B is functional, D is stock. A and C are the boxes: C has all four steps in one statement.",
        ),
        right=(
            lambda: dict(_WHICH),
            lambda: {letter.lower(): name.upper() for letter, name in _WHICH.items()},
        ),
        mistakes=(
            Mistake(
                matches=lambda named: named == _swapped("B", "D"),
                slug="in-place-replaces",
                says="In D a weight is changed in place; in B each statement only binds a name.",
                examples=(lambda: _swapped("B", "D"),),
            ),
            Mistake(
                matches=lambda named: named == _swapped("A", "C"),
                says="Both are boxes. One of them used up four graphs in a single statement: all four steps are inside of it.",
                examples=(lambda: _swapped("A", "C"),),
            ),
            Mistake(
                matches=lambda named: (
                    sorted(named) == list("ABCD") and "functional" in (named["A"], named["C"])
                ),
                slug="box-is-open",
                says="One statement and 0 at a distance is not yet functional: look at 'changed in place' in it.",
                examples=(lambda: _swapped("A", "B"), lambda: _swapped("B", "C")),
            ),
            Mistake(
                matches=lambda named: (
                    sorted(named) == list("ABCD") and "stock" in (named["A"], named["C"])
                ),
                slug="state-lives-in-module",
                says="The stock loop takes a statement for each of them; A and C take one statement for all.",
                examples=(lambda: _swapped("A", "D"), lambda: _swapped("C", "D")),
            ),
        ),
    ),
    Exercise(
        key="05-fifth",
        objective="Given a stock loop, the learner writes a loop of their own on values that ends at the same bits.",
        expects="a dict of weights, with the names that went in",
        try_out=_train,
        passes=lambda seen: _same(seen.given, seen.wanted) and seen.untouched,
        because="The same bits as torch.optim.SGD, and what went in stands as it was.",
        hints=(
            "The first code cell of lesson 04 has one such step. Put it in a loop, and bind its result.",
            "torch.func.grad(loss_of)(weights, feature, label) gives the gradient. Which rounding does SGD make when it adds?",
            "weights = {name: torch.add(weights[name], gradient[name], alpha=-lr) for name in weights}",
        ),
        right=(lambda: _loop(lambda weight, gradient, lr: torch.add(weight, gradient, alpha=-lr)),),
        mistakes=(
            Mistake(
                matches=lambda seen: not seen.untouched,
                slug="in-place-replaces",
                says="The weights that went in have changed. Make new ones: torch.add, not add_.",
                examples=(
                    lambda: _loop(lambda weight, gradient, lr: weight.add_(gradient, alpha=-lr)),
                ),
            ),
            Mistake(
                matches=lambda seen: _same(seen.given, seen.first),
                slug="immutable-is-untrainable",
                says="You gave back the weights that went in. Bind what each step makes, and give back the last.",
                examples=(lambda: _result_lost,),
            ),
            Mistake(
                matches=lambda seen: (
                    not _same(seen.given, seen.wanted) and _close(seen.given, seen.wanted)
                ),
                slug="style-changes-numbers",
                says="Yours agree with the stock loop up to rounding, so an operation differs: weight - lr * gradient rounds the product first, torch.add(weight, gradient, alpha=-lr) need not.",
                examples=(lambda: _loop(lambda weight, gradient, lr: weight - lr * gradient),),
            ),
            Mistake(
                matches=lambda seen: seen.given.keys() == seen.wanted.keys(),
                says="These weights are those of another trajectory. Does each step begin where the last one ended, and go downhill?",
                examples=(lambda: _loop(lambda weight, gradient, lr: weight + lr * gradient),),
            ),
        ),
    ),
)
