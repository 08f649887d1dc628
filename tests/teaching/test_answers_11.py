"""What learners typed into the checks of lesson 11, and what they read; see `test_answers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

import fnlib
from fnlib.teaching.exercises import Outcome
from tests.teaching.test_answers import ERROR, NOT_YET, PASSED, _judged

# --- 11-own-batches -------------------------------------------------------------------------------


def _keyword(step: Any, stacked: Any, features: Any, labels: Any) -> Any:
    return torch.vmap(step, randomness="different")(stacked, features, labels)


def _with_seed(step: Any, stacked: Any, features: Any, labels: Any) -> Any:
    return vmap(lambda p, x, y: step(p, x, y, seed=7), randomness="different")(
        stacked, features, labels
    )


def _loop(step: Any, stacked: Any, features: Any, labels: Any) -> Any:
    values, losses = [], []
    for i, parameters in enumerate(fnlib.unstack(stacked)):
        value, loss = step(parameters, features[i], labels[i])
        values.append(value)
        losses.append(loss)
    return fnlib.stack(values), torch.stack(losses)


def _loop_of_pairs(step: Any, stacked: Any, features: Any, labels: Any) -> Any:
    return [step(p, features[i], labels[i]) for i, p in enumerate(fnlib.unstack(stacked))]


def _as_in_the_lesson(step: Any, stacked: Any, features: Any, labels: Any) -> Any:
    return vmap(step, in_dims=(0, None, None))(stacked, features, labels)


def _shares_labels(step: Any, stacked: Any, features: Any, labels: Any) -> Any:
    return vmap(step, in_dims=(0, 0, None), randomness="different")(stacked, features, labels)


def _no_randomness(step: Any, stacked: Any, features: Any, labels: Any) -> Any:
    return vmap(step, in_dims=(0, 0, 0))(stacked, features, labels)


def _same(step: Any, stacked: Any, features: Any, labels: Any) -> Any:
    return vmap(step, in_dims=0, randomness="same")(stacked, features, labels)


def _parameters_alone(step: Any, stacked: Any, features: Any, labels: Any) -> Any:
    return vmap(step, randomness="different")(stacked, features, labels)[0]


def _unstacks(step: Any, stacked: Any, features: Any, labels: Any) -> Any:
    later, losses = vmap(step, randomness="different")(stacked, features, labels)
    return fnlib.unstack(later), losses


def _shared_parameters(step: Any, stacked: Any, features: Any, labels: Any) -> Any:
    return vmap(step, in_dims=(None, 0, 0), randomness="different")(stacked, features, labels)


def _wrong_dimension(step: Any, stacked: Any, features: Any, labels: Any) -> Any:
    return vmap(step, in_dims=(0, 1, 1), randomness="different")(stacked, features, labels)


def _two_dims(step: Any, stacked: Any, features: Any, labels: Any) -> Any:
    return vmap(step, in_dims=(0, 0), randomness="different")(stacked, features, labels)


def _no_call(step: Any, stacked: Any, features: Any, labels: Any) -> Any:
    return vmap(step, in_dims=(0, 0, 0), randomness="different")


def _typo(step: Any, stacked: Any, features: Any, labels: Any) -> Any:
    return vmap(step, in_dims=(0, 0, 0), randomness="diff")(stacked, features, labels)


def _reversed_batches(step: Any, stacked: Any, features: Any, labels: Any) -> Any:
    return vmap(step, randomness="different")(stacked, features.flip(0), labels.flip(0))


def _old_parameters(step: Any, stacked: Any, features: Any, labels: Any) -> Any:
    vmap(step, randomness="different")(stacked, features, labels)
    return stacked, torch.zeros(3)


def _no_return(step: Any, stacked: Any, features: Any, labels: Any) -> Any:
    vmap(step, randomness="different")(stacked, features, labels)


OWN: list[tuple[Callable[..., Any], Outcome, str]] = [
    (_keyword, PASSED, "units of its own"),
    (_with_seed, PASSED, ""),
    (_loop, PASSED, ""),
    (_as_in_the_lesson, NOT_YET, "all the batches together"),
    (_shares_labels, NOT_YET, "one of features and labels is, too"),
    (_no_randomness, NOT_YET, "With dropout in the step, `vmap` stops"),
    (_same, NOT_YET, "they all drop the same units"),
    (_parameters_alone, NOT_YET, "The losses are missing"),
    (_loop_of_pairs, NOT_YET, "Return a pair"),
    (_unstacks, NOT_YET, "Return a pair: the stacked parameters"),
    (_shared_parameters, ERROR, "WrongParameters"),
    (_wrong_dimension, ERROR, "ValueError"),
    (_two_dims, ERROR, "ValueError"),
    (_no_call, NOT_YET, "a function that was not called"),
    (_typo, ERROR, "randomness"),
    (_reversed_batches, NOT_YET, "one by one, each on its own batch"),
    (_old_parameters, NOT_YET, "the parameters are those that came in"),
    (_no_return, NOT_YET, "returned None"),
    (lambda step, stacked: step, ERROR, "TypeError"),
]


@pytest.mark.parametrize(("answer", "outcome", "said"), OWN)
def test_own_batches(answer: Any, outcome: Outcome, said: str) -> None:
    """Ways to map a step over networks and batches, or nearly."""
    _judged("11-own-batches", answer, outcome, said)


# --- 11-suspects ----------------------------------------------------------------------------------


def _each(network: Any, criterion: Any, feature: Any, label: Any) -> dict[str, torch.Tensor]:
    weights = dict(network.named_parameters())

    def loss_of(weights: Any, x: Any, y: Any) -> Any:
        return criterion(functional_call(network, weights, (x.unsqueeze(0),)), y.unsqueeze(0))

    found: dict[str, torch.Tensor] = vmap(grad(loss_of), (None, 0, 0))(weights, feature, label)
    return found


def _mine(then: Callable[[dict[str, torch.Tensor], int], Any]) -> Callable[..., Any]:
    return lambda network, criterion, feature, label, k: then(
        _each(network, criterion, feature, label), k
    )


def _flat(each: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([part.flatten(1) for part in each.values()], dim=1)


def _autograd(network: Any, criterion: Any, feature: Any, label: Any, k: int) -> Any:
    sizes = []
    for i in range(len(feature)):
        loss = criterion(network(feature[i : i + 1]), label[i : i + 1])
        slopes = torch.autograd.grad(loss, list(network.parameters()))
        sizes.append(sum(slope.square().sum() for slope in slopes))
    return torch.tensor(sizes).topk(k).indices


def _with_zero_grad(network: Any, criterion: Any, feature: Any, label: Any, k: int) -> Any:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    sizes = {}
    for i in range(len(feature)):
        optimizer.zero_grad()
        criterion(network(feature[i : i + 1]), label[i : i + 1]).backward()
        sizes[i] = float(nn.utils.get_total_norm([w.grad for w in network.parameters()]))
    return sorted(sizes, key=lambda i: -sizes[i])[:k]


def _never_cleared(network: Any, criterion: Any, feature: Any, label: Any, k: int) -> Any:
    sizes = []
    for x, y in zip(feature, label, strict=True):
        criterion(network(x[None]), y[None]).backward()
        sizes.append(nn.utils.get_total_norm([w.grad for w in network.parameters()]))
    return torch.stack(sizes).argsort(descending=True)[:k]


def _losses(network: Any, criterion: Any, feature: Any, label: Any, k: int) -> Any:
    losses = vmap(lambda x, y: criterion(network(x[None]), y[None]))(feature, label)
    return losses.topk(k).indices


def _no_batch_dimension(network: Any, criterion: Any, feature: Any, label: Any, k: int) -> Any:
    weights = dict(network.named_parameters())

    def loss_of(weights: Any, x: Any, y: Any) -> Any:
        return criterion(functional_call(network, weights, (x,)), y)

    each = vmap(grad(loss_of), (None, 0, 0))(weights, feature, label)
    return _flat(each).norm(dim=1).topk(k).indices


def _whole_batch(network: Any, criterion: Any, feature: Any, label: Any, k: int) -> Any:
    loss = criterion(network(feature), label)
    (slope, *_) = torch.autograd.grad(loss, list(network.parameters()))
    return slope.flatten().abs().topk(k).indices


def _splits_all(network: Any, criterion: Any, feature: Any, label: Any, k: int) -> Any:
    weights = dict(network.named_parameters())

    def loss_of(weights: Any, x: Any, y: Any) -> Any:
        return criterion(functional_call(network, weights, (x[None],)), y[None])

    return vmap(grad(loss_of))(weights, feature, label)


def _backward_inside(network: Any, criterion: Any, feature: Any, label: Any, k: int) -> Any:
    def size(x: Any, y: Any) -> Any:
        criterion(network(x[None]), y[None]).backward()
        return network[0].weight.grad.norm()

    return vmap(size)(feature, label).topk(k).indices


SUSPECTS: list[tuple[Callable[..., Any], Outcome, str]] = [
    (_autograd, PASSED, "largest first"),
    (_with_zero_grad, PASSED, ""),
    (_no_batch_dimension, PASSED, ""),
    (_mine(lambda each, k: _flat(each).norm(dim=1).topk(k).indices), PASSED, ""),
    (_mine(lambda each, k: _flat(each).norm(dim=1).argsort()[-k:].flip(0)), PASSED, ""),
    (_mine(lambda each, k: _flat(each).norm(dim=1).argsort()[-k:]), NOT_YET, "another order"),
    (_mine(lambda each, k: _flat(each).norm(dim=1).argsort()[:k]), NOT_YET, "the smallest"),
    (_mine(lambda each, k: _flat(each).norm(dim=1).topk(k)), NOT_YET, "such as `topk` returns"),
    (_mine(lambda each, k: _flat(each).norm(dim=1).topk(k).values), NOT_YET, "These are sizes"),
    (_mine(lambda each, k: _flat(each).norm(dim=1).argmax()), NOT_YET, "1 of the 3 examples"),
    (_mine(lambda each, k: each), NOT_YET, "Return a tensor of indices; you returned a dict"),
    (
        _mine(lambda each, k: each["0.weight"].flatten(1).norm(dim=1).topk(k).indices),
        NOT_YET,
        "one weight tensor",
    ),
    (_mine(lambda each, k: _flat(each).sum(dim=1).topk(k).indices), NOT_YET, "they cancel"),
    (_losses, NOT_YET, "the ranking by loss"),
    (_never_cleared, NOT_YET, "each is added to those before"),
    (_whole_batch, NOT_YET, "of the 3 examples"),
    (_splits_all, ERROR, "ValueError"),
    (_backward_inside, ERROR, "RuntimeError"),
    (lambda network, criterion, feature, label, k: network.grad, ERROR, "AttributeError"),
]


@pytest.mark.parametrize(("answer", "outcome", "said"), SUSPECTS)
def test_suspects(answer: Any, outcome: Outcome, said: str) -> None:
    """Ways to rank examples by their gradients, or nearly."""
    _judged("11-suspects", answer, outcome, said)
