"""Update rules called by themselves: with new memory and in place, the same bits, and nothing else touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fnlib
from fnlib.values.trees import same_tree

RULES: dict[str, Callable[[], Any]] = {
    "SGD": lambda: fnlib.SGD(lr=0.1),
    "SGD that decays": lambda: fnlib.SGD(lr=0.1, weight_decay=0.01, maximize=True),
    "momentum": lambda: fnlib.SGD(lr=0.1, momentum=0.9, dampening=0.1),
    "Nesterov": lambda: fnlib.SGD(lr=0.1, momentum=0.9, nesterov=True),
    "fused SGD": lambda: fnlib.SGD(lr=0.1, momentum=0.9, fused=True),
    "Adam": lambda: fnlib.Adam(lr=0.1),
    "amsgrad": lambda: fnlib.Adam(lr=0.1, amsgrad=True, weight_decay=0.01),
    "fused Adam": lambda: fnlib.Adam(lr=0.1, fused=True),
    "AdamW": lambda: fnlib.AdamW(lr=0.1),
    "groups, one of them fused": lambda: fnlib.Adam(
        lr=0.1, groups=lambda name, weight: {"fused": name == "a"}
    ),
    "wrapped": lambda: fnlib.wrap(torch.optim.RMSprop, lr=0.1, momentum=0.5),
}
WEIGHTS: dict[str, Callable[[], dict[str, Tensor]]] = {
    "plain": lambda: {"a": torch.randn(3, 4), "b": torch.randn(5), "still": torch.randn(2)},
    "transposed": lambda: {
        "a": torch.randn(3, 4).mT,
        "b": torch.randn(5, 6)[:, ::2],
        "still": torch.randn(2),
    },
    "channels last": lambda: {
        "a": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "b": torch.randn(5),
        "still": torch.randn(2),
    },
    "complex": lambda: {
        "a": torch.randn(3, dtype=torch.complex64),
        "b": torch.randn(5),
        "still": torch.randn(2),
    },
    "half": lambda: {
        "a": torch.randn(3).half(),
        "b": torch.randn(5).half(),
        "still": torch.randn(2).half(),
    },
}


def copied(tree: Any) -> Any:
    """A copy that shares nothing, strides kept."""
    if isinstance(tree, Tensor):
        return torch.empty_strided(tree.shape, tree.stride(), dtype=tree.dtype).copy_(tree)
    if isinstance(tree, dict):
        return {key: copied(value) for key, value in tree.items()}
    return tree


def refused(rule: str, weights: str) -> bool:
    """Combinations that PyTorch's own fused kernels do not take, or compute wrongly."""
    return ("fused" in rule and weights == "complex") or (rule == "fused SGD" and weights == "half")


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("name", RULES)
def test_in_place_or_not_gives_the_same_bits_and_strides(name: str, kind: str) -> None:
    if refused(name, kind):
        return
    rule, weights = RULES[name](), WEIGHTS[kind]()
    apart, apart_state = copied(weights), rule.init(weights)
    placed, placed_state = copied(weights), rule.init(weights)
    for _ in range(3):
        gradient = {key: torch.randn_like(weights[key]) for key in ("a", "b")}
        given, given_state, given_gradient = copied(apart), copied(apart_state), copied(gradient)
        new, new_state = rule.update(apart, gradient, apart_state)
        assert (
            same_tree(apart, given)
            and same_tree(apart_state, given_state)
            and same_tree(gradient, given_gradient)
        )
        apart, apart_state = new, new_state
        placed, placed_state = rule.update(placed, gradient, placed_state, in_place=True)
        assert same_tree(apart, placed) and same_tree(apart_state, placed_state)
        assert list(apart) == list(weights)
        assert all(
            apart[key].stride() == placed[key].stride() == weights[key].stride()
            for key in ("a", "b")
        )


@pytest.mark.parametrize("name", RULES)
def test_two_values_hold_no_memory_in_common(name: str) -> None:
    """What one step leaves as it is (a weight without a gradient, its moments) must outlive the donation of the next value."""
    ModelFactory = fnlib.Factory(
        lambda: nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)}), optimizer=RULES[name]()
    )
    rows = [
        {
            f"{part}.{kind}": torch.ones(shape)
            for kind, shape in (("weight", (2, 2)), ("bias", (2,)))
        }
        for part in "ab"
    ]
    first = ModelFactory(fnlib.Parameters(seed=0))
    second = ModelFactory(first.step({**rows[0], **rows[1]}))
    third = ModelFactory(second.step(rows[0]))  # leaves b as it is
    kept = copied({**second.parameters}), copied(second.parameters.optimizer_state)
    third.step({**rows[0], **rows[1]}, donate=True)
    assert same_tree({**second.parameters}, kept[0]) and same_tree(
        second.parameters.optimizer_state, kept[1]
    )


def test_a_wrapped_rule_goes_on_in_place_where_ours_ended() -> None:
    """One counter may serve several weights; an optimizer of torch.optim counts each of them in place."""
    ours = fnlib.Sequential(nn.Linear(2, 2), optimizer=fnlib.Adam(lr=0.1))
    wrapped = fnlib.Sequential(nn.Linear(2, 2), optimizer=fnlib.wrap(torch.optim.Adam, lr=0.1))
    gradient = {"0.weight": torch.ones(2, 2), "0.bias": torch.ones(2)}
    start = ours(fnlib.Parameters(seed=0)).step(gradient)
    expected = wrapped(start).step(gradient)
    given_away = ours(ours(fnlib.Parameters(seed=0)).step(gradient)).parameters
    assert wrapped(given_away).step(gradient, donate=True) == expected
    assert expected.optimizer_state["state"]["0.bias"]["step"] == 2


def test_groups_may_write_to_the_weight_that_they_see() -> None:
    def groups(name: str, weight: Tensor) -> dict[str, float]:
        weight.zero_()
        return {}

    model = fnlib.Sequential(nn.Linear(2, 2), optimizer=fnlib.SGD(lr=0.1, groups=groups))(
        fnlib.Parameters(seed=0)
    )
    later = model.step({"0.weight": torch.zeros(2, 2), "0.bias": torch.zeros(2)})
    assert later["0.weight"].equal(model.parameters["0.weight"]) and later["0.weight"].all()
