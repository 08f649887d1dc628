"""What new learners typed into the checks of lessons 00 and 01, and what they read.

None of these answers was written by the author of a check: they come from readings of the lessons and from trying
them out. Each is judged for what it is.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from fnlib.teaching.content.exercises.lesson_01 import LEDGER
from fnlib.teaching.exercises import Outcome, exercises, judge

ERROR, NOT_YET, PASSED = Outcome.ERROR, Outcome.NOT_YET, Outcome.PASSED


def _file(model: nn.Module) -> Any:
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    return torch.load(file)


def _saved(model: nn.Module) -> None:
    torch.save(model.state_dict(), io.BytesIO())


def _in_eval(model: nn.Module) -> Any:
    model.eval()
    return model.state_dict()


def _fresh(model: nn.Module) -> Any:
    other = nn.Linear(3, 2)
    other.load_state_dict(model.state_dict())
    return other


KEEP: list[tuple[Callable[[nn.Module], Any], Outcome, str]] = [
    (lambda m: copy.deepcopy(m.state_dict()), PASSED, "stayed as they were"),
    (_file, PASSED, ""),
    (_fresh, PASSED, ""),
    (lambda m: {k: torch.clone(v) for k, v in m.state_dict().items()}, PASSED, ""),
    (lambda m: {k: v + 0 for k, v in m.state_dict().items()}, PASSED, ""),
    (lambda m: m.state_dict(), NOT_YET, "its tensors use the model's memory"),
    (_in_eval, NOT_YET, "its tensors use the model's memory"),
    (lambda m: m.state_dict(keep_vars=True), NOT_YET, "the model's memory"),
    (_saved, NOT_YET, "Saved to a file, the weights are safe"),
    (lambda m: {k: v.numpy() for k, v in m.state_dict().items()}, NOT_YET, "NumPy arrays"),
    (lambda m: {k: v.detach() for k, v in m.state_dict().items()}, NOT_YET, "`detach()` takes"),
    (lambda m: dict(m.state_dict()), NOT_YET, "The tensors in it aren't"),
    (lambda m: copy.copy(m), NOT_YET, "a second module around the same tensors"),
    (lambda m: m, NOT_YET, "the model itself"),
    (lambda m: tuple(w.detach().clone() for w in m.parameters()), NOT_YET, "lost their names"),
    (lambda m: list(m.parameters()), NOT_YET, "the model's own parameters"),
    (lambda m: m.weight.detach().clone(), NOT_YET, "Wanted the model's weights by name"),
    (lambda m: m.parameters(), NOT_YET, "Wanted the model's weights by name"),
    (lambda m: {"w": 1}, NOT_YET, "Wanted the model's weights by name"),
    (lambda m: m.state_dict.clone(), ERROR, "AttributeError"),
    (lambda: 3, ERROR, "TypeError"),
]


def _from_zero(model: Any, train: Any, score: Any, epochs: int) -> Any:
    highest, best = 0, None
    for _ in range(epochs):
        train()
        if score() > highest:
            highest, best = score(), copy.deepcopy(model.state_dict())
    return best


def _every_state(model: Any, train: Any, score: Any, epochs: int) -> Any:
    states = []
    for _ in range(epochs):
        train()
        states.append((score(), copy.deepcopy(model.state_dict())))
    return max(states, key=lambda pair: pair[0])[1]


def _stops_early(model: Any, train: Any, score: Any, epochs: int) -> Any:
    highest, best = 0, None
    for _ in range(epochs):
        train()
        if score() < highest:
            break
        highest, best = score(), copy.deepcopy(model.state_dict())
    return best


def _an_alias(model: Any, train: Any, score: Any, epochs: int) -> Any:
    highest, best = 0, None
    for _ in range(epochs):
        train()
        if score() > highest:
            highest, best = score(), model.state_dict()
    return best


def _too_high(model: Any, train: Any, score: Any, epochs: int) -> Any:
    highest, best = 1.0, None
    for _ in range(epochs):
        train()
        if score() > highest:
            best = copy.deepcopy(model.state_dict())
    return best


def _lowest(model: Any, train: Any, score: Any, epochs: int) -> Any:
    lowest, best = 1.0, None
    for _ in range(epochs):
        train()
        if score() < lowest:
            lowest, best = score(), copy.deepcopy(model.state_dict())
    return best


def _both(model: Any, train: Any, score: Any, epochs: int) -> Any:
    return _from_zero(model, train, score, epochs), 0.9


def _last(model: Any, train: Any, score: Any, epochs: int) -> Any:
    for _ in range(epochs):
        train()
    return copy.deepcopy(model.state_dict())


def _untrained(model: Any, train: Any, score: Any, epochs: int) -> Any:
    best = copy.deepcopy(model.state_dict())
    for _ in range(epochs):
        train()
    return best


BEST: list[tuple[Callable[..., Any], Outcome, str]] = [
    (_from_zero, PASSED, "Epoch 3 of 5"),
    (_every_state, PASSED, "Epoch 3 of 5"),
    (_stops_early, NOT_YET, "the right weights, but you didn't train all 5 epochs"),
    (_an_alias, NOT_YET, "the model's own memory"),
    (_too_high, NOT_YET, "was what it returns never set"),
    (_lowest, NOT_YET, "the first epoch and none after it"),
    (_both, NOT_YET, "Return the weights alone"),
    (_last, NOT_YET, "the last epoch and not the best"),
    (_untrained, NOT_YET, "after epoch 0; epoch 3 scored highest"),
    (lambda model, train, score, epochs: 0.9, NOT_YET, "Return the weights alone"),
    (lambda model, train, score: model, ERROR, "TypeError"),
]

ZERO, FORWARD, A, B, STEP = LEDGER
LEDGERS: list[tuple[dict[str, Any], Outcome, str]] = [
    ({}, PASSED, "10 of 10 cells"),
    ({STEP: ("moments, weights", "optimizer and model")}, PASSED, ""),
    ({A: (".grad", "the model")}, NOT_YET, 'says "the model". Choose one of: nobody'),
    ({FORWARD: ("none", "none")}, PASSED, ""),
    ({FORWARD: ("nothing", "model")}, PASSED, ""),
    ({STEP: ("weights", "model")}, NOT_YET, "8 of 10 cells. Look again at `optimizer.step()`: the weights aren't"),
    ({STEP: ("moments", "optimizer")}, NOT_YET, "8 of 10 cells. Look again at `optimizer.step()`: the moments"),
    ({STEP: ("weights and moments", "optimizer")}, NOT_YET, "9 of 10 cells. Look again at the owner in `optimizer.step()`"),
    ({A: ("gradients", "optimizer"), B: ("gradients", "optimizer")}, NOT_YET,
     "8 of 10 cells. Look again at the owner in `loss_a.backward()` and `loss_b.backward()`. Where do you read a gradient?"),
    ({B: ("nothing", "nobody"), STEP: ("weights", "model")}, NOT_YET,
     "6 of 10 cells. Start with `loss_b.backward()`: print `model[0].weight.grad` before and after it."),
    ({ZERO: ("nothing", "nobody")}, NOT_YET, "8 of 10 cells. Look again at `optimizer.zero_grad()`"),
    ({ZERO: ("weights", "model")}, NOT_YET, "9 of 10 cells. Look again at `optimizer.zero_grad()`"),
    ({FORWARD: ("gradients", "model")}, NOT_YET, "8 of 10 cells. Look again at `output = model(feature)`: print"),
    ({STEP: ("bias", "model")}, NOT_YET, '`optimizer.step()` says "bias". Choose one of: nothing, gradients'),
    ({STEP: "weights"}, NOT_YET, "takes two words in brackets"),
]  # fmt: skip


def _sgd(weights: Any, moments: Any, lr: float, momentum: float) -> None:
    with torch.no_grad():
        for index, weight in enumerate(weights):
            moments[index].copy_(momentum * moments[index] + weight.grad)
            weight -= lr * moments[index]


def _by_data(weights: Any, moments: Any, lr: float, momentum: float) -> None:
    for weight, moment in zip(weights, moments, strict=True):
        moment.data = momentum * moment.data + weight.grad
        weight.data = weight.data - lr * moment.data


def _into_the_list(weights: Any, moments: Any, lr: float, momentum: float) -> None:
    with torch.no_grad():
        for index, weight in enumerate(weights):
            moments[index] = momentum * moments[index] + weight.grad
            weight.sub_(lr * moments[index])


def _returns(weights: Any, moments: Any, lr: float, momentum: float) -> Any:
    return [w - lr * (momentum * m + w.grad) for w, m in zip(weights, moments, strict=True)]


def _tracked(weights: Any, moments: Any, lr: float, momentum: float) -> None:
    for weight, moment in zip(weights, moments, strict=True):
        moment.mul_(momentum).add_(weight.grad)
        weight.sub_(lr * moment)


def _no_momentum(weights: Any, moments: Any, lr: float, momentum: float) -> None:
    with torch.no_grad():
        for weight in weights:
            weight.sub_(lr * weight.grad)


def _adds(weights: Any, moments: Any, lr: float, momentum: float) -> None:
    with torch.no_grad():
        for weight, moment in zip(weights, moments, strict=True):
            moment.mul_(momentum).add_(weight.grad)
            weight.add_(lr * moment)


def _keeps_all(weights: Any, moments: Any, lr: float, momentum: float) -> None:
    with torch.no_grad():
        for weight, moment in zip(weights, moments, strict=True):
            moment.add_(weight.grad)
            weight.sub_(lr * moment)


def _first_only(weights: Any, moments: Any, lr: float, momentum: float) -> None:
    with torch.no_grad():
        moments[0].mul_(momentum).add_(weights[0].grad)
        weights[0].sub_(lr * moments[0])


def _scales_twice(weights: Any, moments: Any, lr: float, momentum: float) -> None:
    with torch.no_grad():
        for weight, moment in zip(weights, moments, strict=True):
            moment.mul_(momentum).add_(lr * weight.grad)
            weight.sub_(lr * moment)


STEPS: list[tuple[Callable[..., Any], Outcome, str]] = [
    (_sgd, PASSED, "the bits of torch.optim.SGD"),
    (_by_data, PASSED, ""),
    (_into_the_list, PASSED, ""),
    (_returns, NOT_YET, "No weight moved"),
    (_tracked, NOT_YET, "under `with torch.no_grad():`"),
    (_no_momentum, NOT_YET, "the tensors in `moments` are still zero"),
    (_adds, NOT_YET, "its sign isn't"),
    (_keeps_all, NOT_YET, "After step 2, `weights[0]` should hold"),
    (_first_only, NOT_YET, "After step 1, `weights[1]` should hold"),
    (_scales_twice, NOT_YET, "After step 1, `weights[0]` should hold"),
    (lambda weights, moments, lr, momentum: weights[9], ERROR, "IndexError"),
]


@pytest.mark.parametrize(("answer", "outcome", "said"), KEEP)
def test_keep_best(answer: Any, outcome: Outcome, said: str) -> None:
    """Ways to keep a model's weights."""
    _judged("00-keep-best", answer, outcome, said)


@pytest.mark.parametrize(("answer", "outcome", "said"), BEST)
def test_best_epoch(answer: Any, outcome: Outcome, said: str) -> None:
    """Loops that return the best epoch, or mean to."""
    _judged("00-early-stop", answer, outcome, said)


@pytest.mark.parametrize(("changes", "outcome", "said"), LEDGERS)
def test_blank_ledger(changes: dict[str, Any], outcome: Outcome, said: str) -> None:
    """Ledgers that were filled in: the message names the cells that are wrong."""
    _judged("01-blank-ledger", LEDGER | changes, outcome, said)


@pytest.mark.parametrize(("answer", "outcome", "said"), STEPS)
def test_be_the_optimizer(answer: Any, outcome: Outcome, said: str) -> None:
    """Steps of SGD with momentum, or nearly."""
    _judged("01-be-the-optimizer", answer, outcome, said)


def _judged(key: str, answer: Any, outcome: Outcome, said: str) -> None:
    result = judge(exercises()[key], answer)
    assert (result.outcome, said in result.message) == (outcome, True), result.message
    assert "You may think" not in result.message and "not so" not in result.message
    assert result.outcome is PASSED or "deepcopy(" not in result.message, "no message is the answer"
