"""Checks of what a step is given: a rule, a gradient or an objective, a state that is the rule's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fnlib import errors
from fnlib.show import words
from fnlib.values.held import Held

STEP = "parameters = model.step(model.backward(loss))   # a gradient of this model"


def checked_rule(rule: Any) -> Any:
    """Return what can be a factory's update rule, and raise `CannotWrap` for anything else."""
    if isinstance(rule, (torch.optim.Optimizer, type)):
        kind = rule if isinstance(rule, type) else type(rule)
        wrong = f"optimizer=torch.optim.{kind.__name__}(...)"
        right = f"optimizer=fnlib.wrap(torch.optim.{kind.__name__}, lr=0.01)   # right"
        why = "a factory takes an update rule, not an optimizer"
        raise errors.CannotWrap(kind.__name__, why, right, wrong)
    if not all(callable(getattr(rule, method, None)) for method in ("init", "update")):
        raise errors.CannotWrap(
            f"An object of type {type(rule).__name__}",
            "a rule has the methods init(weights) and update(weights, gradient, state)",
            "optimizer=fnlib.SGD(lr=0.01)   # right",
            f"optimizer={words.code(rule)}",
        )
    return rule


def rule_of_step(rule: Any, held: Held, lr: Any, known: object) -> Any:
    """Return a rule as it is at the step of a value, whose state it must be able to read.

    `lr` is a rate decided outside; `known` is what the rule that left the state reads of it.
    """
    rule = rule.at(held.step_count)
    if lr is not None:
        rule = rule.at_rate(lr)
    refuse_foreign(held, rule, known)
    return rule


def refuse_foreign(held: Held, rule: Any, known: object) -> None:
    """Refuse a state that another rule made, or that no step of this rule could have left."""
    if held.rule is not None and held.rule != rule.name:
        raise errors.WrongRule(held.rule, rule.name)
    if held.state is not None and known != rule.reads:
        rule.check_state(held.state, held.weights)


def check_given(rule: Any, gradient: object, objective: object) -> None:
    """Check that a step has what its rule needs: a gradient, an objective or both."""
    if objective is None:
        if rule.needs_objective:
            raise errors.MissingObjective(rule.name)
        if gradient is None:
            raise errors.WrongParameters("A step takes a gradient", "got None", STEP)
    elif gradient is not None and not rule.takes_both:
        raise errors.WrongParameters(
            "This rule evaluates the objective itself, so its step takes no gradient",
            "got both",
            "parameters = model.step(objective=objective)",
        )


def check_moments(name: str, moments: Any, expected: Mapping[str, torch.Size]) -> None:
    """Check what is kept of one weight, or nothing if it has not moved yet."""
    if moments == {}:
        return
    if not isinstance(moments, Mapping):
        raise wrong_state(f"for '{name}' it needs {words.names(expected)}")
    if lacking := [key for key in expected if key not in moments]:
        raise lacks(f"for '{name}' it needs {words.names(lacking)}")
    for key, shape in expected.items():
        if not isinstance(moments[key], Tensor) or moments[key].shape != shape:
            raise wrong_state(f"'{key}' of '{name}' is not a tensor of shape {tuple(shape)}")


def lacks(needs: str) -> errors.WrongParameters:
    """Return the error for a state that was made without what the rule reads."""
    return wrong_state(
        f"{needs}, which the steps so far didn't keep, because the rule had other settings"
        " (amsgrad=, centered=, momentum=) or the state was edited"
    )


def wrong_state(detail: str) -> errors.WrongParameters:
    return errors.WrongParameters(
        "The rule of this factory can't continue from this optimizer_state",
        detail,
        "model = ModelFactory(parameters.replace(optimizer_state=None))   # start the rule afresh",
    )
