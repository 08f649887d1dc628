"""What an update rule is, and what those of this package share: settings, a schedule of the rate, groups of weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from fnlib import errors
from fnlib.updates.finished import Finished
from fnlib.updates.kernels import Moments
from fnlib.values.protect import share, share_all
from fnlib.values.trees import map_tree

Schedule = Callable[[int], float]
Groups = Callable[[str, Tensor], Mapping[str, Any]]
Settings = dict[str, Any]


class UpdateRule(Protocol):
    """What a factory needs of an update rule."""

    def init(self, weights: Mapping[str, Tensor]) -> Any:
        """Return the state before the first step."""

    def update(
        self, weights: dict[str, Tensor], gradient: Mapping[str, Tensor], state: Any
    ) -> tuple[Mapping[str, Tensor], Any]:
        """Return new weights and new state."""


class Rule(Finished):
    """The frame of `fnlib.SGD`, `fnlib.Adam`, `fnlib.AdamW` and `fnlib.wrap`: they differ in how a group of weights moves.

    Args:
        lr: the learning rate, or a function of the step count.
        groups: a function of a weight's name and the weight that returns settings of its own.
        settings: the other arguments of the class of torch.optim that this rule is like.
    """

    like: Any  # the class of torch.optim with the same arguments and the same bits
    trusted = True  # update() writes to what it is given only when it is told to, and what it returns is its own

    def __init_subclass__(cls) -> None:
        if "update" in vars(cls) and not cls.__module__.startswith("fnlib."):
            cls.trusted = False  # somebody's own, built on one of ours

    def __init__(
        self, lr: float | Tensor | Schedule, groups: Groups | None, settings: Settings
    ) -> None:
        refuse_flags(settings)
        probe = self.like(
            [torch.zeros(1)], lr=lr(0) if callable(lr) else lr, **settings
        )  # PyTorch's own checks, and its own errors
        self._arguments = of_its_own({"lr": lr, **settings})
        self._settings = {
            **probe.defaults,
            **self._arguments,
            "lr": lr if callable(lr) else float(lr),
        }
        self._groups = groups
        self._step_count = 0

    @property
    def name(self) -> str:
        """The name that parameters carry, so that no other rule reads this one's state."""
        kind = self.like if self.trusted else type(self)
        return f"{kind.__module__}.{kind.__qualname__}"

    def at(self, step_count: int) -> Rule:
        """Return this rule with a scheduled rate set to its value for one step (the first is step 0)."""
        if self._groups is None and not callable(self._settings.get("lr")):
            return self
        fixed = copy.copy(self)
        vars(fixed)["_step_count"] = step_count
        return fixed

    def init(self, weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the state before the first step: as in torch.optim, moments are made when a weight first moves."""
        return {"state": {}, "param_groups": []}

    def update(
        self,
        weights: dict[str, Tensor],
        gradient: Mapping[str, Tensor],
        state: Any,
        *,
        in_place: bool = False,
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Move each weight that has a gradient.

        Args:
            weights: name -> weight.
            gradient: name -> tensor of the weight's shape; a weight without an entry stays.
            state: what `init` or the last `update` returned.
            in_place: reuse the memory of the weights and the state, which are used up then. The bits are the same.

        Returns:
            The new weights and the new state. What does not move is passed on as it is.
        """
        partition = self.partition(weights)
        if any(
            self._left_to_torch(settings, weights.values(), gradient.values())
            for settings, _ in partition
        ):
            return self._wrapped().update(weights, gradient, state, in_place=in_place)
        weights, moments = dict(weights), dict(state["state"])
        for settings, names in partition:
            moving = (
                names
                if len(gradient) == len(weights)
                else [name for name in names if name in gradient]
            )
            if not moving:
                continue
            own = [dict(moments[name]) if name in moments else {} for name in moving]
            places, slopes, here = (
                [weights[name] for name in moving],
                [gradient[name] for name in moving],
                in_place,
            )
            if not in_place and (settings["fused"] or not _are_plain(places)):
                # Fused kernels write in place, and so the strides stay that a new tensor would not have: on shared tensors, then.
                places, own, here = share_all(places), [_shared(entry) for entry in own], True
            weights.update(
                zip(moving, self._move(places, slopes, own, settings, here), strict=True)
            )
            if own[0]:
                moments.update(zip(moving, own, strict=True))
        return weights, {"state": moments, "param_groups": [settings for settings, _ in partition]}

    def _move(
        self,
        weights: list[Tensor],
        gradient: list[Tensor],
        moments: list[Moments],
        settings: Settings,
        in_place: bool,
    ) -> list[Tensor]:
        """Return the moved weights of one group, and put moved moments into their dicts."""
        raise NotImplementedError

    def _left_to_torch(
        self, settings: Settings, weights: Collection[Tensor], gradient: Collection[Tensor]
    ) -> bool:
        """Say whether the optimizer of torch.optim has to take this step, because only it has its bits or its error."""
        return False

    def _wrapped(self) -> Rule:
        from fnlib.updates.wrap import Wrapped

        arguments = {key: value for key, value in self._arguments.items() if key != "lr"}
        return Wrapped(self.like, self._arguments["lr"], self._groups, arguments).at(
            self._step_count
        )

    def check_state(self, state: Any, weights: Mapping[str, Tensor]) -> None:
        """Raise `WrongParameters` for a state that no step of such a rule could have left: from a file, or given to ``replace``."""
        if not (isinstance(state, Mapping) and isinstance(state.get("state"), Mapping)):
            raise _wrong_state(
                f"it has no entry 'state' that maps weight names to what {self.name} keeps of each"
            )
        groups = state.get("param_groups")
        if not (
            isinstance(groups, (list, tuple))
            and all(isinstance(group, Mapping) for group in groups)
        ):
            raise _wrong_state("it has no entry 'param_groups' with the settings of each group")
        unknown = state["state"].keys() - weights.keys()
        if unknown:
            raise _wrong_state(
                f"{errors._names(sorted(map(str, unknown)))} is not a weight; expected: {errors._names(weights)}"
            )
        for settings, names in self.partition(weights):
            for name in names:
                self._check_moments(
                    name, state["state"].get(name, {}), self._kept(weights[name], settings)
                )

    def _check_moments(self, name: str, moments: Any, expected: Mapping[str, torch.Size]) -> None:
        """Check what is kept of one weight, or nothing if it has not moved yet."""
        if moments == {}:
            return
        if not isinstance(moments, Mapping) or expected.keys() - moments.keys():
            raise _wrong_state(f"for '{name}' it needs {errors._names(expected)}")
        for key, shape in expected.items():
            if not isinstance(moments[key], Tensor) or moments[key].shape != shape:
                raise _wrong_state(f"'{key}' of '{name}' is not a tensor of shape {tuple(shape)}")

    def _kept(self, weight: Tensor, settings: Settings) -> dict[str, torch.Size]:
        """Name what a step keeps of a weight, and its shapes."""
        raise NotImplementedError

    # --- groups and the rate -----------------------------------------------------------------

    def partition(self, weights: Mapping[str, Tensor]) -> list[tuple[Settings, list[str]]]:
        """Split the weights into groups of equal settings, in the order in which the groups are met."""
        if self._groups is None:
            return [({**self._settings, "lr": self._rate(self._settings["lr"])}, list(weights))]
        parts: list[tuple[Settings, list[str]]] = []
        for name, weight in weights.items():
            own = dict(self._groups(name, share(weight)))
            self._check_group(name, own)
            for settings, names in parts:
                if settings == own:
                    names.append(name)
                    break
            else:
                parts.append((own, [name]))
        merged = [({**self._settings, **own}, names) for own, names in parts]
        return [
            (
                {**settings, "lr": self._rate(settings["lr"])} if "lr" in settings else settings,
                names,
            )
            for settings, names in merged
        ]

    def _check_group(self, name: str, own: Mapping[str, Any]) -> None:
        unknown = own.keys() - self._settings.keys()
        if unknown:
            raise errors.WrongParameters(
                f"groups= gives '{name}' a setting that {type(self).__name__} doesn't have",
                errors._names(sorted(unknown)),
                'groups=lambda name, weight: {"weight_decay": 0.0} if name.endswith("bias") else {}',
            )

    def _rate(self, lr: Any) -> float:
        return float(lr(self._step_count)) if callable(lr) else float(lr)

    # --- being finished, being shown ---------------------------------------------------------

    def _refusal(self, name: str, value: Any) -> Exception:
        return errors.Immutable.rule(self._call(), name, value, name in self._settings)

    def _call(self) -> str:
        """The beginning of the call that makes such a rule."""
        return f"fnlib.{type(self).__name__}("

    def __repr__(self) -> str:
        default = self.like(
            [torch.zeros(1)],
            **({} if "lr" in self.like([torch.zeros(1)]).defaults else {"lr": 1.0}),
        ).defaults
        changed = {
            key: value
            for key, value in self._settings.items()
            if key == "lr" or value != default.get(key)
        }
        written = [f"{key}={getattr(value, '__name__', value)}" for key, value in changed.items()]
        return f"{self._call()}{', '.join(written + (['groups=...'] if self._groups else []))})"


def checked_rule(rule: Any) -> UpdateRule:
    """Return what can be a factory's update rule, and raise `CannotWrap` for anything else."""
    if isinstance(rule, (torch.optim.Optimizer, type)):
        kind = rule if isinstance(rule, type) else type(rule)
        raise errors.CannotWrap(
            kind.__name__,
            "a factory takes an update rule, not an optimizer",
            f"optimizer=fnlib.wrap(torch.optim.{kind.__name__}, lr=0.01)   # right",
            f"optimizer=torch.optim.{kind.__name__}(...)",
        )
    if not all(callable(getattr(rule, method, None)) for method in ("init", "update")):
        raise errors.CannotWrap(
            f"An object of type {type(rule).__name__}",
            "a rule has the methods init(weights) and update(weights, gradient, state)",
            "optimizer=fnlib.SGD(lr=0.01)   # right",
            f"optimizer={errors._code(rule)}",
        )
    return rule


def name_of(rule: UpdateRule) -> str:
    """Return the name by which parameters remember whose state they carry."""
    return getattr(rule, "name", None) or f"{type(rule).__module__}.{type(rule).__qualname__}"


def _wrong_state(detail: str) -> errors.WrongParameters:
    return errors.WrongParameters(
        "The rule of this factory can't continue from this optimizer_state",
        detail,
        "model = ModelFactory(parameters.replace(optimizer_state=None))   # start the rule afresh",
    )


def refuse_flags(settings: Mapping[str, Any]) -> None:
    """Refuse arguments of torch.optim that mean nothing to a functional step."""
    for flag in ("differentiable", "capturable"):
        if settings.get(flag):
            raise errors.CannotWrap(
                f"An optimizer with {flag}=True",
                f"a functional step doesn't support {flag}",
                "optimizer=fnlib.Adam(lr=1e-3)   # right: without it",
                f"optimizer=fnlib.wrap(..., {flag}=True)",
            )


def of_its_own(settings: Settings) -> Settings:
    """Copy settings, so that a list or a tensor that their owner changes later does not change the rule."""
    return {
        key: map_tree(lambda tensor: tensor.detach().clone(), value)
        for key, value in settings.items()
    }


def _are_plain(tensors: list[Tensor]) -> bool:
    """Say whether the results of arithmetic on these are laid out like them, and no view as real numbers is needed."""
    return all(map(Tensor.is_contiguous, tensors)) and not any(map(Tensor.is_complex, tensors))


def _shared(entry: Moments) -> Moments:
    """Share the tensors of a state that a step writes to: not the counters, which it replaces."""
    return {
        key: value if key == "step" or not isinstance(value, Tensor) else share(value)
        for key, value in entry.items()
    }
