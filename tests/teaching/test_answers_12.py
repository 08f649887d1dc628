"""What learners typed into the checks of lesson 12, and what they read; see `test_answers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.func import grad, grad_and_value

from fnlib.teaching.content.exercises.shared import criterion
from fnlib.teaching.exercises import Outcome
from tests.teaching.test_answers import ERROR, NOT_YET, PASSED, _judged

Train = Callable[[Any, Any, Any, Any], Any]


def _loop(network: Any, optimizer: Any, last: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    """The stock step, with another last line."""

    def step(feature: Any, label: Any) -> Any:
        optimizer.zero_grad()
        loss = criterion(network(feature), label)
        loss.backward()
        optimizer.step()
        return last(loss)

    return step


def _returned(network: Any, optimizer: Any, batches: Any, compiler: Any) -> Any:
    fast = compiler(_loop(network, optimizer, lambda loss: loss.detach()))
    return [fast(*batch) for batch in batches]


def _cloned(network: Any, optimizer: Any, batches: Any, compiler: Any) -> Any:
    fast = compiler(_loop(network, optimizer, lambda loss: loss))
    return [fast(*batch).detach().clone() for batch in batches]


def _stacked(network: Any, optimizer: Any, batches: Any, compiler: Any) -> Any:
    return torch.stack(_returned(network, optimizer, batches, compiler))


def _compiled_each_time(network: Any, optimizer: Any, batches: Any, compiler: Any) -> Any:
    step = _loop(network, optimizer, lambda loss: loss.detach())
    return [compiler(step)(*batch) for batch in batches]


def _filled_tensor(network: Any, optimizer: Any, batches: Any, compiler: Any) -> Any:
    losses = torch.zeros(6)

    def step(feature: Any, label: Any, i: Any) -> None:
        optimizer.zero_grad()
        loss = criterion(network(feature), label)
        loss.backward()
        optimizer.step()
        losses[i] = loss.detach()

    fast = compiler(step)
    for i, (feature, label) in enumerate(batches):
        fast(feature, label, torch.tensor(i))
    return losses


def _in_the_list(network: Any, optimizer: Any, batches: Any, compiler: Any) -> Any:
    losses: list[Any] = []
    fast = compiler(_loop(network, optimizer, lambda loss: losses.append(loss.detach())))
    for batch in batches:
        fast(*batch)
    return losses


def _sum_of_numbers(network: Any, optimizer: Any, batches: Any, compiler: Any) -> Any:
    losses: list[Any] = []

    def kept(loss: Any) -> None:
        losses.insert(0, loss.item())

    fast = compiler(_loop(network, optimizer, kept))
    for batch in batches:
        fast(*batch)
    return losses[::-1]


def _list_handed_in(network: Any, optimizer: Any, batches: Any, compiler: Any) -> Any:
    def step(feature: Any, label: Any, losses: Any) -> Any:
        optimizer.zero_grad()
        loss = criterion(network(feature), label)
        loss.backward()
        optimizer.step()
        return [*losses, loss.detach()]

    fast, losses = compiler(step), []
    for feature, label in batches:
        losses = fast(feature, label, losses)
    return losses


def _total(network: Any, optimizer: Any, batches: Any, compiler: Any) -> Any:
    fast = compiler(_loop(network, optimizer, lambda loss: loss.detach()))
    total = 0
    for batch in batches:
        total += fast(*batch)
    return total


def _with_graphs(network: Any, optimizer: Any, batches: Any, compiler: Any) -> Any:
    fast = compiler(_loop(network, optimizer, lambda loss: loss))
    return [fast(*batch) for batch in batches]


def _not_returned(network: Any, optimizer: Any, batches: Any, compiler: Any) -> Any:
    fast = compiler(_loop(network, optimizer, lambda loss: None))
    return [fast(*batch) for batch in batches]


def _without_a_step(network: Any, optimizer: Any, batches: Any, compiler: Any) -> Any:
    fast = compiler(lambda feature, label: criterion(network(feature), label).detach())
    return [fast(*batch) for batch in batches]


def _not_compiled(network: Any, optimizer: Any, batches: Any, compiler: Any) -> Any:
    step = _loop(network, optimizer, lambda loss: loss.detach())
    return [step(*batch) for batch in batches]


def _twice(network: Any, optimizer: Any, batches: Any, compiler: Any) -> Any:
    _returned(network, optimizer, batches, compiler)
    return _returned(network, optimizer, batches, compiler)


MEND: list[tuple[Train, Outcome, str]] = [
    (_returned, PASSED, "Nothing was compiled after the first step"),
    (_cloned, PASSED, ""),
    (_compiled_each_time, PASSED, ""),
    (_filled_tensor, NOT_YET, "The second call compiles again"),
    (_stacked, PASSED, ""),
    (_in_the_list, NOT_YET, "The second call compiles again"),
    (_sum_of_numbers, NOT_YET, "The second call compiles again"),
    (_list_handed_in, NOT_YET, "The second call compiles again"),
    (_total, NOT_YET, "Return the losses in a list"),
    (_with_graphs, NOT_YET, "look for `grad_fn`"),
    (_not_returned, NOT_YET, "fewer than 6 losses"),
    (_without_a_step, NOT_YET, "the weights end elsewhere"),
    (_not_compiled, NOT_YET, "nothing was compiled"),
    (_twice, NOT_YET, "the weights end elsewhere"),
    (
        lambda network, optimizer, batches, compiler: compiler,
        NOT_YET,
        "Return the losses in a list",
    ),
    (lambda network, optimizer, batches, compiler: compiler.step, ERROR, "'step'"),
]


def _momentum(loss_of: Any, weights: Any, velocity: Any, feature: Any, label: Any, lr: Any) -> Any:
    gradient, loss = grad_and_value(loss_of)(weights, feature, label)
    velocity = {name: 0.9 * v + gradient[name] for name, v in velocity.items()}
    return {name: w - lr * velocity[name] for name, w in weights.items()}, velocity


def _with_a_loop(
    loss_of: Any, weights: Any, velocity: Any, feature: Any, label: Any, lr: Any
) -> Any:
    gradient = grad(loss_of)(weights, feature, label)
    new_weights, new_velocity = {}, {}
    for name in weights:
        new_velocity[name] = velocity[name].mul(0.9).add(gradient[name])
        new_weights[name] = weights[name].sub(lr * new_velocity[name])
    return new_weights, new_velocity


def _copied_first(
    loss_of: Any, weights: Any, velocity: Any, feature: Any, label: Any, lr: Any
) -> Any:
    gradient = grad(loss_of)(weights, feature, label)
    velocity = {name: v.clone() for name, v in velocity.items()}
    for name in velocity:
        velocity[name].mul_(0.9).add_(gradient[name])
    return {name: w - lr * velocity[name] for name, w in weights.items()}, velocity


def _tree_map(loss_of: Any, weights: Any, velocity: Any, feature: Any, label: Any, lr: Any) -> Any:
    from torch.utils import _pytree as tree

    gradient = grad(loss_of)(weights, feature, label)
    velocity = tree.tree_map(lambda v, g: 0.9 * v + g, velocity, gradient)
    return tree.tree_map(lambda w, v: w - lr * v, weights, velocity), velocity


def _same_dictionary(
    loss_of: Any, weights: Any, velocity: Any, feature: Any, label: Any, lr: Any
) -> Any:
    gradient = grad(loss_of)(weights, feature, label)
    for name in weights:
        velocity[name] = 0.9 * velocity[name] + gradient[name]
        weights[name] = weights[name] - lr * velocity[name]
    return weights, velocity


def _augmented(loss_of: Any, weights: Any, velocity: Any, feature: Any, label: Any, lr: Any) -> Any:
    gradient = grad(loss_of)(weights, feature, label)
    velocity = {name: 0.9 * v + gradient[name] for name, v in velocity.items()}
    for name, w in weights.items():
        w -= lr * velocity[name]
    return weights, velocity


def _autograd(loss_of: Any, weights: Any, velocity: Any, feature: Any, label: Any, lr: Any) -> Any:
    leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
    loss_of(leaves, feature, label).backward()
    velocity = {name: 0.9 * v + leaves[name].grad for name, v in velocity.items()}
    return {name: w - lr * velocity[name] for name, w in weights.items()}, velocity


def _watched(loss_of: Any, weights: Any, velocity: Any, feature: Any, label: Any, lr: Any) -> Any:
    print(end="")
    return _momentum(loss_of, weights, velocity, feature, label, lr)


_losses: list[Any] = []


def _kept(loss_of: Any, weights: Any, velocity: Any, feature: Any, label: Any, lr: Any) -> Any:
    _losses.append(lr)
    return _momentum(loss_of, weights, velocity, feature, label, lr)


def _added(loss_of: Any, weights: Any, velocity: Any, feature: Any, label: Any, lr: Any) -> Any:
    weights, velocity = _momentum(loss_of, weights, velocity, feature, label, -lr)
    return weights, velocity


def _old_velocity(
    loss_of: Any, weights: Any, velocity: Any, feature: Any, label: Any, lr: Any
) -> Any:
    new_weights = {name: w - lr * velocity[name] for name, w in weights.items()}
    return new_weights, _momentum(loss_of, weights, velocity, feature, label, lr)[1]


def _three(loss_of: Any, weights: Any, velocity: Any, feature: Any, label: Any, lr: Any) -> Any:
    return *_momentum(loss_of, weights, velocity, feature, label, lr), 0.5


def _nesterov(loss_of: Any, weights: Any, velocity: Any, feature: Any, label: Any, lr: Any) -> Any:
    gradient = grad(loss_of)(weights, feature, label)
    velocity = {name: 0.9 * v + gradient[name] for name, v in velocity.items()}
    moved = {n: w - lr * (gradient[n] + 0.9 * velocity[n]) for n, w in weights.items()}
    return moved, velocity


MOMENTUM: list[tuple[Any, Outcome, str]] = [
    (_momentum, PASSED, "One graph served four rates"),
    (_with_a_loop, PASSED, ""),
    (_copied_first, PASSED, ""),
    (_tree_map, PASSED, ""),
    (_same_dictionary, NOT_YET, "the weights or the velocity you were given have changed"),
    (_augmented, NOT_YET, "the weights or the velocity you were given have changed"),
    (_autograd, NOT_YET, "it isn't one graph"),
    (_watched, NOT_YET, "it isn't one graph"),
    (_kept, NOT_YET, "a later step compiles again"),
    (_added, NOT_YET, "check the sign"),
    (_old_velocity, NOT_YET, "The weights move by something else"),
    (_nesterov, NOT_YET, "with other numbers"),
    (_three, NOT_YET, "two dictionaries"),
    (lambda loss_of, weights, velocity, feature, label, lr: weights, NOT_YET, "two dictionaries"),
    (lambda weights, velocity: (weights, velocity), ERROR, "positional argument"),
    (lambda loss_of, weights, velocity, feature, label, lr: ({}, {}), NOT_YET, ""),
]


@pytest.mark.parametrize(("answer", "outcome", "said"), MEND)
def test_mend(answer: Any, outcome: Outcome, said: str) -> None:
    """Loops that compile once, or nearly."""
    _judged("12-mend", answer, outcome, said)


@pytest.mark.parametrize(("answer", "outcome", "said"), MOMENTUM)
def test_momentum(answer: Any, outcome: Outcome, said: str) -> None:
    """Steps with momentum, and what else is written for them."""
    _judged("12-momentum", answer, outcome, said)
