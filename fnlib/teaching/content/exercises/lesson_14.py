"""Lesson 14, "What is an optimizer?": its exercises."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from fnlib.teaching.exercises import Exercise, Mistake, Unreadable, in_words

Rule = Callable[..., Any]

# --- 14-adamw: a rule made of another one ----------------------------------------------------------

_LR, _DECAY, _STEPS = 0.25, 0.5, 3
_GRADIENTS = (2.0, -3.0), (1.0, 0.5), (-0.25, -1.0)


def _adam(weight: Tensor, gradient: Tensor, state: Any, lr: float = 0.01) -> tuple[Tensor, Any]:
    mean, square, t = state
    t = t + 1
    mean = 0.9 * mean + 0.1 * gradient
    square = 0.999 * square + 0.001 * gradient * gradient
    root = (square / (1 - 0.999**t)).sqrt() + 1e-8
    return weight - lr / (1 - 0.9**t) * mean / root, (mean, square, t)


def _decayed(rule: Rule, w: Tensor, g: Tensor, s: Any, lr: float, decay: float) -> Any:
    return rule(w * (1 - lr * decay), g, s, lr)


def _after(rule: Rule, w: Tensor, g: Tensor, s: Any, lr: float, decay: float) -> Any:
    weight, state = rule(w, g, s, lr)
    return weight * (1 - lr * decay), state


# What people write instead: the mistake's name -> the rule it comes to.
_OTHERS: dict[str, Rule] = {
    "no decay": lambda rule, w, g, s, lr, decay: rule(w, g, s, lr),
    "in the gradient": lambda rule, w, g, s, lr, decay: rule(w, g + decay * w, s, lr),
    "no lr": lambda rule, w, g, s, lr, decay: rule(w * (1 - decay), g, s, lr),
    "grows": lambda rule, w, g, s, lr, decay: rule(w * (1 + lr * decay), g, s, lr),
    "only the factor": lambda rule, w, g, s, lr, decay: rule(w * (lr * decay), g, s, lr),
    "after the step": _after,
    "own rate": lambda rule, w, g, s, lr, decay: rule(w * (1 - lr * decay), g, s),
}


def _steps(rule: Rule) -> Any:
    """Take three steps; each goes on from the weight and the state that the last one returned."""
    weight = torch.tensor([1.0, -2.0])
    state: Any = (torch.zeros(2), torch.zeros(2), 0)
    seen = SimpleNamespace(given=None, path=[], wrote=False, state=state)
    for slopes in _GRADIENTS:
        gradient = torch.tensor(slopes)
        before = weight.clone(), gradient.clone(), state
        copies = [part.clone() for part in state[:2]]
        given = rule(_adam, weight, gradient, state, _LR, _DECAY)
        if given is None or given is ...:
            return None
        seen.given = given
        weight_after, state_after = _pair(given)
        seen.wrote |= not (
            torch.equal(before[0], weight)
            and torch.equal(before[1], gradient)
            and all(map(torch.equal, copies, before[2][:2]))
        )
        weight, state = weight_after, state_after
        seen.path.append(weight)
        seen.state = state
        if not _is_state(state):
            break
    return seen


def _pair(given: Any) -> tuple[Tensor, Any]:
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise Unreadable(
            f"A rule returns a pair, weight and state; you returned {in_words(given)}."
        )
    weight, state = given
    if isinstance(weight, (tuple, list)) and len(weight) == 2:
        raise Unreadable(
            "Your weight is a pair: a rule returns weight and state, so unpack what it returns."
        )
    if not isinstance(weight, Tensor) or weight.shape != (2,):
        raise Unreadable(
            f"The new weight is a tensor of the weight's shape; you returned {in_words(weight)}."
        )
    return weight, state


def _is_state(state: Any) -> bool:
    return (
        isinstance(state, (tuple, list))
        and len(state) == 3
        and all(isinstance(part, Tensor) and part.shape == (2,) for part in state[:2])
    )


def _path(rule: Rule) -> list[Tensor]:
    return list(_steps(rule).path)


def _follows(seen: Any, rule: Rule) -> bool:
    """Say whether an answer took the steps of this rule, up to rounding."""
    path = _path(rule)
    return len(seen.path) == len(path) and all(
        torch.allclose(one, other, rtol=1e-4, atol=1e-5)
        for one, other in zip(seen.path, path, strict=True)
    )


def _as(name: str) -> Callable[[Any], bool]:
    return lambda seen: _follows(seen, _OTHERS[name])


def _steps_so_far(seen: Any) -> str:
    wanted = _path(_decayed)
    right = sum(
        torch.allclose(one, other, rtol=1e-4, atol=1e-5)
        for one, other in zip(seen.path, wanted, strict=False)
    )
    if not right:
        return f"Wanted {_numbers(wanted[0])} after the first step, got {_numbers(seen.path[0])}."
    if len(seen.path) == right < _STEPS:
        return "The first step is right. The state after it isn't the rule's: return the state that `rule` returned."
    return f"{right} of {_STEPS} steps are right. Wanted {_numbers(wanted[right])} after the next, got {_numbers(seen.path[right])}."


def _numbers(tensor: Tensor) -> str:
    return "[" + ", ".join(f"{number:.4g}" for number in tensor.tolist()) + "]"


def _in_place(rule: Rule, w: Tensor, g: Tensor, s: Any, lr: float, decay: float) -> Any:
    w.mul_(1 - lr * decay)
    return rule(w, g, s, lr)


def _old_state(rule: Rule, w: Tensor, g: Tensor, s: Any, lr: float, decay: float) -> Any:
    return _decayed(rule, w, g, s, lr, decay)[0], s


# --- 14-rate: a rate that tunes itself -------------------------------------------------------------

_SPEED = 0.125
_SLOPES = (2.0, -1.0), (4.0, 2.0), (-1.0, 3.0)


def _tuning(
    weight: Tensor,
    gradient: Tensor,
    state: Any,
    speed: float,
    *,
    product: Callable[[Tensor, Tensor], Any] = lambda one, other: (one * other).sum(),
    sign: float = 1.0,
    corrects_first: bool = True,
    keeps: Callable[[Any, Any], Any] = lambda gradient, last: gradient,
    along: Callable[[Any, Any], Any] = lambda gradient, last: gradient,
) -> Any:
    rate, last = state
    corrected = rate + sign * speed * product(gradient, last)
    now = corrected if corrects_first else rate
    return weight - now * along(gradient, last), (corrected, keeps(gradient, last))


def _with(**changes: Any) -> Rule:
    """The rule with one thing changed."""
    return lambda weight, gradient, state, speed=_SPEED: _tuning(
        weight, gradient, state, speed, **changes
    )


def _tune(rule: Rule) -> Any:
    """Take three steps with numbers that are exact in binary, whatever the order of operations."""
    weight, state = torch.tensor([1.0, 2.0]), (torch.tensor(0.25), torch.zeros(2))
    seen = SimpleNamespace(given=None, path=[], rates=[], lasts=[], wrote=False, odd="")
    for slopes in _SLOPES:
        gradient = torch.tensor(slopes)
        before = [part.clone() for part in (weight, gradient, *state)]
        given = rule(weight, gradient, state, _SPEED)
        if given is None or given is ...:
            return None
        seen.given = given
        after, kept = _pair(given)
        seen.wrote |= not all(map(torch.equal, before, (weight, gradient, *state)))
        if not isinstance(kept, (tuple, list)) or len(kept) != 2:
            raise Unreadable(f"The new state is the pair (rate, last); yours is {in_words(kept)}.")
        rate, last = (torch.as_tensor(part, dtype=torch.float32) for part in kept)
        seen.path.append(after)
        seen.rates.append(rate)
        seen.lasts.append(last)
        weight, state = after, (rate, last)
        if rate.shape != () or last.shape != (2,):
            break
    return seen


def _runs_as(**changes: Any) -> Callable[[Any], bool]:
    """Say whether an answer took the steps of the rule with one thing changed."""
    return lambda seen: _same_run(seen, _tune(_with(**changes)))


def _same_run(one: Any, other: Any) -> bool:
    pairs = ((one.path, other.path), (one.rates, other.rates), (one.lasts, other.lasts))
    return all(
        len(left) == len(right)
        and all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(left, right, strict=True))
        for left, right in pairs
    )


def _rates_so_far(seen: Any) -> str:
    wanted = _tune(_with())
    for step, (rate, after) in enumerate(zip(wanted.rates, wanted.path, strict=True), 1):
        if step > len(seen.rates) or not torch.equal(seen.rates[step - 1], rate):
            got = _number(seen.rates[min(step, len(seen.rates)) - 1])
            return f"Wanted the rate {_number(rate)} after step {step}, got {got}."
        if not torch.equal(seen.path[step - 1], after):
            return f"Wanted the weight {_numbers(after)} after step {step}, got {_numbers(seen.path[step - 1])}."
    return "Weights and rates are right. Wanted this step's gradient as `last`."


def _number(tensor: Tensor) -> str:
    return f"{tensor.item():.4g}" if tensor.shape == () else _numbers(tensor.flatten())


def _eightfold(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum() / _SPEED


def _only_added(weight: Tensor, gradient: Tensor, state: Any, speed: float = _SPEED) -> Any:
    rate, last = state
    return weight - (rate + speed * (gradient * last).sum()) * gradient, (rate, gradient)


def _swapped(weight: Tensor, gradient: Tensor, state: Any, speed: float = _SPEED) -> Any:
    moved, (rate, last) = _tuning(weight, gradient, state, speed)
    return moved, (last, rate)


def _writes(weight: Tensor, gradient: Tensor, state: Any, speed: float = _SPEED) -> Any:
    rate, last = state
    rate += speed * (gradient * last).sum()
    return weight - rate * gradient, (rate, gradient)


EXERCISES = (
    Exercise(
        key="14-adamw",
        objective="Given the formula of decoupled weight decay, the learner adds it to a rule, as a pure function.",
        expects="a pair, the new weight and the new state",
        try_out=_steps,
        passes=lambda seen: _follows(seen, _decayed) and not seen.wrote,
        so_far=_steps_so_far,
        because="With `adam`, three steps have the numbers of `torch.optim.AdamW`, and nothing you were given has changed.",
        hints=(
            "Two lines: one makes a smaller weight, one calls `rule` with it.",
            "The smaller weight is a new tensor. `rule` already returns the pair you need.",
            "`weight * (1 - lr * decay)` is what `rule` gets as its weight, with the same `gradient`, `state` and `lr`.",
        ),
        right=(lambda: _decayed,),
        mistakes=(
            Mistake(
                matches=lambda seen: seen.wrote,
                slug="in-place-replaces",
                says="The numbers may be right, but your function changed a tensor that it was given. Look for a method whose name ends in `_`, or for `*=`, and make a new tensor instead.",
                examples=(lambda: _in_place,),
            ),
            Mistake(
                matches=_as("no decay"),
                says="That's the rule alone: no weight is shrunk. (With Adam, a factor on the gradient cancels.) Print the weight that you pass to `rule`.",
                examples=(
                    lambda: _OTHERS["no decay"],
                    lambda: lambda rule, w, g, s, lr, decay: rule(w, g * (1 - lr * decay), s, lr),
                ),
            ),
            Mistake(
                matches=_as("in the gradient"),
                slug="decay-is-decay",
                says="You added the decay to the gradient, so it goes through Adam's averages and is divided like everything else. AdamW leaves the gradient alone.",
                examples=(lambda: _OTHERS["in the gradient"],),
            ),
            Mistake(
                matches=_as("no lr"),
                says="The weight shrinks before the step, as it should, but too much: print the factor. The rate belongs in it.",
                examples=(lambda: _OTHERS["no lr"],),
            ),
            Mistake(
                matches=_as("grows"),
                says="The place is right, but the weight grows. Print the factor: it should be a little below 1.",
                examples=(lambda: _OTHERS["grows"],),
            ),
            Mistake(
                matches=_as("only the factor"),
                says="You multiplied by the part that goes away. Print `lr * decay`, and think about what remains.",
                examples=(lambda: _OTHERS["only the factor"],),
            ),
            Mistake(
                matches=_as("after the step"),
                says="Decay and step are both there, in the other order: you also shrink the step that the rule has just taken. Shrink the weight first.",
                examples=(lambda: _OTHERS["after the step"],),
            ),
            Mistake(
                matches=_as("own rate"),
                says="The decay is right, but the step has another rate than the one you were given. Print the arguments of your call of `rule`.",
                examples=(lambda: _OTHERS["own rate"],),
            ),
            Mistake(
                matches=lambda seen: _follows(seen, _old_state),
                slug="result-not-needed",
                says="The first step is right. The next ones start from the old state again: return the state that `rule` returned.",
                examples=(lambda: _old_state,),
            ),
        ),
    ),
    Exercise(
        key="14-rate",
        objective="Given the slope of the loss with respect to the learning rate, the learner writes a rule that tunes its own rate.",
        expects="a pair, the new weight and the new state",
        try_out=_tune,
        passes=lambda seen: _same_run(seen, _tune(_with())) and not seen.wrote,
        so_far=_rates_so_far,
        because="The rate rises while gradients agree, falls when they turn, and the rule remembers what it needs.",
        hints=(
            "First the new rate, then the step, then the state for the next step.",
            "`(gradient * last).sum()` is one number, and 0 at the first step, where `last` is zeros. The step uses the new rate.",
            "The state has two parts: the new rate, and the gradient of this step, which is the next step's `last`.",
        ),
        right=(
            lambda: _with(),
            lambda: _with(product=lambda one, other: torch.dot(one, other)),
        ),
        mistakes=(
            Mistake(
                matches=lambda seen: seen.wrote,
                slug="in-place-replaces",
                says="Your function changed a tensor that it was given. `rate += ...` writes into the old state; `rate = rate + ...` makes a new tensor.",
                examples=(lambda: _writes,),
            ),
            Mistake(
                matches=lambda seen: seen.rates[-1].shape == (2,) and seen.lasts[-1].shape == (),
                says="The numbers may be right, but the state is `(rate, last)`, in this order. Print what you return.",
                examples=(lambda: _swapped,),
            ),
            Mistake(
                matches=lambda seen: seen.rates[-1].shape == (2,),
                says="Your rate has two elements, one for each element of the weight. The rule has one rate: what's missing after `gradient * last`?",
                examples=(lambda: _with(product=lambda one, other: one * other),),
            ),
            Mistake(
                matches=_runs_as(sign=-1.0),
                slug="rate-is-given",
                says="The rate moves by the right amount, the wrong way. When two gradients agree, a larger rate would have been better.",
                examples=(lambda: _with(sign=-1.0),),
            ),
            Mistake(
                matches=_runs_as(corrects_first=False),
                says="The rates are right, but each step still uses the old one. Compute the new rate first, then the step.",
                examples=(lambda: _with(corrects_first=False),),
            ),
            Mistake(
                matches=_runs_as(keeps=lambda gradient, last: last),
                says="`last` stays what it was in the beginning. Put this step's gradient into the state that you return.",
                examples=(lambda: _with(keeps=lambda gradient, last: last),),
            ),
            Mistake(
                matches=lambda seen: _same_run(seen, _tune(_only_added)),
                slug="result-not-needed",
                says="Each step uses the right correction, but the next one starts from the old rate. Return the new rate in the state.",
                examples=(lambda: _only_added,),
            ),
            Mistake(
                matches=_runs_as(along=lambda gradient, last: last),
                says="The rates are right. The step goes along `last`, though: which gradient belongs to the weight as it is now?",
                examples=(lambda: _with(along=lambda gradient, last: last),),
            ),
            Mistake(
                matches=_runs_as(product=lambda one, other: (one * one).sum()),
                says="You multiplied the gradient with itself, so the rate can only rise. One of the two factors is `last`.",
                examples=(lambda: _with(product=lambda one, other: (one * one).sum()),),
            ),
            Mistake(
                matches=lambda seen: _same_run(seen, _tune(_with(product=_eightfold))),
                says="The direction is right, but `speed` is missing: the rate moves eight times too far.",
                examples=(lambda: _with(product=_eightfold),),
            ),
        ),
    ),
)
