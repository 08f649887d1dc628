"""What learners typed into the checks of lesson 14, and what they read; see `test_answers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fnlib.teaching.exercises import Outcome
from tests.teaching.test_answers import ERROR, NOT_YET, PASSED, _judged

# --- 14-adamw -------------------------------------------------------------------------------------


def _as_in_the_lesson(
    rule: Any, weight: Any, gradient: Any, state: Any, lr: Any, decay: Any
) -> Any:
    weight = weight * (1 - lr * decay)
    return rule(weight, gradient, state, lr)


def _by_torch(rule: Any, weight: Any, gradient: Any, state: Any, lr: Any, decay: Any) -> Any:
    """The optimizer itself, with its state put in and taken out."""
    place = weight.clone()
    place.grad = gradient.clone()
    optimizer = torch.optim.AdamW([place], lr=lr, weight_decay=decay)
    mean, square, t = state
    optimizer.state[place] = {
        "step": torch.tensor(float(t)),
        "exp_avg": mean.clone(),
        "exp_avg_sq": square.clone(),
    }
    optimizer.step()
    kept = optimizer.state[place]
    return place, (kept["exp_avg"], kept["exp_avg_sq"], t + 1)


def _difference(rule: Any, weight: Any, gradient: Any, state: Any, lr: Any, decay: Any) -> Any:
    moved, state = rule(weight, gradient, state, lr)
    return moved - lr * decay * weight, state


def _afterwards(rule: Any, weight: Any, gradient: Any, state: Any, lr: Any, decay: Any) -> Any:
    moved, state = rule(weight, gradient, state, lr)
    return moved * (1 - lr * decay), state


def _in_place(rule: Any, weight: Any, gradient: Any, state: Any, lr: Any, decay: Any) -> Any:
    weight *= 1 - lr * decay
    return rule(weight, gradient, state, lr)


def _keeps_nothing(rule: Any, weight: Any, gradient: Any, state: Any, lr: Any, decay: Any) -> Any:
    return rule(weight * (1 - lr * decay), gradient, state, lr)[0]


def _pair_in_a_pair(rule: Any, weight: Any, gradient: Any, state: Any, lr: Any, decay: Any) -> Any:
    return rule(weight * (1 - lr * decay), gradient, state, lr), state


def _no_state(rule: Any, weight: Any, gradient: Any, state: Any, lr: Any, decay: Any) -> Any:
    return rule(weight * (1 - lr * decay), gradient, state, lr)[0], None


def _counts_twice(rule: Any, weight: Any, gradient: Any, state: Any, lr: Any, decay: Any) -> Any:
    mean, square, t = state
    return rule(weight * (1 - lr * decay), gradient, (mean, square, t + 1), lr)


def _sgd_with_decay(rule: Any, weight: Any, gradient: Any, state: Any, lr: Any, decay: Any) -> Any:
    return weight * (1 - lr * decay) - lr * gradient, state


def _old_state(rule: Any, weight: Any, gradient: Any, state: Any, lr: Any, decay: Any) -> Any:
    return _as_in_the_lesson(rule, weight, gradient, state, lr, decay)[0], state


def _calls(weight: Callable[..., Any], gradient: Callable[..., Any] = lambda w, g, lr, d: g) -> Any:
    """The rule with a weight and a gradient computed before it."""
    return lambda rule, w, g, state, lr, d: rule(weight(w, lr, d), gradient(w, g, lr, d), state, lr)


ADAMW: list[tuple[Any, Outcome, str]] = [
    (_as_in_the_lesson, PASSED, "the numbers of `torch.optim.AdamW`"),
    (_by_torch, PASSED, ""),
    (_difference, PASSED, ""),  # the same on paper
    (_calls(lambda w, lr, d: w - lr * d * w), PASSED, ""),
    (_calls(lambda w, lr, d: torch.mul(w, 1 - lr * d)), PASSED, ""),
    (lambda *given: list(_as_in_the_lesson(*given)), PASSED, ""),
    (_calls(lambda w, lr, d: w), NOT_YET, "the rule alone"),
    (_calls(lambda w, lr, d: w, lambda w, g, lr, d: g * (1 - lr * d)), NOT_YET, "cancels"),
    (_calls(lambda w, lr, d: w, lambda w, g, lr, d: g + d * w), NOT_YET, "Adam's averages"),
    (_calls(lambda w, lr, d: w * (1 - d)), NOT_YET, "too much: print the factor"),
    (_calls(lambda w, lr, d: w * (1 + lr * d)), NOT_YET, "the weight grows"),
    (_calls(lambda w, lr, d: w * lr * d), NOT_YET, "the part that goes away"),
    (_calls(lambda w, lr, d: w - lr * d), NOT_YET, "Wanted [0.625, -1.5] after the first step"),
    (_calls(lambda w, lr, d: w * (1 - lr * d), lambda w, g, lr, d: -g), NOT_YET, "Wanted"),
    (_afterwards, NOT_YET, "in the other order"),
    (_in_place, NOT_YET, "changed a tensor that it was given"),
    (_keeps_nothing, NOT_YET, "A rule returns a pair"),
    (_pair_in_a_pair, NOT_YET, "unpack what it returns"),
    (_no_state, NOT_YET, "return the state that `rule` returned"),
    (_counts_twice, NOT_YET, "Wanted"),
    (_sgd_with_decay, NOT_YET, "Wanted"),
    (_old_state, NOT_YET, "start from the old state again"),
    (lambda rule, w, g, s, lr, d: rule(w * (1 - lr * d), g, s), NOT_YET, "another rate"),
    (lambda rule, w, g, s: rule(w, g, s), ERROR, "TypeError"),
    (lambda rule, w, g, s, lr, d: rule(w * (1 - lr * d), g, s, lr, d), ERROR, "TypeError"),
    (lambda rule, w, g, s, lr, d: weigth, ERROR, "NameError"),  # type: ignore[name-defined]  # noqa: F821
]


# --- 14-rate --------------------------------------------------------------------------------------


def _tuned(weight: Any, gradient: Any, state: Any, speed: Any = 0.125) -> Any:
    rate, last = state
    rate = rate + speed * (gradient * last).sum()
    return weight - rate * gradient, (rate, gradient)


def _with_numbers(weight: Any, gradient: Any, state: Any, speed: Any = 0.125) -> Any:
    rate, last = state
    product = sum(one * other for one, other in zip(gradient.tolist(), last.tolist(), strict=True))
    rate = float(rate) + speed * product
    return weight - rate * gradient, (rate, gradient)


def _multiplied(weight: Any, gradient: Any, state: Any, speed: Any = 0.125) -> Any:
    rate, last = state
    rate = rate * (1 + speed * (gradient * last).sum())
    return weight - rate * gradient, (rate, gradient)


def _climbs(weight: Any, gradient: Any, state: Any, speed: Any = 0.125) -> Any:
    rate, last = state
    rate = rate + speed * (gradient * last).sum()
    return weight + rate * gradient, (rate, gradient)


def _keeps_the_weight(weight: Any, gradient: Any, state: Any, speed: Any = 0.125) -> Any:
    rate, last = state
    rate = rate + speed * (gradient * last).sum()
    return weight - rate * gradient, (rate, weight)


def _adds_in_place(weight: Any, gradient: Any, state: Any, speed: Any = 0.125) -> Any:
    rate, last = state
    rate += speed * (gradient * last).sum()
    return weight - rate * gradient, (rate, gradient)


def _old_rate(weight: Any, gradient: Any, state: Any, speed: Any = 0.125) -> Any:
    rate, last = state
    return weight - rate * gradient, (rate + speed * (gradient * last).sum(), gradient)


def _in_a_list(weight: Any, gradient: Any, state: Any, speed: Any = 0.125) -> Any:
    weight, state = _tuned(weight, gradient, state, speed)
    return [weight, list(state)]


def _mean(weight: Any, gradient: Any, state: Any, speed: Any = 0.125) -> Any:
    rate, last = state
    rate = rate + speed * (gradient * last).mean()
    return weight - rate * gradient, (rate, gradient)


def _three_results(weight: Any, gradient: Any, state: Any, speed: Any = 0.125) -> Any:
    weight, (rate, last) = _tuned(weight, gradient, state, speed)
    return weight, rate, last


RATES: list[tuple[Any, Outcome, str]] = [
    (_tuned, PASSED, "The rate rises while gradients agree"),
    (_with_numbers, PASSED, ""),
    (_in_a_list, PASSED, ""),
    (
        lambda w, g, state, speed=0.125: _tuned(w, g, (state[0], state[1].clone()), speed),
        PASSED,
        "",
    ),
    (lambda w, g, s, speed=0.125: _tuned(w, g, s, -speed), NOT_YET, "the wrong way"),
    (lambda w, g, s, speed=0.125: _tuned(w, g, s, 1.0), NOT_YET, "`speed` is missing"),
    (lambda w, g, s, speed=0.125: _tuned(w, g, s, 0.0), NOT_YET, "Wanted the rate"),
    (_old_rate, NOT_YET, "Compute the new rate first"),
    (_multiplied, NOT_YET, "Wanted the rate"),
    (_climbs, NOT_YET, "Wanted the weight"),
    (_keeps_the_weight, NOT_YET, "Wanted the rate"),
    (_adds_in_place, NOT_YET, "writes into the old state"),
    (_mean, NOT_YET, "Wanted the rate"),
    (_three_results, NOT_YET, "A rule returns a pair"),
    (
        lambda w, g, s, speed=0.125: (w - (s[0] + speed * g * s[1]) * g, (s[0] + speed * g * s[1], g)),
        NOT_YET,
        "one rate",
    ),
    (lambda w, g, s, speed=0.125: (_tuned(w, g, s)[0], s), NOT_YET, "`last` stays"),
    (lambda w, g, s, speed=0.125: (_tuned(w, g, s)[0], (s[0], g)), NOT_YET, "the old rate"),
    (lambda w, g, s, speed=0.125: (_tuned(w, g, s)[0], g), NOT_YET, "is the pair (rate, last)"),
    (lambda w, g, s, speed=0.125: _tuned(w, g, s)[0], NOT_YET, "A rule returns a pair"),
    (lambda w, g, s, speed=0.125: _tuned(w, g, s[0], speed), ERROR, "TypeError"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "outcome", "said"), ADAMW)
def test_adamw(answer: Any, outcome: Outcome, said: str) -> None:
    """AdamW made of Adam, or nearly."""
    _judged("14-adamw", answer, outcome, said)


@pytest.mark.parametrize(("answer", "outcome", "said"), RATES)
def test_rate(answer: Any, outcome: Outcome, said: str) -> None:
    """Rates that tune themselves, or nearly."""
    _judged("14-rate", answer, outcome, said)
