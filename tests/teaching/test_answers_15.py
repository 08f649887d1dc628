"""What learners typed into the checks of lesson 15, and what they read; see `test_answers`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from fnlib.teaching.exercises import Outcome
from tests.teaching.test_answers import ERROR, NOT_YET, PASSED, _judged

NOT_ATTEMPTED = Outcome.NOT_ATTEMPTED

# --- 15-chain -------------------------------------------------------------------------------------


def _chain(update: Callable[[Any, Any, Any, Any], Any]) -> Any:
    def chain(first: Any, second: Any) -> Any:
        def init(params: Any) -> Any:
            return first.init(params), second.init(params)

        return SimpleNamespace(init=init, update=lambda g, state: update(first, second, g, state))

    return chain


def _unpacked(first: Any, second: Any, gradient: Any, state: Any) -> Any:
    one, other = state
    gradient, one = first.update(gradient, one)
    gradient, other = second.update(gradient, other)
    return gradient, (one, other)


def _lists(first: Any, second: Any, gradient: Any, state: Any) -> Any:
    updates, new = gradient, []
    for rule, old in zip([first, second], state):  # noqa: B905  # as learners write it
        updates, after = rule.update(updates, old)
        new.append(after)
    return [updates, new]


def _whole_state(first: Any, second: Any, gradient: Any, state: Any) -> Any:
    updates, state = first.update(gradient, state)
    return second.update(updates, state)


def _one_state(first: Any, second: Any, gradient: Any, state: Any) -> Any:
    updates, _ = first.update(gradient, state[0])
    updates, second_state = second.update(updates, state[1])
    return updates, second_state


def _first_state_kept(first: Any, second: Any, gradient: Any, state: Any) -> Any:
    updates, _ = first.update(gradient, state[0])
    updates, second_state = second.update(updates, state[1])
    return updates, (state[0], second_state)


def _exchanged(first: Any, second: Any, gradient: Any, state: Any) -> Any:
    updates, one = first.update(gradient, state[0])
    updates, other = second.update(updates, state[1])
    return updates, (other, one)


def _into_the_pair(first: Any, second: Any, gradient: Any, state: Any) -> Any:
    gradient, state[0] = first.update(gradient, state[0])
    gradient, state[1] = second.update(gradient, state[1])
    return gradient, state


def _pair_not_unpacked(first: Any, second: Any, gradient: Any, state: Any) -> Any:
    return second.update(first.update(gradient, state[0]), state[1])


def _updates_alone(first: Any, second: Any, gradient: Any, state: Any) -> Any:
    updates, _ = first.update(gradient, state[0])
    return second.update(updates, state[1])[0]


def _state_first(first: Any, second: Any, gradient: Any, state: Any) -> Any:
    updates, states = _unpacked(first, second, gradient, state)
    return states, updates


def _both_raw(first: Any, second: Any, gradient: Any, state: Any) -> Any:
    updates_1, one = first.update(gradient, state[0])
    updates_2, other = second.update(gradient, state[1])
    return updates_2, (one, other)


def _mean(first: Any, second: Any, gradient: Any, state: Any) -> Any:
    one, a = first.update(gradient, state[0])
    other, b = second.update(gradient, state[1])
    return {name: (one[name] + other[name]) / 2 for name in one}, (a, b)


def _in_place(first: Any, second: Any, gradient: Any, state: Any) -> Any:
    updates, states = _unpacked(first, second, gradient, state)
    for name in gradient:
        gradient[name].copy_(updates[name])
    return gradient, states


def _states_in_a_cell(first: Any, second: Any) -> Any:
    kept: list[Any] = []

    def init(params: Any) -> Any:
        kept[:] = first.init(params), second.init(params)
        return tuple(kept)

    def update(gradient: Any, state: Any) -> Any:
        gradient, kept[0] = first.update(gradient, kept[0])
        gradient, kept[1] = second.update(gradient, kept[1])
        return gradient, tuple(kept)

    return SimpleNamespace(init=init, update=update)


def _second_in_a_cell(first: Any, second: Any) -> Any:
    kept: list[Any] = []

    def init(params: Any) -> Any:
        kept[:] = [second.init(params)]
        return first.init(params)

    def update(gradient: Any, state: Any) -> Any:
        gradient, state = first.update(gradient, state)
        gradient, kept[0] = second.update(gradient, kept[0])
        return gradient, state

    return SimpleNamespace(init=init, update=update)


def _list_overwritten(first: Any, second: Any) -> Any:
    return SimpleNamespace(
        init=lambda params: [first.init(params), second.init(params)],
        update=lambda g, state: _into_the_pair(first, second, g, state),
    )


def _as_shipped(first: Any, second: Any) -> Any:
    def init(params: Any) -> Any:
        return first.init(params), second.init(params)

    def update(gradient: Any, state: Any) -> Any:
        return ...

    return SimpleNamespace(init=init, update=update)


CHAINS: list[tuple[Any, Outcome, str]] = [
    (_chain(_unpacked), PASSED, "got its own state back"),
    (_chain(_lists), PASSED, ""),
    (_chain(_both_raw), NOT_YET, "works on the raw gradient"),
    (_chain(_whole_state), ERROR, ""),
    (_chain(_one_state), ERROR, ""),
    (_chain(_exchanged), ERROR, ""),
    (_chain(_into_the_pair), ERROR, "does not support item assignment"),
    (_chain(_pair_not_unpacked), ERROR, "'tuple' object has no attribute"),
    (_chain(_updates_alone), NOT_YET, "the updates and the new state, a pair"),
    (_chain(_state_first), NOT_YET, "a dictionary of updates"),
    (_chain(_first_state_kept), NOT_YET, "of 9 updates are right"),
    (_chain(_mean), NOT_YET, "of 9 updates are right"),
    (_chain(_in_place), NOT_YET, "your chain writes into the gradient"),
    (_chain(lambda *given: None), NOT_YET, "returned None"),
    (_states_in_a_cell, NOT_YET, "`update` isn't pure"),
    (_second_in_a_cell, NOT_YET, "`update` isn't pure"),
    (_list_overwritten, NOT_YET, "`update` isn't pure"),
    (_as_shipped, NOT_ATTEMPTED, "still `...`"),
    (_chain(_unpacked)(None, None), NOT_YET, "Hand over the function itself"),
]

# --- 15-split -------------------------------------------------------------------------------------


def _values(module: nn.Module) -> dict[str, Any]:
    return {name: part.clone() for name, part in module.state_dict().items()}


def _merge(structure: Any, values: Any) -> Any:
    module = copy.deepcopy(structure)
    module.load_state_dict(values)
    return module


def _loaded(structure: Any, values: Any) -> Any:
    return copy.deepcopy(structure).load_state_dict(values)


def _closure(structure: Any, values: Any) -> Any:
    return lambda x: torch.func.functional_call(structure, values, (x,))


def _deep(module: nn.Module) -> Any:
    return copy.deepcopy(module), copy.deepcopy(module.state_dict())


def _numpy(module: nn.Module) -> Any:
    return copy.deepcopy(module), {n: part.numpy() for n, part in module.state_dict().items()}


def _by_attribute(structure: Any, values: Any) -> Any:
    module = copy.deepcopy(structure)
    with torch.no_grad():
        for name, part in [*module.named_parameters(), *module.named_buffers()]:
            part.copy_(values[name])
    return module


def _detached(module: nn.Module) -> Any:
    return copy.deepcopy(module), {n: part.detach() for n, part in module.state_dict().items()}


def _parameters_only(module: nn.Module) -> Any:
    return copy.deepcopy(module), {n: p.detach().clone() for n, p in module.named_parameters()}


def _type_and_values(module: nn.Module) -> Any:
    return type(module), _values(module)


def _into_it(structure: Any, values: Any) -> Any:
    structure.load_state_dict(values)
    return structure


def _assigned(structure: Any, values: Any) -> Any:
    module = copy.deepcopy(structure)
    module.load_state_dict(values, assign=True)
    return module


def _shallow(structure: Any, values: Any) -> Any:
    module = copy.copy(structure)
    module.load_state_dict(values)
    return module


def _copied(module: nn.Module) -> Any:
    return copy.deepcopy(module), _values(module)


def _same_module(module: nn.Module) -> Any:
    return module, _values(module)


def _no_return(module: nn.Module) -> Any:
    copy.deepcopy(module), _values(module)


SPLITS: list[tuple[Any, Outcome, str]] = [
    ((_copied, _merge), PASSED, "neither the first module nor the values"),
    ([_deep, _merge], PASSED, ""),
    ((_copied, _by_attribute), PASSED, ""),
    ((_same_module, _merge), PASSED, ""),
    ((_detached, _merge), NOT_YET, "your values changed with it"),
    ((lambda m: (copy.deepcopy(m), m.state_dict()), _merge), NOT_YET, "your values changed"),
    ((_numpy, _merge), ERROR, ""),
    ((_parameters_only, _merge), NOT_YET, "running statistics aren't"),
    (
        (_parameters_only, lambda s, v: (m := copy.deepcopy(s), m.load_state_dict(v, False))[0]),
        NOT_YET,
        "running statistics aren't",
    ),
    ((_copied, _into_it), NOT_YET, "two merges give one module"),
    ((_same_module, _into_it), NOT_YET, "two merges give one module"),
    ((_copied, _shallow), NOT_YET, "share their tensors"),
    ((_copied, _assigned), NOT_YET, "copies of them"),
    ((_copied, lambda structure, values: structure), NOT_YET, ""),
    ((_copied, _closure), NOT_YET, "`merge` returns a module"),
    ((_copied, _loaded), NOT_YET, "`merge` returns a module"),
    ((_type_and_values, _merge), ERROR, ""),
    ((_values, _merge), NOT_YET, "`split` returns a pair"),
    ((lambda m: (_values(m), m), _merge), NOT_YET, "The values are a dictionary"),
    (_copied, NOT_YET, "takes both functions"),
    ((_no_return, _merge), NOT_ATTEMPTED, ""),
]


@pytest.mark.parametrize(("answer", "outcome", "said"), CHAINS)
def test_chain(answer: Any, outcome: Outcome, said: str) -> None:
    """Chains that pass the updates and the states on, or mean to."""
    _judged("15-chain", answer, outcome, said)


@pytest.mark.parametrize(("answer", "outcome", "said"), SPLITS)
def test_split(answer: Any, outcome: Outcome, said: str) -> None:
    """Ways to take a module apart and put it together again."""
    _judged("15-split", answer, outcome, said)
