"""Update rules that others write: given copies that they may write to, and checked afterwards."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fnlib import errors
from fnlib.updates.rule import Moved, Named, Rule, UpdateRule, name_of, without_rate
from fnlib.values.check import check_match
from fnlib.values.protect import Tensors, kept, share, share_all
from fnlib.values.trees import map_tree, storable

_RIGHT = "return {name: new_weight for name in weights}, state   # in update"


def pure(rule: UpdateRule) -> Rule | OwnRule:
    """Return a rule that changes nothing it is given and whose results belong to nobody else."""
    return rule if isinstance(rule, Rule) and rule.trusted else OwnRule(rule)


class OwnRule:
    """A rule of anybody's, with ``init``, ``update`` and perhaps ``at``, as a `Rule`."""

    needs_objective = takes_both = False

    def __init__(self, rule: UpdateRule) -> None:
        self.rule, self.name = rule, name_of(rule)

    @property
    def reads(self) -> object:
        return self.rule.reads if isinstance(self.rule, Rule) else self.name

    def at(self, step_count: int) -> OwnRule:
        """Return the rule with everything scheduled set to its value for one step."""
        at = getattr(self.rule, "at", None)
        return self if at is None else OwnRule(at(step_count))

    def init(self, weights: Named) -> Any:
        """Return the state before the first step."""
        return self.rule.init(Tensors(weights))

    def _ours(self) -> Rule:
        if not isinstance(self.rule, Rule):
            raise without_rate(self.rule)
        return self.rule

    def at_rate(self, rate: Any) -> OwnRule:
        return OwnRule(self._ours().at_rate(rate))

    def rates(self, weights: Named) -> list[Any]:
        return self._ours().rates(weights)

    def check_state(self, state: Any, weights: Named) -> None:
        if isinstance(self.rule, Rule):
            self.rule.check_state(state, weights)

    def partition(self, weights: Named) -> object:
        return self.rule.partition(weights) if isinstance(self.rule, Rule) else None

    def update(
        self, weights: dict[str, Tensor], gradient: Named, state: Any, *, in_place: bool = False
    ) -> Moved:
        """Take one step, and check what comes back. See `Rule.update`."""
        given = weights.values() if in_place else share_all(weights.values())
        state = state if in_place else map_tree(share, state)
        slopes = _Slopes({name: share(gradient[name]) for name in gradient})
        with torch.no_grad():
            found = self.rule.update(dict(zip(weights, given, strict=True)), slopes, state)
        if not isinstance(found, tuple) or len(found) != 2:
            what = "An update rule returns new weights and new state"
            raise errors.WrongParameters(what, f"this one returned {type(found).__name__}", _RIGHT)
        new_weights, new_state = found
        check_match("updated weights", new_weights, weights, _RIGHT)
        new_state = storable(new_state, "new_state")
        return {name: kept(new_weights[name]) for name in weights}, new_state


class _Slopes(dict[str, Tensor]):
    """A gradient that names the mistake where a rule reads an entry that is absent."""

    def __missing__(self, name: str) -> Tensor:
        raise errors.AbsentGradient(name)
