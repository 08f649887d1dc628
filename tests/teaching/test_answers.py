"""What new learners typed into the checks of rewritten lessons, and what they read.

None of these answers was written by the author of a check: they come from readings of the lessons and from trying
them out. Each is judged for what it is.
"""

from __future__ import annotations

import contextlib
import copy
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import fnlib
from fnlib.teaching.content.exercises.lesson_01 import LEDGER
from fnlib.teaching.content.exercises.shared import layers
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


def _from_below(model: Any, train: Any, score: Any, epochs: int) -> Any:
    highest, best = -math.inf, None
    for _ in range(epochs):
        train()
        if score() > highest:
            highest, best = score(), copy.deepcopy(model.state_dict())
    return best


def _unbound_below_zero(model: Any, train: Any, score: Any, epochs: int) -> Any:
    highest = 0
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
    (_from_zero, NOT_YET, "where does your highest score start"),
    (_from_below, PASSED, "Epoch 3 of 5"),
    (_unbound_below_zero, NOT_YET, "Right as long as a score is above 0"),
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


def _rate_first(weights: Any, moments: Any, lr: float, momentum: float) -> None:
    with torch.no_grad():
        for weight, moment in zip(weights, moments, strict=True):
            moment.mul_(momentum).sub_(lr * weight.grad)
            weight.add_(moment)


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
    (_sgd, PASSED, "match torch.optim.SGD's bit for bit"),
    (_rate_first, PASSED, "Only the weights were compared"),
    (_by_data, NOT_YET, "write into the tensor"),
    (_into_the_list, NOT_YET, "write into the tensor"),
    (_returns, NOT_YET, "No weight moved"),
    (_tracked, NOT_YET, "under `with torch.no_grad():`"),
    (_no_momentum, NOT_YET, "the tensors in `moments` are still zero"),
    (_adds, NOT_YET, "its sign isn't"),
    (_keeps_all, NOT_YET, "After step 2, `weights[0]` should hold"),
    (_first_only, NOT_YET, "After step 1, `weights[1]` should hold"),
    (_scales_twice, NOT_YET, "After step 1, `weights[0]` should hold"),
    (lambda weights, moments, lr, momentum: weights[9], ERROR, "IndexError"),
]


SGD = torch.optim.SGD


def _default_rate(encoder: Any, decoder: Any) -> Any:
    return SGD([{"params": encoder.parameters()}, {"params": decoder.parameters(), "lr": 1 / 16}])


def _added_later(encoder: Any, decoder: Any) -> Any:
    optimizer = SGD(encoder.parameters(), lr=0.25)
    optimizer.add_param_group({"params": decoder.parameters(), "lr": 0.0625})
    return optimizer


def _rates_set_by_hand(encoder: Any, decoder: Any) -> Any:
    optimizer = SGD([{"params": encoder.parameters()}, {"params": decoder.parameters()}])
    for group, rate in zip(optimizer.param_groups, (0.25, 0.0625), strict=True):
        group["lr"] = rate
    return optimizer


def _one_group_each_tensor(encoder: Any, decoder: Any) -> Any:
    rates = [(encoder, 0.25), (decoder, 0.0625)]
    return SGD([{"params": [w], "lr": lr} for network, lr in rates for w in network.parameters()])


def _groups(encoder: Any, decoder: Any, first: Any = 0.25, second: Any = 0.0625) -> Any:
    return [
        {"params": encoder.parameters(), "lr": first},
        {"params": decoder.parameters(), "lr": second},
    ]


def _forgotten_return(encoder: Any, decoder: Any) -> None:
    SGD(_groups(encoder, decoder))


RATES: list[tuple[Callable[..., Any], Outcome, str]] = [
    (_added_later, PASSED, "each at its own rate"),
    (_rates_set_by_hand, PASSED, ""),
    (_one_group_each_tensor, PASSED, ""),
    (lambda e, d: SGD(_groups(e, d, second=1 / 16), lr=1.0), PASSED, ""),
    (lambda e, d: torch.optim.Adam(_groups(e, d)), PASSED, ""),
    (_default_rate, NOT_YET, "got 0.001 and 0.0625"),
    (lambda e, d: SGD(_groups(e, d, second=0.25)), NOT_YET, "at the same rate"),
    (lambda e, d: SGD(_groups(d, e)), NOT_YET, "swapped"),
    (lambda e, d: SGD(_groups(e, d, 0.4, 0.1)), NOT_YET, "got 0.4 and 0.1"),
    (_groups, NOT_YET, "Pass the list to `torch.optim.SGD`"),
    (lambda e, d: [SGD([g]) for g in _groups(e, d)], NOT_YET, "more than one optimizer"),
    (lambda e, d: SGD(e.parameters(), lr=0.25), NOT_YET, "none of the decoder"),
    (lambda e, d: SGD(d.parameters(), lr=0.0625), NOT_YET, "none of the encoder"),
    (lambda e, d: SGD([{"params": [e.weight], "lr": 0.25}, *_groups(e, d)[1:]]), NOT_YET, "only a part"),
    (lambda e, d: {"encoder": 0.25, "decoder": 0.0625}, NOT_YET, "that returns one optimizer, got a dict"),
    (lambda e, d: 0.25, NOT_YET, "got a float, 0.25"),
    (_forgotten_return, NOT_YET, "Is `return` missing"),
    (lambda e, d: SGD(e.parameters, lr=0.25), ERROR, "TypeError"),
    (lambda e, d: SGD(_groups(e, e)), ERROR, "ValueError"),
]  # fmt: skip


def _in_list(network: Any, index: int, layer: Any, optimizer: Any) -> None:
    old = list(network[index].parameters())
    network[index] = layer
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if p not in old]


def _with_is(network: Any, index: int, layer: Any, optimizer: Any) -> None:
    old = list(network[index].parameters())
    network[index] = layer
    (group,) = optimizer.param_groups
    group["params"] = [p for p in group["params"] if all(p is not o for o in old)]
    group["params"] += layer.parameters()
    for o in old:
        del optimizer.state[o]


def _new_for_old(network: Any, index: int, layer: Any, optimizer: Any) -> None:
    new = dict(zip(network[index].parameters(), layer.parameters(), strict=True))
    network[index] = layer
    for group in optimizer.param_groups:
        group["params"] = [new.get(p, p) for p in group["params"]]
    for old in new:
        optimizer.state.pop(old)


def _state_passed_on(network: Any, index: int, layer: Any, optimizer: Any) -> None:
    pairs = zip(network[index].parameters(), layer.parameters(), strict=True)
    for old, new in list(pairs):
        optimizer.state[new] = optimizer.state.pop(old)
    network[index] = layer
    optimizer.param_groups[0]["params"] = list(network.parameters())


def _loaded_by_index(network: Any, index: int, layer: Any, optimizer: Any) -> Any:
    network[index] = layer
    new = SGD(network.parameters(), lr=0.25, momentum=0.5)
    new.load_state_dict(optimizer.state_dict())
    return new


def _initialized_again(network: Any, index: int, layer: Any, optimizer: Any) -> None:
    network[index] = layer
    optimizer.__init__(network.parameters(), lr=0.25, momentum=0.5)


def _whole_network_added(network: Any, index: int, layer: Any, optimizer: Any) -> None:
    network[index] = layer
    optimizer.add_param_group({"params": network.parameters()})


def _cleared_groups(network: Any, index: int, layer: Any, optimizer: Any) -> None:
    for old in network[index].parameters():
        optimizer.state.pop(old)
    network[index] = layer
    optimizer.param_groups.clear()
    optimizer.add_param_group({"params": network.parameters()})


def _weight_alone(network: Any, index: int, layer: Any, optimizer: Any) -> None:
    gone = set(network[index].parameters())
    network[index] = layer
    group = optimizer.param_groups[0]
    group["params"] = [p for p in group["params"] if p not in gone] + [layer.weight]
    for p in gone:
        optimizer.state.pop(p)


def _held_twice(network: Any, index: int, layer: Any, optimizer: Any) -> None:
    _with_is(network, index, layer, optimizer)
    optimizer.param_groups[0]["params"] += layer.parameters()


def _copied_numbers(network: Any, index: int, layer: Any, optimizer: Any) -> None:
    network[index].load_state_dict(layer.state_dict())


def _new_layer_only(network: Any, index: int, layer: Any, optimizer: Any) -> None:
    network[index] = layer
    optimizer.param_groups[0]["params"] = list(layer.parameters())


REPLACED: list[tuple[Callable[..., Any], Outcome, str]] = [
    (_with_is, PASSED, "has its moments"),
    (_new_for_old, PASSED, ""),
    (_cleared_groups, PASSED, ""),
    (_in_list, NOT_YET, "Compare with `is`"),
    (_state_passed_on, NOT_YET, "should start without"),
    (_loaded_by_index, NOT_YET, "should start without"),
    (_initialized_again, NOT_YET, "has lost its moments"),
    (_weight_alone, NOT_YET, "1 of 2 new tensors"),
    (_held_twice, NOT_YET, "holds some tensors twice"),
    (_copied_numbers, NOT_YET, "still has its old layer"),
    (_new_layer_only, NOT_YET, "no longer the one that stays"),
    (
        lambda network, index, layer, _: network.__setitem__(index, layer),
        NOT_YET,
        "holds none of its tensors",
    ),
    (_whole_network_added, ERROR, "ValueError"),
    (
        lambda network, index, layer, optimizer: optimizer.add_param_group(layer.parameters()),
        ERROR,
        "TypeError",
    ),
]


def _opened(box: Any, feature: Any, label: Any) -> Any:
    inside = box.factory(box.parameters)
    return inside.backward(box.loss(inside(feature), label))


def _by_autograd(box: Any, feature: Any, label: Any) -> Any:
    weights = {k: w.detach().clone().requires_grad_() for k, w in box.parameters.items()}
    output = torch.func.functional_call(nn.Sequential(*layers()), weights, (feature,))
    gradients = torch.autograd.grad(box.loss(output, label), list(weights.values()))
    return torch.cat([g.flatten() for g in gradients]).norm()


def _a_copy_steps(box: Any, feature: Any, label: Any) -> Any:
    other = copy.deepcopy(box)
    other.step(feature, label)
    moved = [other.parameters[k] - w for k, w in box.parameters.items()]
    return torch.cat([m.flatten() for m in moved]).norm()


def _steps_and_puts_back(box: Any, feature: Any, label: Any) -> Any:
    start = box.parameters
    norm = _opened(box, feature, label).norm()
    box.step(feature, label)
    box.parameters = start
    return norm


def _steps_first(box: Any, feature: Any, label: Any) -> Any:
    box.step(feature, label)
    return _opened(box, feature, label).norm()


def _stock_reflex(box: Any, feature: Any, label: Any) -> Any:
    box.loss(box(feature), label).backward()
    return 0.0


def _largest(box: Any, feature: Any, label: Any) -> Any:
    gradient = _opened(box, feature, label)
    return max(gradient[k].norm() for k in gradient)


def _smallest(box: Any, feature: Any, label: Any) -> Any:
    gradient = _opened(box, feature, label)
    return min(gradient[k].norm() for k in gradient)


NORMS: list[tuple[Callable[..., Any], Outcome, str]] = [
    (lambda b, x, y: _opened(b, x, y).norm(), PASSED, "the same parameters as before"),
    (lambda b, x, y: sum((g**2).sum() for g in _opened(b, x, y).values()) ** 0.5, PASSED, ""),
    (lambda b, x, y: round(float(_opened(b, x, y).norm()), 5), PASSED, ""),
    (lambda b, x, y: _opened(b, x, y).norm().numpy(), PASSED, ""),
    (_by_autograd, PASSED, ""),
    (_steps_and_puts_back, PASSED, ""),
    (_a_copy_steps, NOT_YET, "how far a step moves the weights"),
    (_steps_first, NOT_YET, "The box has also changed"),
    (_largest, NOT_YET, "`0.weight` alone"),
    (_smallest, NOT_YET, "Wanted "),
    (lambda b, x, y: b.step(x, y), NOT_YET, "That's the loss"),
    (lambda b, x, y: _opened(b, x, y), NOT_YET, "the gradient itself"),
    (lambda b, x, y: _opened(b, x, y)["0.weight"].norm(), NOT_YET, "`0.weight` alone"),
    (lambda b, x, y: [g.norm() for g in _opened(b, x, y).values()], NOT_YET, "Return one number. Your function returned a list"),
    (lambda b, x, y: _opened(b, x, y)["0.weight"], NOT_YET, "a tensor of shape (3, 4)"),
    (_stock_reflex, NOT_YET, "its output has no graph"),
    (lambda b, x, y: b.parameters.grad, ERROR, ""),
    (lambda b, x, y: [p.grad for p in b.parameters()], ERROR, "NotCallable"),
    (lambda b, x, y: b.backward(b.loss(b(x), y)), NOT_YET, "A box has no `backward`"),
    (lambda b: 3, ERROR, "TypeError"),
]  # fmt: skip


def _box(
    clip: Callable[[Any, Any], Any], returns: Callable[[Any], Any] = torch.Tensor.detach
) -> type:
    """A box as a learner writes it: `clip` makes the gradient of the step."""

    class Box(fnlib.encapsulated.Sequential):
        def step(self, feature: Any, label: Any, max_norm: Any = None) -> Any:
            inside = self.factory(self.parameters)
            loss = self.loss(inside(feature), label)
            self.parameters = inside.step(clip(inside.backward(loss), max_norm))
            return returns(loss)

    return Box


def _each(gradient: Any, limit: Any) -> Any:
    if limit is None:
        return gradient
    return fnlib.Gradient({k: g * min(1, limit / float(g.norm())) for k, g in gradient.items()})


def _no_change(gradient: Any, limit: Any) -> Any:
    return gradient


class _Fits(fnlib.encapsulated.Sequential):
    def step(self, feature: Any, label: Any, max_norm: Any = None) -> Any:
        loss = super().step(feature, label)
        if max_norm is not None:
            inside = self.factory(self.parameters)
            gradient = inside.backward(self.loss(inside(feature), label)).clip_norm(max_norm)
            self.parameters = inside.step(gradient)
        return loss


class _StockClip(fnlib.encapsulated.Sequential):
    def step(self, feature: Any, label: Any, max_norm: Any = None) -> Any:
        inside = self.factory(self.parameters)
        loss = self.loss(inside(feature), label)
        gradient = inside.backward(loss)
        if max_norm is not None:
            nn.utils.clip_grad_norm_(gradient.values(), max_norm)
        self.parameters = inside.step(gradient)
        return loss.detach()


class _NoArgument(fnlib.encapsulated.Sequential):
    pass


DOORS: list[tuple[Any, Outcome, str]] = [
    (_box(lambda g, n: g if n is None else g.clip_norm(n)), PASSED, "the same bits as before"),
    (_box(lambda g, n: g.clip_norm(n) if n else g, lambda loss: loss), PASSED, ""),
    (_box(lambda g, n: g if n is None else g * min(1, n / float(g.norm()))), PASSED, ""),
    (_box(lambda g, n: g if n is None or g.norm() <= n else g / g.norm() * n), PASSED, ""),
    (_box(_no_change), NOT_YET, "the same step as without it"),
    (_box(_each), NOT_YET, "the right step moves them by"),
    (_box(lambda g, n: g if n is None else g * n), NOT_YET, "the right step moves them by"),
    (_box(lambda g, n: g.clip_norm(n or 0.05)), NOT_YET, "Without it, your box has to take"),
    (_box(lambda g, n: g if n is None else g.clip_norm(n), lambda loss: None), NOT_YET, "also has to return the loss"),
    (_box(lambda g, n: g if n is None else g.clip_norm(n), lambda loss: 0.0), NOT_YET, "also has to return the loss"),
    (_Fits, NOT_YET, "the right step moves them by"),
    (_StockClip, NOT_YET, "no `.grad` is filled"),
    (_NoArgument, ERROR, "max_norm"),
]  # fmt: skip


def _clip(change: Callable[[Any], Any]) -> Callable[..., Any]:
    """One step with a changed gradient."""
    return lambda model, loss: model.step(change(model.backward(loss)))


def _in_grad(model: Any, loss: Any) -> Any:
    nn.utils.clip_grad_norm_(model.parameters.values(), 1.0)
    return model.step(model.backward(loss))


def _in_gradient(model: Any, loss: Any) -> Any:
    gradient = model.backward(loss)
    nn.utils.clip_grad_norm_(gradient.values(), 1.0)
    return model.step(gradient)


def _no_effect(model: Any, loss: Any) -> Any:
    gradient = model.backward(loss)
    gradient.clip_norm(1.0)
    return model.step(gradient)


def _discards_step(model: Any, loss: Any) -> Any:
    model.step(model.backward(loss).clip_norm(1.0))
    return model.parameters


def _stock_habit(model: Any, loss: Any) -> Any:
    loss.backward()
    return model.step(model.backward(loss))


CLIPPED: list[tuple[Callable[..., Any], Outcome, str]] = [
    (_clip(lambda g: g.clip_norm(1.0)), PASSED, "shortened to length 1"),
    (_clip(lambda g: g.clip_norm(1)), PASSED, ""),
    (_clip(lambda g: g if g.norm() <= 1 else g / g.norm()), PASSED, ""),
    (_clip(lambda g: g * min(1, 1 / g.norm())), PASSED, ""),
    (_clip(lambda g: g.map(lambda t: t * (1 / g.norm()).clamp(max=1))), PASSED, ""),
    (_clip(lambda g: g), NOT_YET, "we wanted a step along it with length 1.00, got one"),
    (_clip(lambda g: g / g.norm()), NOT_YET, "A gradient shorter than 1 was stretched"),
    (_clip(lambda g: g.clip_norm(0.5)), NOT_YET, "got one with length 0.50"),
    (_clip(lambda g: g.map(lambda t: t.clamp(-1, 1))), NOT_YET, "we wanted a step along it"),
    (_no_effect, NOT_YET, "`clip_norm` leaves that as it is and returns another"),
    (_in_grad, NOT_YET, "here no .grad is filled"),
    (_in_gradient, NOT_YET, "here no .grad is filled"),
    (_discards_step, NOT_YET, "These are the parameters that went in"),
    (lambda model, loss: model.backward(loss).clip_norm(1.0), NOT_YET, "That's a gradient"),
    (lambda model, loss: 3, NOT_YET, "the parameters after one step"),
    (lambda model, loss: model.step(loss.clip_norm(1.0)), ERROR, "AttributeError"),
    (_stock_habit, ERROR, ""),
]


def _taking(decide: Callable[[Any, Any], bool], bind: Any = None) -> Callable[..., Any]:
    """A loop that decides from the losses before and after; ``bind`` says which model gives the second."""

    def loop(factory: Any, parameters: Any, batches: Any) -> Any:
        for feature, label in batches:
            old = factory(parameters)
            before = nn.functional.nll_loss(old(feature), label)
            new = old.step(old.backward(before))
            model = bind(old) if bind else factory(new)
            with torch.no_grad():
                after = nn.functional.nll_loss(model(feature), label)
            parameters = new if decide(before.item(), after.item()) else parameters
        return parameters

    return loop


def _history(factory: Any, parameters: Any, batches: Any) -> Any:
    kept = [parameters]
    for feature, label in batches:
        losses = []
        model = factory(kept[-1])
        for _ in range(2):
            loss = nn.functional.nll_loss(model(feature), label)
            losses.append(loss.item())
            if len(losses) == 1:
                new = model.step(model.backward(loss))
                model = factory(new)
        if losses[1] < losses[0]:
            kept.append(new)
    return kept[-1]


def _first_refusal(factory: Any, parameters: Any, batches: Any) -> Any:
    for feature, label in batches:
        one = _taking(lambda a, b: b < a)(factory, parameters, [(feature, label)])
        if one == parameters:
            break
        parameters = one
    return parameters


def _next_batch(factory: Any, parameters: Any, batches: Any) -> Any:
    last = float("inf")
    for feature, label in batches:
        model = factory(parameters)
        loss = nn.functional.nll_loss(model(feature), label)
        if loss < last:
            parameters = model.step(model.backward(loss))
        last = loss.item()
    return parameters


TAKEN: list[tuple[Callable[..., Any], Outcome, str]] = [
    (_taking(lambda a, b: b < a), PASSED, "momentum included"),
    (_taking(lambda a, b: b <= a), PASSED, ""),
    (_taking(lambda a, b: not b > a), NOT_YET, "a step whose loss was NaN was taken"),
    (_taking(lambda a, b: not (b > a or math.isnan(b))), PASSED, ""),
    (_history, PASSED, ""),
    (_taking(lambda a, b: True), NOT_YET, "All 12 steps were taken"),
    (_taking(lambda a, b: b > a), NOT_YET, "takes the steps that raise the loss"),
    (_taking(lambda a, b: b < a, bind=lambda old: old), NOT_YET, "which parameters does each come"),
    (_taking(lambda a, b: False), NOT_YET, "None of the 12 steps is in what you return"),
    (_first_refusal, NOT_YET, "Right up to the first refused step"),
    (_taking(lambda a, b: b < 0.9 * a), NOT_YET, "of the 12 steps"),
    (_next_batch, NOT_YET, "Wanted: 8 of the 12 steps. Got:"),
    (lambda f, p, b: f(_taking(lambda x, y: y < x)(f, p, b)), NOT_YET, "That's a model"),
    (lambda f, p, b: p, NOT_YET, "None of the 12 steps"),
    (lambda f, p, b: [p], NOT_YET, "the parameters after all batches"),
    (lambda f, p, b: p.step(b), ERROR, "AttributeError"),
]


FOUR = {"A": "encapsulated", "B": "functional", "C": "fit", "D": "stock"}
WHICH: list[tuple[Any, Outcome, str]] = [
    (FOUR, PASSED, "D acts at a distance"),
    ({k.lower(): v.title() for k, v in FOUR.items()}, PASSED, ""),
    (FOUR | {"A": "step"}, PASSED, ""),
    (FOUR | {"A": "fit", "C": "encapsulated"}, NOT_YET, "2 of 4. Look again at A and C: the boxes are where you put them"),
    (FOUR | {"B": "stock", "D": "functional"}, NOT_YET, "2 of 4. Look again at B and D. Which of the two changes"),
    (FOUR | {"A": "functional", "B": "encapsulated"}, NOT_YET, "2 of 4. Look again at A and B. The functional loop"),
    (FOUR | {"C": "functional", "B": "fit"}, NOT_YET, "C has one statement, and in it a weight is replaced"),
    (FOUR | {"A": "stock", "D": "encapsulated"}, NOT_YET, "The stock loop has five statements a step. Count the numbered lines of A"),
    (FOUR | {"C": "stock", "D": "fit"}, NOT_YET, "2 of 4. Look again at C and D. The stock loop has five"),
    (dict(zip("ABCD", ("functional", "stock", "encapsulated", "fit"), strict=True)), NOT_YET, "0 of 4. Look again at A, B, C and D."),
    (dict(zip("ABCD", ("fit", "stock", "encapsulated", "functional"), strict=True)), NOT_YET, "The stock loop writes into its"),
    (FOUR | {"A": "fit"}, NOT_YET, '"fit" stands at two letters'),
    (FOUR | {"D": "torch"}, NOT_YET, '"torch" is none of the four: stock, encapsulated, fit, functional.'),
    ({"A": "fit", "B": "functional", "C": "encapsulated"}, NOT_YET, "Give one loop for each of the letters"),
    (["encapsulated", "functional", "fit", "stock"], NOT_YET, "The answer is a dict"),
]  # fmt: skip


def _by_grad(update: Callable[[Any, Any, float], Any]) -> Callable[..., Any]:
    """A loop with `autograd.grad`, as a learner writes it who has read lesson 01."""

    def fifth(network: Any, criterion: Any, weights: Any, batches: Any, lr: float) -> Any:
        for feature, label in batches:
            weights = {k: w.detach().requires_grad_() for k, w in weights.items()}
            output = torch.func.functional_call(network, weights, feature)
            gradients = torch.autograd.grad(criterion(output, label), list(weights.values()))
            pairs = zip(weights.items(), gradients, strict=True)
            weights = {k: update(w.detach(), g, lr) for (k, w), g in pairs}
        return weights

    return fifth


def _in_backward(network: Any, criterion: Any, weights: Any, batches: Any, lr: float) -> Any:
    own = {k: w.clone().requires_grad_() for k, w in weights.items()}
    for feature, label in batches:
        criterion(torch.func.functional_call(network, own, (feature,)), label).backward()
        own = {k: torch.sub(w, w.grad, alpha=lr).detach().requires_grad_() for k, w in own.items()}
    return own


def _only_one_step(network: Any, criterion: Any, weights: Any, batches: Any, lr: float) -> Any:
    return _by_grad(lambda w, g, lr: torch.add(w, g, alpha=-lr))(
        network, criterion, weights, batches[:1], lr
    )


def _each_from_the_start(
    network: Any, criterion: Any, weights: Any, batches: Any, lr: float
) -> Any:
    one = _by_grad(lambda w, g, lr: torch.add(w, g, alpha=-lr))
    return [one(network, criterion, weights, [pair], lr) for pair in batches][-1]


def _loads(network: Any, criterion: Any, weights: Any, batches: Any, lr: float) -> Any:
    network.load_state_dict(weights)
    for feature, label in batches:
        network.zero_grad()
        criterion(network(feature), label).backward()
        with torch.no_grad():
            for w in network.parameters():
                w.sub_(w.grad, alpha=lr)
    return network.state_dict()


def _own_copy(network: Any, criterion: Any, weights: Any, batches: Any, lr: float) -> Any:
    return _loads(copy.deepcopy(network), criterion, weights, batches, lr)


def _by_optim(network: Any, criterion: Any, weights: Any, batches: Any, lr: float) -> Any:
    mine = copy.deepcopy(network)
    sgd = torch.optim.SGD(mine.parameters(), lr=lr)
    for feature, label in batches:
        sgd.zero_grad()
        criterion(mine(feature), label).backward()
        sgd.step()
    return mine.state_dict()


FIFTH: list[tuple[Callable[..., Any], Outcome, str]] = [
    (_by_grad(lambda w, g, lr: torch.add(w, g, alpha=-lr)), PASSED, "match torch.optim.SGD's bit for bit"),
    (_by_grad(lambda w, g, lr: torch.sub(w, g, alpha=lr)), PASSED, ""),
    (_by_grad(lambda w, g, lr: w.clone().add_(g, alpha=-lr)), PASSED, ""),
    (_in_backward, PASSED, ""),
    (_own_copy, PASSED, ""),
    (_by_grad(lambda w, g, lr: w - lr * g), NOT_YET, "Right up to rounding"),
    (_by_grad(lambda w, g, lr: w - lr * g), NOT_YET, "use the task's `torch.add` there"),
    (_by_grad(lambda w, g, lr: w + lr * g), NOT_YET, "Wanted the stock loop's bits, got weights that are up to"),
    (_by_grad(lambda w, g, lr: torch.add(w, g, alpha=-2 * lr)), NOT_YET, "for the first batch alone"),
    (_by_grad(lambda w, g, lr: w.sub_(g, alpha=lr)), NOT_YET, "The dict that went in holds other numbers now"),
    (_only_one_step, NOT_YET, "Wanted the stock loop's bits"),
    (_each_from_the_start, NOT_YET, "Wanted the stock loop's bits"),
    (_loads, NOT_YET, "your loop trained `network` itself"),
    (_by_optim, NOT_YET, "`torch.optim` took the steps"),
    (lambda n, c, w, b, lr: w, NOT_YET, "These are the weights that went in"),
    (lambda n, c, w, b, lr: list(w.values()), NOT_YET, "with the names that went in, got a list"),
    (lambda n, c, w, b, lr: {"weight": w["0.weight"]}, NOT_YET, "Wanted a dict with the names 0.weight"),
    (lambda n, c, w, b, lr: c(n(w), b), ERROR, "TypeError"),
    (lambda n, c, w, b: w, ERROR, "TypeError"),
]  # fmt: skip


def _donating(donate: Callable[[int], bool]) -> Any:
    """A training loop that asks ``donate`` before each step."""

    def train(factory: Any, parameters: Any, batches: Any) -> Any:
        for step, (feature, label) in enumerate(batches):
            model = factory(parameters)
            gradient = model.backward(nn.functional.nll_loss(model(feature), label))
            parameters = model.step(gradient, donate=donate(step))
        return parameters

    return train


def _first_outside(factory: Any, parameters: Any, batches: Any) -> Any:
    first = _donating(lambda step: False)(factory, parameters, batches[:1])
    return _donating(lambda step: True)(factory, first, batches[1:])


def _by_identity(factory: Any, parameters: Any, batches: Any) -> Any:
    came_in = parameters
    for feature, label in batches:
        model = factory(parameters)
        gradient = model.backward(nn.functional.nll_loss(model(feature), label))
        parameters = model.step(gradient, donate=parameters is not came_in)
    return parameters


def _deleted(factory: Any, parameters: Any, batches: Any) -> Any:
    for feature, label in batches:
        model = factory(parameters)
        gradient = model.backward(nn.functional.nll_loss(model(feature), label))
        del parameters
        parameters = model.step(gradient)
    return parameters


def _last_two_alone(factory: Any, parameters: Any, batches: Any) -> Any:
    return _donating(lambda step: 0 < step < 4)(factory, parameters, batches)


def _by_its_model(factory: Any, parameters: Any, batches: Any, every: int = 0) -> Any:
    """What a loop returns that binds through the factory of its model, as the lesson's own does."""
    model, kept = factory(parameters), []
    for step, (feature, label) in enumerate(batches):
        gradient = model.backward(nn.functional.nll_loss(model(feature), label))
        model = model.factory(model.step(gradient, donate=bool(step % every if every else step)))
        if every and step % every == every - 1:
            kept.append(model.parameters)
    return kept if every else model.parameters


def _forgets_one(factory: Any, parameters: Any, batches: Any) -> Any:
    return _donating(lambda step: step > 0)(factory, parameters, batches[:-1])


def _unbound_step(factory: Any, parameters: Any, batches: Any) -> Any:
    for feature, label in batches:
        model = factory(parameters)
        model.step(model.backward(nn.functional.nll_loss(model(feature), label)))
    return parameters


DONATED: list[tuple[Callable[..., Any], Outcome, str]] = [
    (_donating(lambda step: step > 0), PASSED, "the caller can still read what came in"),
    (_donating(lambda step: step != 0), PASSED, ""),
    (_donating(bool), PASSED, ""),
    (_first_outside, PASSED, ""),
    (_by_identity, PASSED, ""),
    (_by_its_model, PASSED, ""),
    (_donating(lambda step: True), NOT_YET, "The first step donated the caller's value"),
    (_donating(lambda step: step == 0), NOT_YET, "The first step donated the caller's value"),
    (_donating(lambda step: False), NOT_YET, "nothing was donated"),
    (_deleted, NOT_YET, "nothing was donated"),
    (_last_two_alone, NOT_YET, "5 of the 6 steps can donate"),
    (_donating(lambda step: step > 1), NOT_YET, "5 of the 6 steps can donate"),
    (_unbound_step, NOT_YET, "These are the parameters that went in"),
    (_forgets_one, NOT_YET, "got those after step 5 and 4"),
    (lambda f, p, b: f(_first_outside(f, p, b)), NOT_YET, "That's a model"),
    (lambda f, p, b: 1.5, NOT_YET, "Wanted the parameters after the last step, got a float"),
    (lambda f, p, b: f(p).step(donate=True), ERROR, ""),
]


def _keeping(donate: Callable[[int], bool], keep: Callable[[int], bool], value: Any = None) -> Any:
    """A loop that keeps some values; ``value`` makes what goes into the list."""

    def keep_some(factory: Any, parameters: Any, batches: Any, every: int) -> Any:
        kept = []
        for step, (feature, label) in enumerate(batches):
            model = factory(parameters)
            gradient = model.backward(nn.functional.nll_loss(model(feature), label))
            parameters = model.step(gradient, donate=donate(step))
            if keep(step):
                kept.append(value(parameters) if value else parameters)
        return kept

    return keep_some


def _in_pieces(factory: Any, parameters: Any, batches: Any, every: int) -> Any:
    kept = []
    for begin in range(0, len(batches), every):
        parameters = _first_outside(factory, parameters, batches[begin : begin + every])
        kept.append(parameters)
    return kept


def _all_but_kept(factory: Any, parameters: Any, batches: Any, every: int) -> Any:
    needed = [parameters]
    for step, (feature, label) in enumerate(batches, 1):
        model = factory(parameters)
        gradient = model.backward(nn.functional.nll_loss(model(feature), label))
        parameters = model.step(gradient, donate=all(parameters is not one for one in needed))
        if step % every == 0:
            needed.append(parameters)
    return needed[1:]


def _fourth(step: int) -> bool:
    return step % 4 == 3


KEPT: list[tuple[Callable[..., Any], Outcome, str]] = [
    (_keeping(lambda step: step % 4 != 0, _fourth), PASSED, "nothing was copied"),
    (_in_pieces, PASSED, ""),
    (_all_but_kept, PASSED, ""),
    (_by_its_model, PASSED, ""),
    (_keeping(lambda step: step % 4 != 0, _fourth, lambda p: p.state_dict()), NOT_YET, "dicts of tensors, without the moments"),
    (_keeping(lambda step: step > 0, _fourth, copy.deepcopy), NOT_YET, "The right values, but you copied them"),
    (_keeping(lambda step: True, _fourth), NOT_YET, "The first step starts from the caller's value and donated it"),
    (_keeping(lambda step: step > 0, _fourth), NOT_YET, "A value in your list was donated"),
    (_keeping(lambda step: False, _fourth), NOT_YET, "9 of the 12 steps can donate"),
    (_keeping(lambda step: step % 4 == 2, _fourth), NOT_YET, "9 of the 12 steps can donate"),
    (_keeping(lambda step: step % 4 == 2, lambda step: step % 4 == 0), NOT_YET, "got those after 1, 5, 9"),
    (_keeping(lambda step: False, lambda step: True), NOT_YET, "got those after 1, 2, 3"),
    (_keeping(lambda step: step % 4 != 0, lambda step: step in (3, 7)), NOT_YET, "got those after 4, 8."),
    (lambda f, p, b, every: _first_outside(f, p, b), NOT_YET, "That's one value"),
    (lambda f, p, b, every: [], NOT_YET, "got those after none"),
    (lambda f, p, b, every: every, NOT_YET, "Wanted a list of the parameters after every 4 steps, got an int"),
    (lambda f, p, b: p, ERROR, "TypeError"),
]  # fmt: skip


def _evaluating(
    around: Callable[[], Any] = torch.no_grad,
    before: Callable[[nn.Module], Any] = nn.Module.eval,
    after: Callable[[nn.Module], Any] = nn.Module.train,
    returns: Callable[[Any], Any] = lambda output: output,
) -> Callable[..., Any]:
    """An evaluation with one part written in another way."""

    def evaluate(model: Any, feature: Any) -> Any:
        before(model)
        with around():
            output = model(feature)
        after(model)
        return returns(output)

    return evaluate


@torch.no_grad()
def _decorated(model: Any, feature: Any) -> Any:
    model.eval()
    output = model(feature)
    model.train()
    return output


def _on_a_copy(model: Any, feature: Any) -> Any:
    with torch.no_grad():
        return copy.deepcopy(model).eval()(feature)


def _by_layers(model: Any, feature: Any) -> Any:
    model.eval()
    with torch.no_grad():
        for layer in model:
            feature = layer(feature)
    model.train()
    return feature


def _top_flag(model: Any, feature: Any) -> Any:
    model.training = False
    with torch.no_grad():
        output = model(feature)
    model.training = True
    return output


def _statistics_put_back(model: Any, feature: Any) -> Any:
    kept = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        output = model(feature)
    model.load_state_dict(kept)
    return output


def _switched_off(model: Any, feature: Any) -> Any:
    torch.set_grad_enabled(False)
    return _evaluating(contextlib.nullcontext)(model, feature)


def _weights_off(model: Any, feature: Any) -> Any:
    for weight in model.parameters():
        weight.requires_grad = False
    return _evaluating(contextlib.nullcontext)(model, feature)


def _only_top_back(model: Any) -> None:
    model.training = True


TRACES: list[tuple[Callable[..., Any], Outcome, str]] = [
    (_evaluating(), PASSED, "every layer is in training mode again"),
    (_evaluating(torch.inference_mode), PASSED, ""),
    (_evaluating(before=lambda model: model.train(False)), PASSED, ""),
    (_decorated, PASSED, ""),
    (_on_a_copy, PASSED, ""),
    (_by_layers, PASSED, ""),
    (_evaluating(contextlib.nullcontext, returns=torch.Tensor.detach), NOT_YET, "cut off afterwards"),
    (_evaluating(contextlib.nullcontext), NOT_YET, "the output has a graph"),
    (_evaluating(before=lambda model: None), NOT_YET, "The running statistics moved"),
    (_top_flag, NOT_YET, "The running statistics moved"),
    (_evaluating(after=lambda model: None), NOT_YET, "still in evaluation mode"),
    (_evaluating(after=_only_top_back), NOT_YET, "still in evaluation mode"),
    (_statistics_put_back, NOT_YET, "this isn't its output in evaluation mode"),
    (_evaluating(returns=lambda output: output.argmax(dim=1)), NOT_YET, "got a Tensor of shape (4,)"),
    (_evaluating(returns=lambda output: output.softmax(dim=1)), NOT_YET, "Return what the model returns"),
    (_switched_off, NOT_YET, "Autograd is still switched off"),
    (_weights_off, NOT_YET, "`requires_grad = False` now"),
    (_evaluating(returns=lambda output: None), NOT_YET, "Is `return` missing"),
    (lambda model, feature: model.evaluate(feature), ERROR, "AttributeError"),
    (lambda model: model.eval(), ERROR, "TypeError"),
]  # fmt: skip


def _restoring(
    record: Callable[[Any], Any], restore: Callable[[Any, Any], Any], always: bool = True
) -> Callable[..., Any]:
    """An evaluation that writes modes down and puts them back, after an error too or not."""

    def look(model: Any, feature: Any) -> Any:
        kept = record(model)
        model.eval()
        if not always:
            with torch.no_grad():
                output = model(feature)
            restore(model, kept)
            return output
        try:
            with torch.no_grad():
                return model(feature)
        finally:
            restore(model, kept)

    return look


def _flags(model: Any) -> Any:
    return {name: module.training for name, module in model.named_modules()}


def _set_flags(model: Any, flags: Any) -> None:
    for name, module in model.named_modules():
        module.training = flags[name]


def _train_each(model: Any, flags: Any) -> None:
    for name, module in reversed(list(model.named_modules())):
        module.train(flags[name])


def _train_each_in_order(model: Any, flags: Any) -> None:
    for name, module in model.named_modules():
        module.train(flags[name])


def _children_flags(model: Any) -> Any:
    return [module.training for module in model]


def _set_children(model: Any, flags: Any) -> None:
    for module, flag in zip(model, flags, strict=True):
        module.training = flag


def _swallows(model: Any, feature: Any) -> Any:
    flags = _flags(model)
    model.eval()
    try:
        with torch.no_grad():
            return model(feature)
    except Exception as error:
        print(error)
    finally:
        _set_flags(model, flags)


FOUND: list[tuple[Callable[..., Any], Outcome, str]] = [
    (_restoring(_flags, _set_flags), PASSED, "also after an error"),
    (_restoring(_flags, _train_each_in_order), PASSED, ""),
    (_on_a_copy, PASSED, ""),
    (_restoring(_flags, _set_flags, always=False), NOT_YET, "your last lines aren't run"),
    (_restoring(lambda model: model.training, lambda model, on: model.train(on)), NOT_YET, "The frozen BatchNorm trains now"),
    (_restoring(_flags, _train_each), NOT_YET, "The frozen BatchNorm trains now"),
    (_evaluating(), NOT_YET, "The frozen BatchNorm trains now"),
    (_restoring(_children_flags, _set_children), NOT_YET, "1 of the model's 5 modules (itself among them) have another mode"),
    (_restoring(_flags, lambda model, flags: None), NOT_YET, "The whole model is still in evaluation mode"),
    (_swallows, NOT_YET, "your function swallowed it"),
    (_evaluating(before=lambda model: None), NOT_YET, "The running statistics moved"),
    (lambda model, feature: model.eval()(feature), NOT_YET, "The whole model is still in evaluation mode"),
    (lambda model, feature: (model, feature), NOT_YET, "Return the model's output, a tensor; you gave a tuple"),
    (lambda model, feature: model.modes, ERROR, "AttributeError"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "outcome", "said"), TRACES)
def test_no_trace(answer: Any, outcome: Outcome, said: str) -> None:
    """Ways to evaluate a model in the middle of its training."""
    _judged("07-no-trace", answer, outcome, said)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(("answer", "outcome", "said"), FOUND)
def test_as_found(answer: Any, outcome: Outcome, said: str) -> None:
    """Ways to give each module its own mode back."""
    _judged("07-as-found", answer, outcome, said)


@pytest.mark.parametrize(("answer", "outcome", "said"), DONATED)
def test_let_go(answer: Any, outcome: Outcome, said: str) -> None:
    """Loops that donate, or mean to."""
    _judged("06-let-go", answer, outcome, said)


@pytest.mark.parametrize(("answer", "outcome", "said"), KEPT)
def test_keep(answer: Any, outcome: Outcome, said: str) -> None:
    """Loops that keep some values and donate the others, or mean to."""
    _judged("06-keep", answer, outcome, said)


@pytest.mark.parametrize(("answer", "outcome", "said"), WHICH)
def test_which(answer: Any, outcome: Outcome, said: str) -> None:
    """Ledgers without names that were given to loops."""
    _judged("05-which", answer, outcome, said)


@pytest.mark.parametrize(("answer", "outcome", "said"), FIFTH)
def test_fifth(answer: Any, outcome: Outcome, said: str) -> None:
    """Loops that end at the bits of stock SGD, or near them."""
    _judged("05-fifth", answer, outcome, said)


def _kept(change: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The whole checkpoint, with entries of ``change`` in place of its own."""

    def checkpoint(network: Any, optimizer: Any, scheduler: Any) -> dict[str, Any]:
        return {
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "generator": torch.get_rng_state(),
        } | change(network, optimizer, scheduler)

    return checkpoint


def _reseeds(n: Any, o: Any, s: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    return {"generator": torch.get_rng_state()}


def _to_a_file(network: Any, optimizer: Any, scheduler: Any) -> None:
    torch.save([network.state_dict(), optimizer.state_dict()], io.BytesIO())


CHECKPOINTS: list[tuple[Callable[..., Any], Outcome, str]] = [
    (_kept(lambda n, o, s: {}), PASSED, "dropout included"),
    (_kept(lambda n, o, s: {"epoch": 6, "note": "friday"}), PASSED, ""),
    (_kept(lambda n, o, s: {"network": copy.deepcopy(n.state_dict())}), PASSED, ""),
    (_kept(lambda n, o, s: {"generator": torch.default_generator.get_state()}), PASSED, ""),
    (_kept(lambda n, o, s: {"network": dict(n.named_parameters())}), PASSED, ""),
    (lambda n, o, s: n.state_dict(), NOT_YET, "no weights under the key `network`"),
    (lambda n, o, s: {"model": n.state_dict()}, NOT_YET, "Print the keys that you return"),
    (lambda n, o, s: {"network": n.state_dict()}, NOT_YET, "The weights come back"),
    (lambda n, o, s: {"network": n, "optimizer": o}, NOT_YET, "the objects themselves"),
    (_kept(lambda n, o, s: {"scheduler": s.get_last_lr()}), NOT_YET, "saved as `scheduler`"),
    (_kept(lambda n, o, s: {"scheduler": s.last_epoch}), NOT_YET, "saved as `scheduler`"),
    (_kept(lambda n, o, s: {"optimizer": o.param_groups}), NOT_YET, "saved as `optimizer`"),
    (_kept(lambda n, o, s: {"optimizer": o.state}), NOT_YET, "saved as `optimizer`"),
    (_kept(lambda n, o, s: {"generator": torch.initial_seed()}), NOT_YET, "how far it has come"),
    (_kept(lambda n, o, s: {"generator": torch.seed()}), NOT_YET, "how far it has come"),
    (_kept(lambda n, o, s: {"generator": torch.Generator()}), NOT_YET, "how far it has come"),
    (_kept(_reseeds), NOT_YET, "Does `checkpoint` itself set a seed"),
    (lambda n, o, s: [n.state_dict(), o.state_dict()], NOT_YET, "Return a dictionary"),
    (_to_a_file, NOT_YET, "The check writes the file"),
    (lambda n, o, s: {"network": n.state_dict(), "generator": torch.rng()}, ERROR, "Attribute"),
]


def _back(history: Any, sound: Any, path: Any, step: Any, start: int, end: int, shift: int) -> Any:
    branch = history.branch(start, path, step=step)
    for i in range(start, end):
        branch.append(step(branch[-1], i + shift))
    return branch


def _by_hand(history: Any, sound: Any, path: Any, step: Any) -> Any:
    last = max(i for i, state in enumerate(history) if sound(state))
    branch = history.branch(last, path, step=step)
    while len(branch) < len(history):
        branch.append(step(branch[-1], len(branch) - 1))
    return branch


def _with_block(history: Any, sound: Any, path: Any, step: Any) -> Any:
    first = history.bisect(sound)
    with history.branch(first - 1, path, step=step) as branch:
        parameters = branch[-1]
        for i in range(first - 1, len(history) - 1):
            parameters = step(parameters, i)
            branch.append(parameters)
    return branch


def _old_state(history: Any, sound: Any, path: Any, step: Any) -> Any:
    last = history.bisect(sound) - 1
    branch = history.branch(last, path)
    for i in range(last, len(history) - 1):
        branch.append(step(history[i], i))
    return branch


def _ways(start: int = -1, end: int = -1, shift: int = 0) -> Callable[..., Any]:
    """Branch off ``start`` states after the first bad one, and so on."""
    return lambda h, sound, path, step: _back(
        h, sound, path, step, h.bisect(sound) + start, len(h) + end, shift
    )


def _last_only(history: Any, sound: Any, path: Any, step: Any) -> Any:
    return _ways()(history, sound, path, step)[-1]


def _looks_for_bad(history: Any, sound: Any, path: Any, step: Any) -> Any:
    return history.branch(history.bisect(lambda p: not sound(p)), path, step=step)


WAYS_BACK: list[tuple[Callable[..., Any], Outcome, str]] = [
    (_ways(), PASSED, "the broken run is as it was"),
    (_by_hand, PASSED, ""),
    (_with_block, PASSED, ""),
    (_ways(start=0), NOT_YET, "a state that isn't sound"),
    (_ways(start=-2), NOT_YET, "back further than you had to"),
    (_ways(end=0), NOT_YET, "the run has 9 states"),
    (_ways(end=-3), NOT_YET, "the run has 9 states"),
    (_ways(shift=1), NOT_YET, "print each `i`"),
    (_old_state, NOT_YET, ""),
    (lambda h, sound, path, step: h.branch(h.bisect(sound) - 1, path), NOT_YET, "9 states"),
    (lambda h, sound, path, step: h.bisect(sound), NOT_YET, "Return the branch"),
    (_last_only, NOT_YET, "Return the branch"),
    (lambda h, sound, path, step: h, NOT_YET, "went into the broken run itself"),
    (_looks_for_bad, ERROR, "WrongHistory"),
    (lambda h, sound, path, step: h.branch(path, h.bisect(sound) - 1), ERROR, ""),
]


@pytest.mark.parametrize(("answer", "outcome", "said"), CHECKPOINTS)
def test_checkpoint(answer: Any, outcome: Outcome, said: str) -> None:
    """Checkpoints, complete and not."""
    _judged("10-checkpoint", answer, outcome, said)


@pytest.mark.parametrize(("answer", "outcome", "said"), WAYS_BACK)
def test_go_back(answer: Any, outcome: Outcome, said: str) -> None:
    """Ways back to the last sound state, or nearly."""
    _judged("10-go-back", answer, outcome, said)


@pytest.mark.parametrize(("answer", "outcome", "said"), CLIPPED)
def test_clip(answer: Any, outcome: Outcome, said: str) -> None:
    """Steps with a clipped gradient, or nearly."""
    _judged("04-clip", answer, outcome, said)


@pytest.mark.parametrize(("answer", "outcome", "said"), TAKEN)
def test_take_back(answer: Any, outcome: Outcome, said: str) -> None:
    """Loops that refuse a step, or mean to."""
    _judged("04-take-back", answer, outcome, said)


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


@pytest.mark.parametrize(("answer", "outcome", "said"), RATES)
def test_two_rates(answer: Any, outcome: Outcome, said: str) -> None:
    """Optimizers over two networks."""
    _judged("02-two-rates", answer, outcome, said)


@pytest.mark.parametrize(("answer", "outcome", "said"), REPLACED)
def test_replace(answer: Any, outcome: Outcome, said: str) -> None:
    """Ways to replace a layer that an optimizer holds."""
    _judged("02-replace", answer, outcome, said)


@pytest.mark.parametrize(("answer", "outcome", "said"), NORMS)
def test_look(answer: Any, outcome: Outcome, said: str) -> None:
    """Ways to read the norm of a closed box's gradient, or another number."""
    _judged("03-look", answer, outcome, said)


@pytest.mark.parametrize(("answer", "outcome", "said"), DOORS)
def test_door(answer: Any, outcome: Outcome, said: str) -> None:
    """Boxes that clip, or nearly."""
    _judged("03-door", answer, outcome, said)


def _judged(key: str, answer: Any, outcome: Outcome, said: str) -> None:
    result = judge(exercises()[key], answer)
    assert (result.outcome, said in result.message) == (outcome, True), result.message
    assert "You may think" not in result.message and "not so" not in result.message
    assert result.outcome is PASSED or "deepcopy(" not in result.message, "no message is the answer"
