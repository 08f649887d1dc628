"""wrap: any class of torch.optim, or of a third party, as an update rule.

An optimizer object is made for one step, given the weights, the gradient and everything that its
predecessor kept, stepped, and read out again. The object does what it always did, so the bits are its own;
what it keeps becomes a value.
"""

from __future__ import annotations

import functools
import inspect
import pickle
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fnlib import errors
from fnlib.updates.kernels import refuse_broken_kernel
from fnlib.updates.rule import Groups, Rule, Schedule, Settings, of_its_own, refuse_flags
from fnlib.values.protect import share
from fnlib.values.trees import map_tree, same_tree, storable

_WEIGHT = "weight:"  # stands for a weight where an optimizer keeps a reference to one


class Wrapped(Rule):
    """An update rule made of an optimizer class. See `wrap`."""

    def __init__(
        self,
        kind: type[torch.optim.Optimizer],
        lr: float | Tensor | Schedule | None,
        groups: Groups | None,
        settings: dict[str, Any],
    ) -> None:
        if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
            raise errors.CannotWrap(
                f"An object of type {type(kind).__name__}",
                "wrap takes a class of torch.optim and then its arguments",
                "optimizer=fnlib.wrap(torch.optim.RMSprop, lr=1e-3)   # right",
                f"optimizer=fnlib.wrap({errors._code(kind)}, ...)",
            )
        required = [
            p
            for p in list(inspect.signature(kind.step).parameters.values())[1:]
            if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        if required:
            raise errors.CannotWrap(
                kind.__name__,
                "its step() needs a closure that evaluates the loss again, but a functional step gets a gradient",
                "optimizer=fnlib.Adam(lr=1e-3)   # right: needs one gradient a step",
            )
        refuse_flags(settings)
        self.like, self._groups, self._step_count = kind, groups, 0
        self._arguments = of_its_own(settings if lr is None else {"lr": lr, **settings})
        self._settings = dict(self._arguments)
        if groups is None:  # some classes cannot be made without their groups
            probe = self._made([nn.Parameter(torch.zeros(2, 2))])  # its own checks, its own errors
            self._settings = {**probe.defaults, **self._settings}

    def _kept(self, weight: Tensor, settings: Settings) -> dict[str, torch.Size]:
        return {}  # what an optimizer makes of its state is its own

    def _made(self, weights: list[Any]) -> torch.optim.Optimizer:
        """Make the optimizer object: of weights, or of groups of them."""
        lr = self._arguments.get("lr")
        drawn = torch.get_rng_state()
        optimizer = self.like(
            weights,
            **{**self._arguments, "lr": self._rate(lr)} if callable(lr) else self._arguments,
        )
        if not torch.equal(torch.get_rng_state(), drawn):
            torch.set_rng_state(drawn)
            raise errors.CannotWrap(
                self.like.__name__,
                "its constructor draws random numbers, once in a stock loop but at every functional step",
                "optimizer=fnlib.Adam(lr=1e-3)   # right: draws nothing",
            )
        return optimizer

    def _check_group(self, name: str, own: Mapping[str, Any]) -> None:
        """Optimizers take settings in their groups that are no arguments."""

    def update(
        self,
        weights: dict[str, Tensor],
        gradient: Mapping[str, Tensor],
        state: Any,
        *,
        in_place: bool = False,
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Take one step. See `Rule.update`."""
        if not in_place:  # an optimizer writes in place, to its counters too
            weights, state = (
                {name: share(weights[name]) for name in weights},
                map_tree(share, state),
            )
        places = {name: nn.Parameter(weight) for name, weight in weights.items()}
        for name, place in places.items():
            if name in gradient:
                place.grad = share(gradient[name])  # some optimizers write to it
        optimizer = self._revive(places, state)
        names = {id(place): name for name, place in places.items()}
        label = self.like.__name__
        for group in optimizer.param_groups:
            refuse_broken_kernel(self.like, group, group["params"])
        before = [_frozen_group(group, names, label) for group in optimizer.param_groups]
        attributes = {key: _freeze(value, names, key) for key, value in _own(optimizer).items()}
        optimizer.step()
        after = [_frozen_group(group, names, label) for group in optimizer.param_groups]
        moved = set(state.get("moved", ())) | {
            key
            for old, new in zip(before, after, strict=True)
            for key in new
            if not _same(old.get(key), new[key])
        }
        for key in moved:
            if any(isinstance(group.get(key), bytes) for group in after):
                raise errors.CannotStore(
                    f"{label}.param_groups[{key!r}]",
                    optimizer.param_groups[0][key],
                    ", and this step changed it",
                )
        kept = dict(state.get("attributes", {}))
        for key, value in _own(optimizer).items():
            frozen = _freeze(value, names, key)
            if key not in attributes or not _same(attributes[key], frozen) or key in kept:
                if isinstance(frozen, bytes):
                    raise errors.CannotStore(
                        f"{self.like.__name__}.{key}", value, ", and this step changed it"
                    )
                kept[key] = frozen
        new_state: dict[str, Any] = {
            "state": {},
            "param_groups": [
                {k: v for k, v in group.items() if not isinstance(v, bytes)} for group in after
            ],
        }
        for key, value in dict[Any, Any](optimizer.state).items():
            if id(key) in names:
                new_state["state"][names[id(key)]] = storable(_pack(value, names), f"{label}.state")
            elif isinstance(key, str):
                new_state.setdefault("shared", {})[key] = storable(
                    _pack(value, names), f"{label}.state[{key!r}]"
                )
            else:
                raise errors.CannotStore(f"A key of {label}.state", key)
        if kept:
            new_state["attributes"] = kept
        if moved:
            new_state["moved"] = sorted(moved)
        return {name: place.detach() for name, place in places.items()}, new_state

    def _revive(self, places: dict[str, nn.Parameter], state: Any) -> torch.optim.Optimizer:
        """Make the optimizer object that goes on where the last one ended."""
        if self._groups is None:
            optimizer = self._made(list(places.values()))
        else:
            partition = self.partition({name: place.detach() for name, place in places.items()})
            own = [
                {key: value for key, value in settings.items() if key in self._given(names, places)}
                for settings, names in partition
            ]
            groups = [
                {"params": [places[name] for name in names], **settings}
                for (_, names), settings in zip(partition, own, strict=True)
            ]
            optimizer = self._made(groups)
        # What steps changed goes on; what the factory says (a new rate, say) is not overruled by what was saved.
        moved = set(state.get("moved", ()))
        for group, saved in zip(optimizer.param_groups, state["param_groups"], strict=False):
            group.update(
                {
                    key: _unpack(value, places)
                    for key, value in saved.items()
                    if key in moved or key not in group
                }
            )
        if callable(self._settings.get("lr")) and self._groups is None:
            for group in optimizer.param_groups:
                group["lr"] = self._rate(self._settings["lr"])
        for name, entries in state["state"].items():
            optimizer.state[places[name]] = _unpack(entries, places)
        for key, value in state.get("shared", {}).items():
            optimizer.state[key] = _unpack(value, places)
        for key, value in state.get("attributes", {}).items():
            setattr(optimizer, key, _unpack(value, places))
        return optimizer

    def _given(self, names: list[str], places: Mapping[str, nn.Parameter]) -> set[str]:
        """Name the settings that groups= gives to these weights; the others are the optimizer's to fill in."""
        assert self._groups is not None
        return {"lr"} & self._arguments.keys() | set(
            self._groups(names[0], places[names[0]].detach())
        )

    def _call(self) -> str:
        return f"fnlib.wrap({self.like.__module__}.{self.like.__qualname__}, "

    def __repr__(self) -> str:
        written = [
            f"{key}={getattr(value, '__name__', value)}" for key, value in self._arguments.items()
        ]
        return f"{self._call()}{', '.join(written + (['groups=...'] if self._groups else []))})"


def wrap(
    kind: type[torch.optim.Optimizer],
    *,
    lr: float | Tensor | Schedule | None = None,
    groups: Groups | None = None,
    **settings: Any,
) -> Wrapped:
    """Turn an optimizer class into an update rule.

    Args:
        kind: ``torch.optim.RMSprop``, or any other subclass of ``torch.optim.Optimizer``.
        lr: the learning rate, or a function of the step count (the first step uses ``lr(0)``).
        groups: a function of a weight's name and the weight that returns settings of its own.
        settings: the other arguments of the class.

    Returns:
        A rule whose steps have the bits of the optimizer's.

    Raises:
        CannotWrap: the optimizer needs more than a gradient (LBFGS asks for a closure).
        CannotStore: at a step, when the optimizer keeps something that a value cannot carry.

    >>> rule = wrap(torch.optim.RMSprop, lr=0.5)
    >>> weights, state = rule.update({"w": torch.tensor([1.0])}, {"w": torch.tensor([2.0])}, rule.init({}))
    >>> weights["w"], sorted(state["state"]["w"])
    (tensor([-4.0000]), ['square_avg', 'step'])
    """
    return Wrapped(kind, lr, groups, settings)


@functools.cache
def _of_every_optimizer() -> frozenset[str]:
    """Name the attributes of every optimizer. Not found on import: the first optimizer makes PyTorch load its compiler, for a second."""
    return frozenset(vars(torch.optim.Optimizer([torch.zeros(1)], {}))) | {
        "_opt_called",
        "_optimizer_step_pre_hooks",
    }


def _own(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The attributes that this optimizer has beyond those of every optimizer."""
    known = _of_every_optimizer()
    return {
        key: value
        for key, value in vars(optimizer).items()
        if key not in known and not callable(value)
    }


def _frozen_group(group: dict[str, Any], names: Mapping[int, str], label: str) -> dict[str, Any]:
    """The settings of a group as values. What no value can carry (an enum, a function) is the factory's to give again."""
    return {
        key: _freeze(value, names, f"{label}.param_groups")
        for key, value in group.items()
        if key != "params"
    }


def _freeze(value: Any, names: Mapping[int, str], label: str) -> Any:
    """Return what can be compared later: a tree, or the bytes of an object that is none."""
    try:
        return storable(_pack(value, names), label)
    except errors.CannotStore:
        try:
            return pickle.dumps(value)
        except Exception:  # cannot be pickled: then it is only itself
            return id(value).to_bytes(8, "little")


def _same(before: Any, after: Any) -> bool:
    return before is after or same_tree(before, after)


def _pack(tree: Any, names: Mapping[int, str]) -> Any:
    """Copy a tree with each reference to a weight replaced by its name."""
    if isinstance(tree, Tensor):
        return _WEIGHT + names[id(tree)] if id(tree) in names else tree
    if isinstance(tree, Mapping):
        return {
            _WEIGHT + names[id(key)] if id(key) in names else key: _pack(value, names)
            for key, value in tree.items()
        }
    if type(tree) in (list, tuple):
        return type(tree)(_pack(value, names) for value in tree)
    return tree


def _unpack(tree: Any, places: Mapping[str, nn.Parameter]) -> Any:
    """Undo `_pack`."""
    if isinstance(tree, str):
        return places[tree[len(_WEIGHT) :]] if tree.startswith(_WEIGHT) else tree
    if isinstance(tree, Mapping):
        return {_unpack(key, places): _unpack(value, places) for key, value in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(_unpack(value, places) for value in tree)
    return tree
