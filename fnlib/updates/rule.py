"""What an update rule is, and what ours share: settings, schedules, groups and a check of state."""

from __future__ import annotations

import functools
import inspect
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from fnlib import errors
from fnlib.show import words
from fnlib.torch_private import is_wrapped
from fnlib.updates.check import check_moments, wrong_state
from fnlib.values.protect import share
from fnlib.values.trees import map_tree

Schedule = Callable[[int], Any]  # the step count -> a number (a pair of them for betas)
Groups = Callable[[str, Tensor], Mapping[str, Any]]
Settings = dict[str, Any]
Named = Mapping[str, Tensor]  # names to weights, or to the slopes of those that have one
Moved = tuple[dict[str, Tensor], Any]  # new weights and new state


class UpdateRule(Protocol):
    """What a factory needs of an update rule."""

    def init(self, weights: Named) -> Any:
        """Return the state before the first step."""

    def update(self, weights: dict[str, Tensor], gradient: Named, state: Any) -> tuple[Named, Any]:
        """Return new weights and new state."""


class Rule:
    """Base of the rules of fnlib: settings that never change, any number of them scheduled.

    Subclasses set `like`, `groups` and the settings, then implement `update`.
    """

    like: ClassVar[Any]  # the class of torch.optim with the same arguments and the same bits
    groups: Groups | None
    needs_objective = False  # it can't step without
    takes_both = False  # a gradient too
    trusted = True  # update() writes only where it is told to, and owns what it returns
    _settings: Settings
    _scheduled: frozenset[str]
    _step_count = 0
    _rate: Any = None  # decided outside, for one step: by group, or that of all under None

    def __init_subclass__(cls) -> None:
        own = {"update", "move", "start"} & vars(cls).keys()
        if own and not cls.__module__.startswith("fnlib."):
            cls.trusted = False  # somebody else's, built on one of ours

    def _set_up(self, settings: Settings, groups: Groups | None) -> None:
        """Take the settings over. Copies, so that a list changed later does not change the rule."""
        for flag in ("differentiable", "capturable"):
            if settings.get(flag):
                raise errors.CannotWrap(
                    f"An optimizer with {flag}=True",
                    f"a functional step doesn't support {flag}",
                    "optimizer=fnlib.Adam(lr=1e-3)   # right: without it",
                    f"optimizer=fnlib.wrap(..., {flag}=True)",
                )
        own = {key: plain_number(map_tree(_copied, value)) for key, value in settings.items()}
        scheduled = frozenset(key for key in own if self._takes_number(key) and _moves(own[key]))
        vars(self).update(_settings=own, _scheduled=scheduled, groups=groups)

    def _takes_number(self, key: str) -> bool:
        """Say whether a function given for this setting is a schedule."""
        return True

    @functools.cached_property
    def name(self) -> str:
        """The name that parameters carry, so that no other rule reads this one's state."""
        kind = self.like if self.trusted else type(self)
        return f"{kind.__module__}.{kind.__qualname__}"

    @functools.cached_property
    def reads(self) -> object:
        """What a step reads of the state; one left by a rule that reads the same needs no check."""
        return self.name

    def at(self, step_count: int) -> Rule:
        """Return this rule with every schedule set to one step (the first is step 0)."""
        if self.groups is None and not self._scheduled:
            return self
        return self.having(_step_count=step_count)

    def at_rate(self, rate: Any) -> Any:
        """Return this rule with another rate for one step: a number, or one for each group."""
        given = rate if isinstance(rate, Mapping) else {None: rate}
        rates = {
            i: plain_number(number.item() if isinstance(number, Tensor) else number)
            for i, number in given.items()
        }
        if not rates or not all(type(n) in (int, float) and n >= 0 for n in rates.values()):
            raise errors.WrongParameters(
                "lr= takes a number that isn't negative, or one for each group of model.rates",
                f"got {rate!r}",
                _RATE,
            )
        return self.having(_rate=rates)

    def rates(self, weights: Named) -> list[Any]:
        """Return the learning rate of each group at this step."""
        return [self._rate_in(settings) for settings, _ in self.partition(weights)]

    def _rate_in(self, settings: Settings) -> Any:
        if "lr" in settings:
            return settings["lr"]
        accepted = inspect.signature(self.like).parameters
        if "lr" not in accepted or accepted["lr"].default is inspect.Parameter.empty:
            raise without_rate(self)
        return accepted["lr"].default

    def having(self, **settings: Any) -> Any:
        """Return a copy of this rule with other settings."""
        other = object.__new__(type(self))
        vars(other).update(vars(self), **settings)
        return other

    def init(self, weights: Named) -> dict[str, Any]:
        """Return the state before the first step: moments are made when a weight first moves."""
        return {"state": {}, "param_groups": []}

    def update(
        self, weights: dict[str, Tensor], gradient: Named, state: Any, *, in_place: bool = False
    ) -> Moved:
        """Move each weight that has a gradient, and pass the others on as they are.

        Args:
            weights, gradient: name -> tensor.
            state: what `init` or the last `update` returned.
            in_place: reuse the memory of weights and state, which end here. The bits are the same.
        """
        raise NotImplementedError

    # --- settings, groups and schedules ------------------------------------------------------

    def partition(self, weights: Named) -> list[tuple[Settings, list[str]]]:
        """Split the weights into groups of equal settings, in the order in which they are met."""
        if self._is_fixed():
            return [(dict(self._settings), list(weights))]
        common = {**self._settings, **self._schedules()}
        return [({**common, **own}, names) for own, names in self._parts(weights)]

    def _is_fixed(self) -> bool:
        """Say whether every weight has the rule's own settings at every step."""
        return self.groups is None and not self._scheduled and self._rate is None

    def _parts(self, weights: Named) -> list[tuple[Settings, list[str]]]:
        """Split the weights by what groups= and the rate of this step say of them."""
        parts = [({}, list(weights))] if self.groups is None else self._grouped(weights)
        if self._rate is None:
            return parts
        rates = self._rate
        if None in rates:
            rates = dict.fromkeys(range(len(parts)), rates[None])
        if rates.keys() != set(range(len(parts))):
            raise errors.WrongParameters(
                "lr= names groups that this rule doesn't have, or leaves some out",
                f"got {list(rates)}, expected {list(range(len(parts)))}",
                _RATE,
            )
        return [({**own, "lr": rates[i]}, names) for i, (own, names) in enumerate(parts)]

    def _grouped(self, weights: Named) -> list[tuple[Settings, list[str]]]:
        """Split the weights by the settings that groups= gives them, schedules resolved."""
        parts: list[tuple[Settings, list[str]]] = []
        for name, weight in weights.items():
            own = self._own(name, weight)
            same = next((names for settings, names in parts if settings == own), None)
            if same is None:
                parts.append((own, [name]))
            else:
                same.append(name)
        for own, _ in parts:
            own.update({k: self._number(k, own[k]) for k in own if self._takes_number(k)})
        return parts

    def scheduled(self, weights: Named) -> frozenset[str]:
        """Name the settings that follow the step count, in the rule or in a group."""
        if self.groups is None:
            return self._scheduled
        owns = [self._own(name, weight) for name, weight in weights.items()]
        moving = {k for own in owns for k, v in own.items() if self._takes_number(k) and _moves(v)}
        return self._scheduled | moving

    def _own(self, name: str, weight: Tensor) -> Settings:
        """Ask groups= for the settings of one weight."""
        assert self.groups is not None
        own: Any = self.groups(name, share(weight))
        if not isinstance(own, Mapping):
            raise errors.WrongParameters(
                "groups= returns a mapping of settings for each weight, {} for none of its own",
                f"for '{name}' it returned {own!r}",
                _GROUPS,
            )
        self._check_group(name, own)
        return {key: plain_number(value) for key, value in own.items()}

    def _check_group(self, name: str, own: Mapping[str, Any]) -> None:
        unknown = own.keys() - self._settings.keys()
        if unknown:
            raise errors.WrongParameters(
                f"groups= gives '{name}' a setting that {type(self).__name__} doesn't have",
                words.names(sorted(map(str, unknown))),
                _GROUPS,
            )

    def _schedules(self) -> Settings:
        """Return what is scheduled, at its value for this step."""
        return {key: self._number(key, self._settings[key]) for key in self._scheduled}

    def _number(self, key: str, value: Any) -> Any:
        """Return a setting at this step: a function of the step count is called."""
        if type(value) in (list, tuple):
            return type(value)(self._number(key, part) for part in value)
        if not callable(value):
            return value
        found = plain_number(value(self._step_count))
        if not is_number(found):
            raise errors.WrongParameters(
                "A schedule returns the number for one step",
                f"{key}= returned {found!r} at step {self._step_count}",
                "optimizer=fnlib.SGD(lr=lambda step: 0.1 * 0.99**step)   # a number for each step",
            )
        return found

    def check_state(self, state: Any, weights: Named) -> None:
        """Raise `WrongParameters` for a state that no step of such a rule could have left."""
        if not (isinstance(state, Mapping) and isinstance(state.get("state"), Mapping)):
            needs = f"maps weight names to what {self.name} keeps of each"
            raise wrong_state(f"it has no entry 'state' that {needs}")
        groups = state.get("param_groups")
        if not isinstance(groups, (list, tuple)) or not all(isinstance(g, Mapping) for g in groups):
            raise wrong_state("it has no entry 'param_groups' with the settings of each group")
        if lacking := [key for group in groups for key in self._in_groups() if key not in group]:
            raise wrong_state(f"its 'param_groups' lack {words.names(lacking)}")
        unknown = state["state"].keys() - weights.keys()
        if unknown:
            named = words.names(sorted(map(str, unknown)))
            raise wrong_state(f"{named} is not a weight; expected: {words.names(weights)}")
        for settings, names in self.partition(weights):
            for name in filter(state["state"].__contains__, names):
                expected = self._expected(weights[name], settings)
                check_moments(name, state["state"][name], expected)

    def _in_groups(self) -> Iterable[str]:
        """Name the settings that each group of a state has."""
        return self._settings

    def _expected(self, weight: Tensor, settings: Settings) -> dict[str, torch.Size]:
        """Name what a step keeps of a weight, with its shapes."""
        return {}

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse a change. The `__init__` of a class built on ours may set what is new, once."""
        if type(self).__module__.startswith("fnlib.") or name in vars(self):
            raise self._finished(name, value)
        vars(self)[name] = value

    def __delattr__(self, name: str) -> None:
        raise self._finished(name, None)

    def _finished(self, name: str, value: object) -> errors.Immutable:
        """Return the error for a change, with the line that makes a rule with another setting."""
        code, call = words.code(value), self._call()
        known = name in {"lr", "groups", *self._settings}
        setting = f"{name}={code}" if known else "..."
        right = (
            f"ModelFactory = fnlib.Factory(Network, optimizer={call}{setting}))   # right: a new rule\n"
            "    model = ModelFactory(parameters)   # the parameters stay the same"
        )
        if name == "lr":
            rate = "lr=lambda step: 0.1 * 0.99**step)   # right: a rate that depends on the step"
            right += f"\n\n    optimizer={call}{rate}"
        why = "An update rule can't be changed once it's made."
        harm = "models share this rule" if known else "nothing reads it"
        return errors.Immutable(why, f"rule.{name} = {code}", harm, right)

    def _call(self) -> str:
        return f"fnlib.{type(self).__name__}("

    def _written(self) -> Mapping[str, Any]:
        """The settings that the repr shows."""
        return self._settings

    def __repr__(self) -> str:
        settings = [f"{k}={getattr(v, '__name__', v)}" for k, v in self._written().items()]
        return f"{self._call()}{', '.join(settings + (['groups=...'] if self.groups else []))})"


_RATE = "parameters = model.step(gradient, lr=0.1 * model.rates)   # model.rates: the rule's own"
_GROUPS = 'groups=lambda name, weight: {"weight_decay": 0.0} if name.endswith("bias") else {}'


def name_of(rule: UpdateRule) -> str:
    """Return the name by which parameters remember whose state they carry."""
    return getattr(rule, "name", None) or f"{type(rule).__module__}.{type(rule).__qualname__}"


def without_rate(rule: Any) -> errors.WrongParameters:
    """Return the error for a rule that has no learning rate of its own."""
    return errors.WrongParameters(
        "This update rule has no learning rate that fnlib can read or set",
        f"{name_of(rule)} is not fnlib's and was not made with fnlib.wrap",
        "optimizer=fnlib.SGD(lr=0.1)   # rules of fnlib and wrapped ones have a rate",
    )


def plain_number(value: Any) -> Any:
    """Turn NumPy's numbers into Python's, which every kernel of PyTorch takes.

    >>> plain_number((0.5, 1)), plain_number(None)
    ((0.5, 1), None)
    """
    if type(value) in (list, tuple):
        return type(value)(map(plain_number, value))
    numpy_number = hasattr(value, "item") and getattr(value, "ndim", None) == 0
    return value.item() if numpy_number and not isinstance(value, Tensor) else value


def is_number(value: Any) -> bool:
    """Say whether this is what a schedule may return: a number, or a pair of them for betas."""
    if type(value) in (list, tuple):
        return all(map(is_number, value))
    return isinstance(value, (numbers.Real, Tensor)) and not isinstance(value, bool)


def _moves(value: Any) -> bool:
    """Say whether a setting is a function of the step count, or has one among its numbers."""
    return any(map(_moves, value)) if type(value) in (list, tuple) else callable(value)


def _copied(tensor: Tensor) -> Tensor:
    if is_wrapped(tensor):  # a transform differentiates or batches a setting
        return tensor
    return tensor.detach().clone()
