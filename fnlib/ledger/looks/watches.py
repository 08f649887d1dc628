"""What is watched: for each kind of object, its places and what stands in them.

A `Watch` reads one object. It reports every tensor and every plain value that training may change, under a place name
and a kind of state; it calls nothing of the user's and keeps no copies (see fnlib/ledger/keeper.py).
"""

from __future__ import annotations

import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fnlib.errors import Donated, FnlibError
from fnlib.ledger.entries import State
from fnlib.ledger.errors import UnknownObject
from fnlib.ledger.looks.octets import octets
from fnlib.ledger.recording.names import MISSING

PLAIN = (bool, int, float, complex, str, type(None), torch.Size, torch.dtype, torch.device)
SCALAR = frozenset({bool, int, float, str, type(None)})
_FLAT = SCALAR | {tuple}
# A number that grows with each write to a dict: one call instead of a comparison of all that is in it.
_guards = getattr(torch._C._dynamo, "guards", None)
dict_version: Callable[[dict[str, Any]], int] | None = getattr(_guards, "dict_version", None)
_requires_grad: Callable[[Tensor], bool] = Tensor.requires_grad.__get__  # type: ignore[attr-defined]
Visit = Callable[[str, State, Any], None]
FOLLOWED = 4  # the order of what is watched without having been asked for


class Watch:
    """One watched object under one label. ``ids`` are the identities by which a statement may name it."""

    given_away = False  # of an fnlib value: its memory went to the next one
    order = 3  # who owns storage that several share: modules, then fnlib values, then optimizers, then the rest

    def __init__(self, label: str, value: Any, *, weakly: bool = False) -> None:
        self.label = label
        self.value: Callable[[], Any] = weakref.ref(value) if weakly else (lambda: value)
        self.weakly = weakly
        self.seen: dict[str, Any] = {}
        self.still: Any = None
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
        """Let go of what was seen, which refers back to the watch."""
        self.seen, self.still = {}, None

    def follow(self) -> None:
        """Watch without having been asked to: what others own stays theirs."""
        self.order = max(self.order, FOLLOWED)

    def read(self, value: Any, tensor: Visit, plain: Visit) -> None:
        """Report each place: tensors to ``tensor``, numbers, flags and texts to ``plain``."""
        raise NotImplementedError

    def flat(self, value: Any, kinds: frozenset[str]) -> tuple[list[Any], list[Tensor]] | None:
        """All of it at once, for a quick comparison: plain values and identities, and tensors. ``None``: it has no such form.

        ``kinds`` are the kinds of state that are watched; tensors of others are left out.
        """
        return None


class ModuleWatch(Watch):
    """Weights, gradients, buffers, requires_grad flags and modes of a module and all its parts."""

    order = 0
    _parts: list[nn.Module] = []
    _children: list[Any] = []
    _last: _Reading | None = None
    _held: tuple[Any, dict[int, str], set[str]] | None = None

    def forget(self) -> None:
        super().forget()
        self._let_go_of_parts()

    def let_go(self) -> None:
        super().let_go()
        self._let_go_of_parts()

    def _let_go_of_parts(self) -> None:
        self._parts, self._children, self._last, self._held = [], [], None, None

    def read(self, value: nn.Module, tensor: Visit, plain: Visit) -> None:
        ids: dict[int, str] = {}
        self.ids = ids
        self._part("", value, tensor, plain, ids)

    def _part(
        self, prefix: str, module: nn.Module, tensor: Visit, plain: Visit, ids: dict[int, str]
    ) -> None:
        if id(module) in ids:
            return
        ids[id(module)] = prefix[:-1]
        tables = module.__dict__
        if "training" in tables:  # a compiled module leaves the mode to the module inside of it
            plain(prefix + "training", "mode flag", tables["training"])
        for name, weight in tables["_parameters"].items():
            if weight is not None:
                place = prefix + name
                tensor(place, "weight", weight)
                plain(place + ".requires_grad", "requires_grad flag", weight.requires_grad)
                if (gradient := weight.grad) is not None:
                    tensor(place + ".grad", "gradient", gradient)
        for name, buffer in tables["_buffers"].items():
            if buffer is not None:
                tensor(prefix + name, "buffer", buffer)
        for name, child in tables["_modules"].items():
            if child is not None:
                self._part(f"{prefix}{name}.", child, tensor, plain, ids)

    def flat(
        self, value: nn.Module, kinds: frozenset[str]
    ) -> tuple[list[Any], list[Tensor]] | None:
        """All but the gradients, which come and go: `Keeper` takes them from the weights.

        The very answer of the last time, if no dict of the module or of its parts was written to, and no flag differs.
        """
        if self._last is not None and self._last.holds(value):
            return self._last.flat
        if "weight" not in kinds and "gradient" in kinds:
            return None
        tables = self.tables(value)
        parts, held, buffers = (
            [table[name] for table in tables] for name in ("_modules", "_parameters", "_buffers")
        )
        weights = [weight for table in held for weight in table.values() if weight is not None]
        plain: list[Any] = [table.get("training") for table in tables]
        plain += map(_requires_grad, weights)
        for some in (parts, held, buffers):  # the names, and how many of them each part has
            plain += map(len, some)
            plain += chain.from_iterable(some)
        tensors = weights
        if "weight" not in kinds:
            plain, tensors = [*plain, *map(id, weights)], []
        if "buffer" in kinds:
            tensors = tensors + [
                buffer for table in buffers for buffer in table.values() if buffer is not None
            ]
        dicts = [*tables, *parts, *held, *buffers]
        flat = plain, tensors
        if dict_version is not None and not self.weakly and all(type(one) is dict for one in dicts):
            self._last = _Reading(dict_version, dicts, weights, flat)
        return flat

    def holds(self, value: nn.Module, others: dict[int, str]) -> set[str]:
        """The labels of those objects, given by identity, that the module or a part of it holds, as a part or an attribute."""
        if (
            self._last is not None
            and self._held is not None
            and self._held[0] is self._last
            and self._held[1] == others
        ):
            return self._held[2]  # nothing was written to it up to the last look
        found = held_in(self.tables(value), others)
        self._held = self._last, others, found
        return found

    def tables(self, value: nn.Module) -> list[dict[str, Any]]:
        """The attributes of a module and of all its parts; those of the last look, if the parts are still the same."""
        parts = self._parts
        if parts and parts[0] is value:
            tables = [part.__dict__ for part in parts]
            children = [child for table in tables for child in table["_modules"].values()]
            if len(children) == len(self._children) and all(map(is_, children, self._children)):
                return tables
        parts, met = [value], {id(value)}
        for part in parts:
            for child in part.__dict__["_modules"].values():
                if child is not None and id(child) not in met:
                    met.add(id(child))
                    parts.append(child)
        tables = [part.__dict__ for part in parts]
        if not self.weakly:
            self._parts, self._children = (
                parts,
                [child for table in tables for child in table["_modules"].values()],
            )
        return tables


class _Reading:
    """What a module and its parts held when their dicts were gone through, and whether they still do.

    Args:
        version: tells the version of a dict.
        dicts: the attributes of the module, first, and of its parts, and the dicts of parts, weights and buffers in them.
        weights: all of them.
        flat: the answer of `ModuleWatch.flat`.
    """

    __slots__ = ("_dicts", "_flags", "_version", "_versions", "_weights", "flat")

    def __init__(
        self,
        version: Callable[[dict[str, Any]], int],
        dicts: list[dict[str, Any]],
        weights: list[Tensor],
        flat: Any,
    ) -> None:
        self._version, self._dicts, self._weights, self.flat = version, dicts, weights, flat
        self._versions, self._flags = list(map(version, dicts)), list(map(_requires_grad, weights))

    def holds(self, module: nn.Module) -> bool:
        """Whether no dict was written to since, and no weight frozen or thawed."""
        if (
            self._dicts[0] is not module.__dict__
            or list(map(self._version, self._dicts)) != self._versions
        ):
            return False
        return list(map(_requires_grad, self._weights)) == self._flags


def held_in(tables: list[dict[str, Any]], others: dict[int, str]) -> set[str]:
    """The labels of those objects, given by identity, that stand in the attributes of modules, or are parts of them."""
    held = {
        id(one) for table in tables for some in (table["_modules"], table) for one in some.values()
    }
    return {others[key] for key in others.keys() & held}


class OptimizerWatch(Watch):
    """Moments and other state, and every entry of the groups. ``label_of`` names the weights that it updates.

    Groups and state that an optimizer shares with one inside it (Lookahead, SAM) are told of that one.
    """

    order = 2

    def __init__(
        self, label: str, value: Any, label_of: Callable[[Tensor], str | None], **how: Any
    ) -> None:
        super().__init__(label, value, **how)
        self.label_of = label_of
        self._wraps = bool(wrapped_by(value))
        self.named: dict[
            int, str
        ] = {}  # state stays in its place when its weight has left the model

    def read(self, value: Optimizer, tensor: Visit, plain: Visit) -> None:
        self.ids = ids = {
            id(value): "",
            id(value.param_groups): "param_groups",
            id(value.state): "state",
        }
        own: dict[int, str] = {}
        groups, states = self._told_here(value)
        for number, group in enumerate(groups):
            prefix = f"param_groups[{number}]"
            ids[id(group)] = prefix
            for name, entry in group.items():
                if name == "params":
                    held = tuple(map(id, entry))
                    own.update((key, f"{prefix}.params[{at}]") for at, key in enumerate(held))
                    plain(prefix + ".params", "group entry", Held(held))
                elif type(entry) in SCALAR:
                    plain(f"{prefix}.{name}", "group entry", entry)
                else:
                    for place, leaf in leaves(f"{prefix}.{name}", entry):
                        (tensor if isinstance(leaf, Tensor) else plain)(place, "group entry", leaf)
        known, self.named = self.named, {}
        for key, state in states.items():
            if isinstance(key, Tensor):
                ids[id(state)] = "state"
                name = (
                    known.get(id(key))
                    or self.label_of(key)
                    or own.get(id(key), "a tensor it does not hold")
                )
                self.named[id(key)] = name
            else:
                name = str(key)
            for place, leaf in leaves(name, state):
                (tensor if isinstance(leaf, Tensor) else plain)(place, "optimizer state", leaf)

    def flat(
        self, value: Optimizer, kinds: frozenset[str]
    ) -> tuple[list[Any], list[Tensor]] | None:
        plain: list[Any] = []
        tensors: list[Tensor] = []
        groups, states = self._told_here(value)
        for group in groups:
            plain.extend([entry for name, entry in group.items() if name != "params"])
            plain.extend(map(id, group["params"]))
        for key, state in states.items():
            plain.append(id(key))
            if not isinstance(state, dict):
                return None
            for entry in state.values() if "optimizer state" in kinds else ():
                (tensors if isinstance(entry, Tensor) else plain).append(entry)
        return (plain, tensors) if _FLAT.issuperset(map(type, plain)) else None

    def _told_here(self, value: Optimizer) -> tuple[list[dict[str, Any]], Mapping[Any, Any]]:
        """Its groups and state, without those that belong to an optimizer inside it."""
        groups, states = value.param_groups, value.state
        for inner in wrapped_by(value).values() if self._wraps else ():
            groups = [] if inner.param_groups is groups else groups
            states = {} if inner.state is states else states  # type: ignore[assignment]
        return groups, states


class Held(tuple[int, ...]):
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
        if leaf:
            plain("requires_grad", "requires_grad flag", value.requires_grad)
            if (gradient := value.grad) is not None:
                tensor("grad", "gradient", gradient)


class DictWatch(Watch):
    """A dict of tensors, nested ones too: a state dict, a checkpoint."""

    def read(self, value: Any, tensor: Visit, plain: Visit) -> None:
        self.ids = {id(value): ""}
        for place, leaf in leaves("", value):
            (tensor if isinstance(leaf, Tensor) else plain)(place, "value", leaf)


class ValueWatch(Watch):
    """An fnlib value: parameters, a gradient, or a model by its parameters."""

    order = 1

    def follow(self) -> None:
        """Nobody else owns what a value holds."""

    def read(self, value: Any, tensor: Visit, plain: Visit) -> None:
        self.ids = {id(value): ""}
        held = parameters_of(value)
        if held is not value:
            self.ids[id(held)] = "parameters"
        try:
            kind: State = "gradient" if type(value).__name__ == "Gradient" else "weight"
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
        except FnlibError as error:  # given away or empty: there is nothing to read, and its places count as removed
            self.given_away = isinstance(error, Donated)


class GeneratorWatch(Watch):
    """A random generator of the program's own."""

    def read(self, value: torch.Generator, tensor: Visit, plain: Visit) -> None:
        self.ids = {id(value): ""}
        plain("", "random state", zlib.crc32(octets(value.get_state())))


class ScalerWatch(Watch):
    """The scale of a gradient scaler, and the steps counted towards its next change."""

    def read(self, value: Any, tensor: Visit, plain: Visit) -> None:
        self.ids = {id(value): ""}
        for name in ("_scale", "_growth_tracker"):
            if isinstance(entry := vars(value).get(name), Tensor):
                tensor(name[1:], "scheduler state", entry)


def leaves(place: str, value: Any, around: tuple[int, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield the tensors and plain values in nested dicts, lists and tuples, each with its place.

    ``around``: the identities of the containers around it; one that contains itself is not gone through again.
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
    """The mapping of tensors behind an fnlib value; ``MISSING`` for anything else."""
    kind = type(value)
    if not kind.__module__.startswith("fnlib"):
        return MISSING
    if kind.__name__ in ("Parameters", "Gradient"):
        return value
    try:
        return getattr(value, "parameters", MISSING)
    except FnlibError:
        return {}


def holds_tensors(value: Any) -> bool:
    """Whether a dict is one of tensors: a state dict, a checkpoint, a list of moments inside."""
    return isinstance(value, dict) and any(
        isinstance(leaf, Tensor) for _, leaf in leaves("", value)
    )


def is_scripted(module: nn.Module) -> bool:
    """Whether a module or a part of it is one of torch.jit, whose tables are not those of a module."""
    if "_modules" not in vars(module):  # so it is, or its ``__init__`` has only begun
        return isinstance(module, torch.jit.ScriptModule)
    return any(isinstance(part, torch.jit.ScriptModule) for part in module.modules())


def wrapped_by(value: Optimizer) -> dict[str, Optimizer]:
    """The optimizers that an optimizer holds and steps itself, by attribute."""
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
    if parameters_of(value) is not MISSING:
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
