"""What is watched: for each kind of object, its places and what they hold.

A `Watch` reads one object. It reports every tensor and every plain value that training may change,
under a place name and a kind of state. It calls no code of the user's and keeps no copies.
"""

from __future__ import annotations

import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fnlib.encapsulated import Sequential as Box
from fnlib.errors import Donated, FnlibError
from fnlib.factory import Model
from fnlib.gradient import Gradient
from fnlib.ledger.entries import State
from fnlib.ledger.errors import UnknownObject
from fnlib.ledger.looks.bytes import window
from fnlib.parameters import Parameters
from fnlib.torch_private import scaler_state

MISSING: Any = object()  # what a name or an attribute holds that isn't there
PLAIN = (bool, int, float, complex, str, type(None), torch.Size, torch.dtype, torch.device)
SCALAR = frozenset({bool, int, float, str, type(None)})
FOLLOWED = 4  # the order of what is watched without having been asked for
_FLAT = SCALAR | {tuple}
_ALONE: Flat = [], []  # a tensor has no parts, and another one gets another look
_OF_TENSORS = ("weight", "value")  # the kinds of a tensor by itself, whose form has its flag
_NONE: dict[str, Any] = {}  # an attribute of a module whose ``__init__`` has only begun
Visit = Callable[[str, State, Any], None]
Flat = tuple[list[Any], list[Any]]


class Watch:
    """One watched object under one label. ``ids`` are the identities by which a statement names it."""

    given_away = False  # of an fnlib value: its memory went to the next one
    replaced = (
        False  # of a box: the last look found another value in it, and the old one is as it was
    )
    order = 3  # who owns storage that several share: modules, fnlib values, optimizers, the rest

    def __init__(self, label: str, value: Any, *, weakly: bool = False) -> None:
        self.label = label
        self.value: Callable[[], Any] = weakref.ref(value) if weakly else (lambda: value)
        self.weakly = weakly
        self.seen: dict[str, Any] = {}
        self.whole: Any = None
        self.deposits: list[tuple[str, Tensor]] = []  # the place of each weight's gradient
        self.ids: dict[int, str] = {}

    def let_go(self) -> None:
        """Watch the object only for as long as the program itself keeps it."""
        value = self.value()
        self.weakly = True
        try:
            self.value = weakref.ref(value)
        except TypeError:
            self.value = lambda: None

    def forget(self) -> None:
        """Drop what was seen, which refers back to the watch."""
        self.seen, self.whole, self.deposits = {}, None, []

    def follow(self) -> None:
        """Watch without having been asked to: what others own stays theirs."""
        self.order = max(self.order, FOLLOWED)

    def read(self, value: Any, tensor: Visit, plain: Visit) -> None:
        """Report each place: tensors to ``tensor``, numbers, flags and texts to ``plain``."""
        raise NotImplementedError

    def flat(self, value: Any, kinds: frozenset[str]) -> Flat | None:
        """List all of it for a quick comparison.

        Args:
            value: the object.
            kinds: of state that are watched.

        Returns:
            Plain values, types and identities, to be compared by value; and objects, all of its
            tensors but for gradients among them. ``None`` for an object that has no such form.
        """
        return None


class ModuleWatch(Watch):
    """Weights, gradients, buffers, requires_grad flags and modes of a module and all its parts."""

    order = 0
    _parts: list[nn.Module] = []

    def forget(self) -> None:
        super().forget()
        self._parts = []

    def let_go(self) -> None:
        super().let_go()
        self._parts = []

    def read(self, value: nn.Module, tensor: Visit, plain: Visit) -> None:
        self.ids, self.deposits, self._parts = {}, [], []
        self._part("", value, tensor, plain)

    def _part(self, prefix: str, module: nn.Module, tensor: Visit, plain: Visit) -> None:
        if id(module) in self.ids:
            return
        self.ids[id(module)] = prefix[:-1]
        tables = module.__dict__
        if "training" in tables:  # a compiled module leaves the mode to the module inside of it
            plain(prefix + "training", "mode flag", tables["training"])
        for name, weight in tables.get("_parameters", _NONE).items():
            if weight is not None:
                place = prefix + name
                tensor(place, "weight", weight)
                plain(place + ".requires_grad", "requires_grad flag", weight.requires_grad)
                self.deposits.append((place + ".grad", weight))
                if (gradient := weight.grad) is not None:
                    tensor(place + ".grad", "gradient", gradient)
        for name, buffer in tables.get("_buffers", _NONE).items():
            if buffer is not None:
                tensor(prefix + name, "buffer", buffer)
        for name, child in tables.get("_modules", _NONE).items():
            if child is not None:
                self._part(f"{prefix}{name}.", child, tensor, plain)

    def flat(self, value: nn.Module, kinds: frozenset[str]) -> Flat:
        tables = self.tables(value)
        modes = list(map(dict.get, tables, repeat("training")))
        parts = list(map(dict.get, tables, repeat("_modules"), repeat(_NONE)))
        held = list(map(dict.get, tables, repeat("_parameters"), repeat(_NONE)))
        held += map(dict.get, tables, repeat("_buffers"), repeat(_NONE))
        plain = [*modes, *map(type, modes), *map(tuple, parts), *map(tuple, held)]
        plain += map(id, chain.from_iterable(map(dict.values, parts)))
        if "weight" not in kinds:  # else the flags belong to the forms of the weights
            plain += [weight.requires_grad for _, weight in self.deposits]
        return plain, list(chain.from_iterable(map(dict.values, held)))

    def tables(self, value: nn.Module) -> list[dict[str, Any]]:
        """Return the attributes of a module and of all its parts, as the last look met them."""
        parts = self._parts
        if not parts:
            found: dict[int, nn.Module] = {}
            waiting: list[nn.Module | None] = [value]
            for part in waiting:
                if part is not None and id(part) not in found:
                    found[id(part)] = part
                    waiting += part.__dict__.get("_modules", _NONE).values()
            parts = list(found.values())
        if not self.weakly:
            self._parts = parts
        return [part.__dict__ for part in parts]


def held_in(tables: list[dict[str, Any]], others: dict[int, str]) -> set[str]:
    """Return the labels of those objects, given by identity, that modules hold as attributes."""
    held = [some.values() for table in tables for some in (table.get("_modules", _NONE), table)]
    # Without a Python loop, as a network has many attributes.
    found = others.keys() & map(id, chain.from_iterable(held))
    return {others[key] for key in found}


class OptimizerWatch(Watch):
    """Moments and other state, and every entry of the groups; ``label_of`` names its weights.

    Groups and state that it shares with an optimizer inside of it (Lookahead, SAM) belong to that.
    """

    order = 2

    def __init__(
        self, label: str, value: Any, label_of: Callable[[Tensor], str | None], **how: Any
    ) -> None:
        super().__init__(label, value, **how)
        self.label_of = label_of
        self._wraps = bool(wrapped_by(value))
        # State stays in its place when its weight has left the model.
        self.named: dict[int, str] = {}

    def read(self, value: Optimizer, tensor: Visit, plain: Visit) -> None:
        self.ids = ids = {
            id(value): "",
            id(value.param_groups): "param_groups",
            id(value.state): "state",
        }
        own: dict[int, str] = {}
        groups, states = self._own(value)
        for number, group in enumerate(groups):
            prefix = f"param_groups[{number}]"
            ids[id(group)] = prefix
            for name, entry in group.items():
                if name == "params":
                    held = tuple(map(id, entry))
                    own.update((key, f"{prefix}.params[{at}]") for at, key in enumerate(held))
                    plain(prefix + ".params", "group entry", Membership(held))
                elif type(entry) in SCALAR:
                    plain(f"{prefix}.{name}", "group entry", entry)
                else:
                    for place, leaf in leaves(f"{prefix}.{name}", entry):
                        (tensor if isinstance(leaf, Tensor) else plain)(place, "group entry", leaf)
        known, self.named = self.named, {}
        for key, state in states.items():
            if isinstance(key, Tensor):
                ids[id(state)] = "state"
                name = known.get(id(key)) or self.label_of(key) or ""
                if not name or name in self.named.values():  # the layer was replaced by another
                    name = own.get(id(key), "a tensor it does not hold")
                self.named[id(key)] = name
            else:
                name = str(key)
            for place, leaf in leaves(name, state):
                (tensor if isinstance(leaf, Tensor) else plain)(place, "optimizer state", leaf)

    def flat(self, value: Optimizer, kinds: frozenset[str]) -> Flat | None:
        plain: list[Any] = []
        held: list[Any] = []
        groups, states = self._own(value)
        for group in groups:
            plain += [entry for name, entry in group.items() if name != "params"]
            held += group["params"]
        for key, state in states.items():
            held.append(key)
            if not isinstance(state, dict):
                return None
            for entry in state.values() if "optimizer state" in kinds else ():
                (held if isinstance(entry, Tensor) else plain).append(entry)
        types = list(map(type, plain))
        return (plain + types, held) if _FLAT.issuperset(types) else None

    def _own(self, value: Optimizer) -> tuple[list[dict[str, Any]], Mapping[Any, Any]]:
        """Return its groups and state without those of an optimizer inside of it."""
        groups, states = value.param_groups, value.state
        for inner in wrapped_by(value).values() if self._wraps else ():
            groups = [] if inner.param_groups is groups else groups
            states = {} if inner.state is states else states  # type: ignore[assignment]
        return groups, states


class Membership(tuple[int, ...]):
    """Identities of the tensors that a group holds; prints as their number."""

    def __str__(self) -> str:
        return f"{len(self)} tensor" + "s" * (len(self) != 1)

    __repr__ = __str__


class SchedulerWatch(Watch):
    """The position and settings of a learning-rate scheduler; the rates themselves are the optimizer's."""

    def read(self, value: Any, tensor: Visit, plain: Visit) -> None:
        self.ids = {id(value): ""}
        for name, entry in vars(value).items():
            if name != "optimizer" and not callable(entry):
                for place, leaf in leaves(name, entry):
                    if not isinstance(leaf, (Optimizer, LRScheduler)):
                        (tensor if isinstance(leaf, Tensor) else plain)(
                            place, "scheduler state", leaf
                        )


class TensorWatch(Watch):
    """A tensor by itself: its numbers, its gradient, its requires_grad flag."""

    def read(self, value: Tensor, tensor: Visit, plain: Visit) -> None:
        leaf = value.is_leaf
        trained = leaf and value.requires_grad
        tensor("", "weight" if trained and self.order < FOLLOWED else "value", value)
        self.deposits = [("grad", value)] if leaf else []
        if leaf:
            plain("requires_grad", "requires_grad flag", value.requires_grad)
            if (gradient := value.grad) is not None:
                tensor("grad", "gradient", gradient)

    def flat(self, value: Tensor, kinds: frozenset[str]) -> Flat:
        return _ALONE if kinds.issuperset(_OF_TENSORS) else ([value.requires_grad], [])


class DictWatch(Watch):
    """A dict of tensors, nested ones too: a state dict, a checkpoint."""

    def read(self, value: Any, tensor: Visit, plain: Visit) -> None:
        self.ids = {id(value): ""}
        for place, leaf in leaves("", value):
            (tensor if isinstance(leaf, Tensor) else plain)(place, "value", leaf)


class ValueWatch(Watch):
    """An fnlib value: parameters, a gradient, or the parameters of a model or a box."""

    order = 1
    _held: Callable[[], Any] | None = None

    def follow(self) -> None:
        """Nobody else owns what a value holds."""

    def read(self, value: Any, tensor: Visit, plain: Visit) -> None:
        self.ids = {id(value): ""}
        try:
            held = parameters_of(value)
            if held is not value:
                self.ids[id(held)] = "parameters"
            if isinstance(value, Box):
                self.replaced = self._held is not None and self._held() is not held
                self._held = weakref.ref(held)
            kind: State = "gradient" if isinstance(value, Gradient) else "weight"
            for name, weight in held.items():
                tensor(name, kind, weight)
            for name, buffer in getattr(held, "buffers", {}).items():
                tensor(name, "buffer", buffer)
            state = getattr(held, "optimizer_state", None) or {}
            for name, entries in state.items():
                for place, leaf in leaves(
                    "" if name in ("state", "param_groups") else name, entries
                ):
                    kind = "group entry" if name == "param_groups" else "optimizer state"
                    (tensor if isinstance(leaf, Tensor) else plain)(place, kind, leaf)
            if (steps := getattr(held, "step_count", None)) is not None:
                plain("step_count", "optimizer state", steps)
        except FnlibError as error:  # given away or empty: its places count as removed
            self.given_away = isinstance(error, Donated)


class GeneratorWatch(Watch):
    """A random generator of the program's own."""

    def read(self, value: torch.Generator, tensor: Visit, plain: Visit) -> None:
        self.ids = {id(value): ""}
        state = value.get_state()
        plain("", "random state", zlib.crc32(window(state)))


class ScalerWatch(Watch):
    """The scale of a gradient scaler, and the steps counted towards its next change."""

    def read(self, value: Any, tensor: Visit, plain: Visit) -> None:
        self.ids = {id(value): ""}
        for name, entry in scaler_state(value).items():
            (tensor if isinstance(entry, Tensor) else plain)(name, "scheduler state", entry)


def leaves(place: str, value: Any, around: tuple[int, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield the tensors and plain values in nested dicts, lists and tuples, each with its place.

    ``around`` are the identities of the containers around it; one that contains itself is left out.
    """
    if isinstance(value, (Tensor, *PLAIN)):
        yield place, value
    elif isinstance(value, (Mapping, list, tuple)) and id(value) not in around:
        around = (*around, id(value))
        if isinstance(value, Mapping):
            for key, entry in value.items():
                yield from leaves(f"{place}.{key}" if place else str(key), entry, around)
        else:
            for number, entry in enumerate(value):
                yield from leaves(f"{place}[{number}]", entry, around)


def parameters_of(value: Any) -> Any:
    """Return the mapping of tensors behind an fnlib value; ``None`` for anything else."""
    if isinstance(value, (Parameters, Gradient)):
        return value
    if not isinstance(value, (Model, Box)):
        return None
    try:
        return value.parameters
    except FnlibError:
        return {}


def holds_tensors(value: Any) -> bool:
    """Say whether a dict has tensors in it: a state dict, a checkpoint."""
    return isinstance(value, dict) and any(
        isinstance(leaf, Tensor) for _, leaf in leaves("", value)
    )


def is_scripted(module: nn.Module) -> bool:
    """Say whether a module or a part of it is one of torch.jit, which has other tables."""
    if "_modules" not in vars(module):  # so it is, or its ``__init__`` has only begun
        return isinstance(module, torch.jit.ScriptModule)
    return any(isinstance(part, torch.jit.ScriptModule) for part in module.modules())


def wrapped_by(value: Optimizer) -> dict[str, Optimizer]:
    """Return the optimizers that an optimizer holds and steps itself, by attribute."""
    return {
        name: one
        for name, one in vars(value).items()
        if isinstance(one, Optimizer) and one is not value
    }


def watch(
    name: str, value: Any, label_of: Callable[[Tensor], str | None], *, weakly: bool = False
) -> list[Watch]:
    """Make the watches for one object; several for a list of them, and for an optimizer around others.

    Raises:
        UnknownObject: it is of a kind whose state the ledger does not know.
    """
    if isinstance(value, nn.Module):
        if is_scripted(value):
            raise UnknownObject(name, value)
        return [ModuleWatch(name, value, weakly=weakly)]
    if isinstance(value, Optimizer):
        inner = [
            watch(f"{name}.{part}", one, label_of, weakly=weakly)
            for part, one in wrapped_by(value).items()
        ]
        return [OptimizerWatch(name, value, label_of, weakly=weakly), *chain.from_iterable(inner)]
    if isinstance(value, LRScheduler):
        return [SchedulerWatch(name, value, weakly=weakly)]
    if isinstance(value, Tensor):
        return [TensorWatch(name, value, weakly=weakly)]
    if isinstance(value, torch.Generator):
        return [GeneratorWatch(name, value)]
    if isinstance(value, torch.amp.GradScaler):
        return [ScalerWatch(name, value, weakly=weakly)]
    if parameters_of(value) is not None:
        return [ValueWatch(name, value, weakly=weakly)]
    if isinstance(value, dict) and (not value or holds_tensors(value)):
        return [DictWatch(name, value)]
    if isinstance(value, (list, tuple)) and value:
        return [
            one
            for at, entry in enumerate(value)
            for one in watch(f"{name}[{at}]", entry, label_of, weakly=weakly)
        ]
    raise UnknownObject(name, value)
