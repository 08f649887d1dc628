"""wrap: any class of torch.optim, or of a third party, as an update rule.

An optimizer object is given the weights, the gradient and what its predecessor kept, stepped, and
read out again, so the bits are its own.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import inspect
import pickle
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fnlib import errors
from fnlib.show import words
from fnlib.updates.check import lacks
from fnlib.updates.fused import refuse_broken_kernel
from fnlib.updates.rule import Groups, Moved, Named, Rule, Schedule, Settings, is_number
from fnlib.values.protect import share, share_all
from fnlib.values.trees import map_tree, same_tree, storable

_WEIGHT = "weight:"  # stands for a weight where an optimizer keeps a reference to one

_ID = "id of weight:"  # and where it keeps the id of one
_INNER = "state of an optimizer inside"
_POSITIONAL = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
_CHANGED = ", and this step changed it"
# From weights to the loss there, its gradient, and the weights after the forward pass.
Objective = Callable[[Mapping[str, Tensor]], tuple[Tensor, Mapping[str, Tensor], dict[str, Tensor]]]


class Wrapped(Rule):
    """An update rule made of an optimizer class. See `wrap`."""

    _arguments: Settings  # of the class: `_settings` has its defaults too
    _is_torchs_own: bool
    _unused: list[Any]  # optimizer objects that wait for the next step; copies share the list

    def __init__(
        self, kind: type[torch.optim.Optimizer], settings: Settings, groups: Groups | None
    ) -> None:
        if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
            raise errors.CannotWrap(
                f"An object of type {type(kind).__name__}",
                "wrap takes a class of torch.optim and then its arguments",
                "optimizer=fnlib.wrap(torch.optim.RMSprop, lr=1e-3)   # right",
                f"optimizer=fnlib.wrap({words.code(kind)}, ...)",
            )
        arguments = list(inspect.signature(kind.step).parameters.values())[1:]
        required = [p for p in arguments if p.default is p.empty and p.kind in _POSITIONAL]
        own = kind.__module__.startswith("torch.optim.")  # whose steps change no group or attribute
        vars(self).update(
            like=kind,
            _unused=[],
            _is_torchs_own=own and not required,
            # Those of torch.optim evaluate once and then step, except for LBFGS.
            needs_objective=bool(required),
            takes_both=not own,
        )
        self._set_up(settings, groups)
        vars(self)["_arguments"] = self._settings
        if groups is None:  # some classes cannot be made without their groups
            probe = self._made([nn.Parameter(torch.zeros(2, 2))])  # its own checks and errors
            vars(self)["_settings"] = {**probe.defaults, **self._settings}

    def _takes_number(self, key: str) -> bool:
        """Say whether the class has a number as its default: a function elsewhere is its own."""
        accepted = inspect.signature(self.like).parameters
        return key == "lr" or (key in accepted and is_number(accepted[key].default))

    def _check_group(self, name: str, own: Mapping[str, Any]) -> None:
        """Optimizers take settings in their groups that are no arguments."""

    def _in_groups(self) -> Iterable[str]:
        return self._settings if self._is_torchs_own else ()  # others may keep less, or more

    def _made(self, weights: list[Any]) -> torch.optim.Optimizer:
        """Make the optimizer object: of weights, or of groups of them."""
        drawn = None if self._is_torchs_own else torch.get_rng_state()
        optimizer = self.like(weights, **{**self._arguments, **self._schedules()})
        if drawn is not None and not torch.equal(torch.get_rng_state(), drawn):
            torch.set_rng_state(drawn)
            raise errors.CannotWrap(
                self.like.__name__,
                "its constructor draws random numbers, once in a stock loop but at every functional step",
                "optimizer=fnlib.Adam(lr=1e-3)   # right: draws nothing",
            )
        return optimizer

    def _groups_of(self, weights: Named, places: Named) -> list[dict[str, Any]]:
        """Return groups as an optimizer takes them, of the places of some weights."""
        parts = self._parts(weights)
        return [{"params": [places[name] for name in names], **own} for own, names in parts]

    def update(
        self,
        weights: dict[str, Tensor],
        gradient: Named,
        state: Any,
        *,
        in_place: bool = False,
        objective: Objective | None = None,
    ) -> Moved:
        """Take one step. See `Rule.update`; `objective` evaluates the loss at other weights."""
        if self._is_torchs_own:
            return self._refilled(dict(weights), gradient, state, in_place)
        if objective is None and self.needs_objective:
            raise errors.MissingObjective(self.name)
        return self._revived(dict(weights), gradient, state, in_place, objective)

    # --- classes of torch.optim: their steps change weights and state, so one object serves ----

    def _refilled(
        self, weights: dict[str, Tensor], gradient: Named, state: Any, in_place: bool
    ) -> Moved:
        """Lend everything to an optimizer object that is kept, and take it back after its step."""
        if not in_place:  # an optimizer writes in place, to its counters too
            weights.update((name, _copied(weights[name])) for name in gradient)
        groups = self._groups_of(weights, weights)
        slots: collections.defaultdict[Any, Any] = collections.defaultdict(dict)
        optimizer: Any = None
        with contextlib.suppress(IndexError):
            optimizer = self._unused.pop()  # two threads never get the same one
        if optimizer is None or (optimizer.starts and state["state"].keys() < weights.keys()):
            optimizer = self._made([dict(group) for group in groups])
            optimizer.starts = bool(optimizer.state)  # Adagrad makes state when it is made
            slots.update(optimizer.state)
        scheduled = self._schedules()
        optimizer.param_groups = [{**optimizer.defaults, **scheduled, **own} for own in groups]
        optimizer.state = slots
        for name, entry in state["state"].items():
            copies = not in_place and name in gradient
            own = {key: _copied(value) for key, value in entry.items()} if copies else dict(entry)
            slots[weights[name]] = own
        lists = any(group.get("foreach") or group.get("fused") for group in optimizer.param_groups)
        for name, slope in gradient.items():  # only what takes lists writes to `grad`
            weights[name].grad = share(slope) if lists or not slope.is_cpu else slope
        for group in optimizer.param_groups:
            refuse_broken_kernel(self.like, group, group["params"])
        _step(optimizer, (), state)
        for name in gradient:
            weights[name].grad = None
        new_state = {
            "state": {name: slots[w] for name, w in weights.items() if w in slots},
            "param_groups": [_without_params(group) for group in optimizer.param_groups],
        }
        optimizer.param_groups, optimizer.state = [], {}
        self._unused.append(optimizer)
        return weights, new_state

    # --- other classes: a new object a step, and whatever changed about it is kept -------------

    def _revived(
        self,
        weights: Named,
        gradient: Named,
        state: Any,
        in_place: bool,
        objective: Objective | None,
    ) -> Moved:
        if not in_place:
            weights = dict(zip(weights, share_all(weights.values()), strict=True))
            state = map_tree(share, state)
        places = {name: nn.Parameter(weight) for name, weight in weights.items()}
        for name in gradient:
            places[name].grad = share(gradient[name])  # some optimizers write to it
        optimizer = self._revive(places, state)
        names = {id(place): name for name, place in places.items()}
        label = self.like.__name__
        before = [_frozen_group(group, names, label) for group in optimizer.param_groups]
        attributes = {key: _freeze(value, names, key) for key, value in _own(optimizer).items()}
        closure: Any = () if objective is None else (_closure(places, objective),)
        _step(optimizer, closure, state)
        after = [_frozen_group(group, names, label) for group in optimizer.param_groups]
        pairs = zip(before, after, strict=True)
        changed = {key for old, new in pairs for key in new if not _same(old.get(key), new[key])}
        moved = changed.union(state.get("moved", ()))
        for key in moved:
            if any(isinstance(group.get(key), bytes) for group in after):
                value = optimizer.param_groups[0][key]
                raise errors.CannotStore(f"{label}.param_groups[{key!r}]", value, _CHANGED)
        kept = dict(state.get("attributes", {}))
        for key, value in _own(optimizer).items():
            frozen = _freeze(value, names, key)
            if key not in attributes or not _same(attributes[key], frozen) or key in kept:
                inner = isinstance(frozen, dict) and _INNER in frozen and attributes.get(key)
                if isinstance(frozen, bytes) or (inner and inner["fixed"] != frozen["fixed"]):
                    raise errors.CannotStore(f"{label}.{key}", value, _CHANGED)
                kept[key] = frozen
        groups = [{k: v for k, v in g.items() if not isinstance(v, bytes)} for g in after]
        own, shared = {}, {}
        for key, value in dict[Any, Any](optimizer.state).items():
            if id(key) in names:
                own[names[id(key)]] = storable(_pack(value, names), f"{label}.state")
            elif isinstance(key, str):
                shared[key] = storable(_pack(value, names), f"{label}.state[{key!r}]")
            else:
                raise errors.CannotStore(f"A key of {label}.state", key)
        more = {"shared": shared, "attributes": kept, "moved": sorted(moved)}
        new_state = {"state": own, "param_groups": groups, **{k: v for k, v in more.items() if v}}
        return {name: place.detach() for name, place in places.items()}, new_state

    def _revive(self, places: dict[str, nn.Parameter], state: Any) -> torch.optim.Optimizer:
        """Make the optimizer object that goes on where the last one ended."""
        if self.groups is None:
            optimizer = self._made(list(places.values()))
        else:
            weights = {name: place.detach() for name, place in places.items()}
            optimizer = self._made(self._groups_of(weights, places))
        # What steps changed goes on; what the factory says (another rate) is not overruled.
        moved = set(state.get("moved", ()))
        for group, saved in zip(optimizer.param_groups, state["param_groups"], strict=False):
            goes_on = [key for key in saved if key in moved or key not in group]
            group.update((key, _unpack(saved[key], places)) for key in goes_on)
        for group in optimizer.param_groups if self.groups is None else ():
            group.update({**self._schedules(), **self._parts(places)[0][0]})
        for name, entries in state["state"].items():
            optimizer.state[places[name]] = _unpack(entries, places)
        for key, value in state.get("shared", {}).items():
            optimizer.state[key] = _unpack(value, places)
        for key, value in state.get("attributes", {}).items():
            inner = getattr(optimizer, key, None)
            if isinstance(inner, torch.optim.Optimizer):
                inner.state.update(_unpack(value, places)[_INNER])
            else:
                setattr(optimizer, key, _unpack(value, places))
        return optimizer

    def _call(self) -> str:
        return f"fnlib.wrap({self.like.__module__}.{self.like.__qualname__}, "

    def _written(self) -> Mapping[str, Any]:
        return self._arguments

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_unused": []}  # optimizer objects are this process's own


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
        CannotWrap: this is no optimizer class, or it can't be made anew at each step.
        MissingObjective: at a step, when the optimizer asks for a closure (LBFGS) and the step has
            no ``objective=``.
        CannotStore: at a step, when the optimizer keeps something that a value cannot carry.

    >>> rule = wrap(torch.optim.RMSprop, lr=0.5)
    >>> weights, state = rule.update({"w": torch.tensor([1.0])}, {"w": torch.tensor([2.0])}, rule.init({}))
    >>> weights["w"], sorted(state["state"]["w"])
    (tensor([-4.0000]), ['square_avg', 'step'])
    """
    return Wrapped(kind, settings if lr is None else {"lr": lr, **settings}, groups)


@functools.cache
def _of_every_optimizer() -> frozenset[str]:
    """Name the attributes of every optimizer. Not found on import: the first optimizer makes PyTorch load its compiler, for a second."""
    own = vars(torch.optim.Optimizer([torch.zeros(1)], {}))
    return frozenset([*own, "_opt_called", "_optimizer_step_pre_hooks"])


def _own(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The attributes that this optimizer has beyond those of every optimizer."""
    known, own = _of_every_optimizer(), vars(optimizer).items()
    return {key: value for key, value in own if key not in known and not callable(value)}


def _step(optimizer: torch.optim.Optimizer, closure: Any, state: Any) -> None:
    """Take the step, and name what it misses in a state that other settings left."""
    try:
        optimizer.step(*closure)
    except KeyError as error:
        key = error.args[0] if error.args else None
        entries = [entry for entry in state["state"].values() if isinstance(entry, Mapping)]
        # With a closure, the error may be the objective's own.
        if not closure and isinstance(key, str) and any(e and key not in e for e in entries):
            raise lacks(f"it needs '{key}'") from error  # the error doesn't say of which weight
        raise


def _closure(places: Mapping[str, nn.Parameter], objective: Objective) -> Callable[[], Tensor]:
    """Return what an optimizer calls to evaluate the loss at the weights as they are now."""

    def closure() -> Tensor:
        now = [place.detach() for place in places.values()]
        given = dict(zip(places, share_all(now), strict=True))
        loss, gradient, after = objective(given)
        for name, place in places.items():
            place.grad = share(gradient[name]) if name in gradient else None
            if after[name] is not given[name]:  # Embedding(max_norm=) writes in its forward pass
                place.data.copy_(after[name])
        return loss

    return closure


def _copied(value: Any) -> Any:
    """Copy what will be written to at once: sharing it first would take longer."""
    if isinstance(value, Tensor) and value.is_contiguous():
        return value.clone()
    return map_tree(share, value)


def _without_params(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}


def _frozen_group(group: dict[str, Any], names: Mapping[int, str], label: str) -> dict[str, Any]:
    """The settings of a group as values. What no value can carry (an enum, a function) is the factory's to give again."""
    own, where = _without_params(group).items(), f"{label}.param_groups"
    return {key: _freeze(value, names, where) for key, value in own}


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
    if type(tree) is int and tree in names:
        return _ID + names[tree]
    if isinstance(tree, torch.optim.Optimizer):  # inside of another one, as in SAM
        settings = [_without_params(group) for group in tree.param_groups]
        fixed = _pack([settings, _own(tree)], names)
        return {_INNER: _pack(dict(tree.state), names), "fixed": fixed}
    if isinstance(tree, Mapping):
        keys = [_pack(key, names) if isinstance(key, (Tensor, int)) else key for key in tree]
        values = [_pack(value, names) for value in tree.values()]
        return dict(zip(keys, values, strict=True))
    if type(tree) in (list, tuple):
        return type(tree)(_pack(value, names) for value in tree)
    return tree


def _unpack(tree: Any, places: Mapping[str, nn.Parameter]) -> Any:
    """Undo `_pack`."""
    if isinstance(tree, str):
        if tree.startswith(_ID):
            return id(places[tree[len(_ID) :]])
        return places[tree[len(_WEIGHT) :]] if tree.startswith(_WEIGHT) else tree
    if isinstance(tree, Mapping):
        return {_unpack(key, places): _unpack(value, places) for key, value in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(_unpack(value, places) for value in tree)
    return tree
