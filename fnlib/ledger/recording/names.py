"""The names of a recorded frame: what they stand for, which were rebound, and watching their values.

A statement names an owner if a name, dotted name or constant subscript in its text is that owner,
a part of it, or one of its tensors. A module that contains the owner names it too (a compiled or
wrapped model, a box that holds its network and its optimizer).
"""

from __future__ import annotations

import inspect
import types
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fnlib.errors import FnlibError
from fnlib.ledger.entries import UNNAMED, Bound, Change, Kind
from fnlib.ledger.looks.bytes import checksum, name_of, unreadable
from fnlib.ledger.looks.differ import Keeper
from fnlib.ledger.looks.watches import (
    MISSING,
    SCALAR,
    OptimizerWatch,
    TensorWatch,
    Watch,
    holds_tensors,
    is_scripted,
    leaves,
    parameters_of,
    watch,
)
from fnlib.ledger.recording.graphs import Graph, age_of_tensor, graph_of
from fnlib.ledger.recording.hidden import hidden_in
from fnlib.ledger.recording.source import Path, Subscript
from fnlib.torch_private import is_own

FOLLOWED_SIZE = 4_000_000  # numbers in a tensor that is followed without having been asked for
FOLLOWED_PLACES = 5_000  # values in a followed dict; one with more is a data set
_DISCOVERED = (nn.Module, Optimizer, LRScheduler, torch.amp.GradScaler)
_SLOT = types.MemberDescriptorType  # read by C code, so nothing of the user's runs
_LEDGER = "fnlib.ledger.ledger"  # the module of `Ledger`; a user's class may have that name, too
_FUNCTION = inspect.CO_OPTIMIZED  # not a module, nor the body of a class


class Scope:
    """Look a frame's names up where the interpreter would.

    A function's own names never stand for a global of the same name, bound or not.
    """

    __slots__ = ("_frame", "_own", "_world", "local")

    def __init__(self, frame: types.FrameType) -> None:
        code = frame.f_code
        names = (*code.co_varnames, *code.co_cellvars, *code.co_freevars)
        self._own = frozenset(names if code.co_flags & _FUNCTION else ())
        self._frame, self._world = frame, frame.f_globals
        self.renew()

    def renew(self) -> None:
        """Read the names anew: before Python 3.13 they are a copy."""
        self.local: Mapping[str, Any] = self._frame.f_locals

    def find(self, name: str) -> Any:
        """Return what a name stands for, ``MISSING`` if it isn't bound."""
        local = self.local
        if name in local:
            return local[name]
        return MISSING if name in self._own else self._world.get(name, MISSING)

    def find_all(self, names: list[str]) -> list[Any]:
        """Do what `find` does for many names, without a call for each."""
        local, own, world = self.local, self._own, self._world
        return [
            local[name] if name in local else MISSING if name in own else world.get(name, MISSING)
            for name in names
        ]

    def along(self, path: Path) -> Iterable[Any]:
        """Return the value of each prefix of a path, as far as it is found without a call."""
        value = self.find(str(path[0]))
        if len(path) > 1:
            return _along(value, path)
        return () if value is MISSING else (value,)


def values_along(path: Path, local: dict[str, Any], world: dict[str, Any]) -> Iterator[Any]:
    """Yield the value of each prefix of a path, with the names of two dicts."""
    name = str(path[0])
    return _along(local[name] if name in local else world.get(name, MISSING), path)


def _along(value: Any, path: Path) -> Iterator[Any]:
    for step in path[1:]:
        if value is MISSING:
            return
        yield value
        value = (
            _item(value, step.key) if isinstance(step, Subscript) else attribute(value, str(step))
        )
    if value is not MISSING:
        yield value


def attribute(value: Any, name: str) -> Any:
    """Return an attribute that is stored; ``MISSING`` for what would have to be computed."""
    try:
        stored = object.__getattribute__(value, "__dict__")
    except (AttributeError, TypeError):
        stored = {}
    if name in stored:
        return stored[name]
    if isinstance(value, nn.Module):
        for table in ("_modules", "_parameters", "_buffers"):
            if name in stored.get(table, ()):
                return stored[table][name]
    if name == "grad" and isinstance(value, Tensor) and _has_plain_grad(value):
        return value.grad if value.is_leaf else MISSING
    for kind in type(value).__mro__:
        if name in kind.__dict__:
            found = kind.__dict__[name]
            if isinstance(found, _SLOT):
                try:
                    return found.__get__(value)
                except AttributeError:
                    return MISSING
            return MISSING if hasattr(type(found), "__get__") else found
    return MISSING


def _has_plain_grad(value: Tensor) -> bool:
    return type(value).__torch_function__ is Tensor.__torch_function__


def _item(value: Any, key: Any) -> Any:
    """Return an item of a plain container or of a module list; ``MISSING`` for any other class."""
    if isinstance(value, (nn.Sequential, nn.ModuleList)) and isinstance(key, int):
        children = list(value.__dict__.get("_modules", {}).values())
        return children[key] if -len(children) <= key < len(children) else MISSING
    if isinstance(value, nn.ModuleDict):
        return value.__dict__.get("_modules", {}).get(key, MISSING)
    if type(value) in (list, tuple, dict, OrderedDict):
        try:
            return value[key]
        except (LookupError, TypeError):
            return MISSING
    return MISSING


# --- names that are rebound ----------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class _Name:
    """What a name was bound to at the last look; tensors, modules and fnlib values held weakly.

    ``traced``: a tensor behind which a graph may grow.
    """

    held: Any
    bound: Bound
    age: int | None = None
    weak: bool = False
    traced: bool = False
    graph: Graph | None = None

    def value(self) -> Any:
        """Return it; ``None`` if it's gone."""
        return self.held() if self.weak else self.held


class Names:
    """The names of one frame that its recorded statements mention.

    Args:
        keeper: watches what they are bound to.
        scope: of the frame.
        names: that the statements mention.
        follow: whether tensors, dicts of tensors and fnlib values are watched.
        discover: whether modules, optimizers and schedulers are watched.
    """

    def __init__(
        self, keeper: Keeper, scope: Scope, names: frozenset[str], *, follow: bool, discover: bool
    ) -> None:
        self.keeper, self.scope, self.names = keeper, scope, sorted(names)
        self.follow, self.discover = follow, discover
        self.known: dict[str, _Name] = {}
        self.followed: dict[str, list[Watch]] = {}

    def begin(self) -> None:
        """Take the names as they are; none of them counts as bound by a statement."""
        for name in self.names:
            try:
                value = self.scope.find(name)
                if value is not MISSING:
                    self.known[name] = self._remember(value, None)
                    self._watch(name, value)
            except Exception as error:
                self.keeper.fault(name, error)

    def end(self) -> None:
        """Stop following: the frame has ended, and its names are gone."""
        for name in list(self.followed):
            self._unfollow(name)

    def met(self, path: Path, value: Any) -> None:
        """Begin to watch what a statement names, if it's a module, an optimizer or the like."""
        if isinstance(value, _DISCOVERED) and not self._is_watched(value):
            self._discover(_written(path), value)

    def rebound(self) -> list[Change]:
        """Return a change for each name with another value than at the last look; follow those."""
        changes: list[Change] = []
        values, get = self.scope.find_all(self.names), self.known.get
        for name, value in zip(self.names, values, strict=True):
            before = get(name)
            try:
                if before is None:
                    if value is not MISSING:
                        self._bind(name, value, None, changes)
                elif not before.weak:
                    if before.held is not value:
                        self._exchange(name, value, before, changes)
                elif before.held() is not value or value is None:
                    self._exchange(name, value, before, changes)
                elif before.traced and before.age != age_of_tensor(value):
                    self._grow(name, value, before, changes)
            except Exception as error:
                self.keeper.fault(name, error)
        return changes

    def drawn(self, changes: list[Change]) -> None:
        """Note the contents of the tensors without a graph that a drawing statement has bound.

        Nobody asks about others, and a checksum of each large batch is 6 % of a recorded step.
        """
        for change in changes:
            if change.state == "name" and change.after is not None and not change.after.nodes:
                for one in self.followed.get(change.owner, ()):
                    seen = one.seen.get("")  # of a tensor by itself
                    if seen is not None and seen.octets is not None:
                        change.after.contents = checksum(seen.octets)

    def _exchange(self, name: str, value: Any, before: _Name, changes: list[Change]) -> None:
        if value is MISSING:
            del self.known[name]
            self._unfollow(name)
            changes.append(Change(name, "", "name", "removed", before.bound))
        else:
            self._bind(name, value, before, changes)

    def _grow(self, name: str, value: Tensor, before: _Name, changes: list[Change]) -> None:
        now = self.known[name] = self._remember(value, before)
        grown = Change(name, "graph", "graph", "changed in place", before.bound, now.bound)
        grown.note = f"{now.bound.nodes} nodes"
        changes.append(grown)

    def graph_behind(self, tensor: Tensor) -> Graph | None:
        """Return the graph behind a named tensor as it was read at the last look."""
        for known in self.known.values():
            if known.graph is not None and known.value() is tensor:
                return known.graph if known.age == age_of_tensor(tensor) else None
        return None

    def used_up(
        self, passes: list[tuple[dict[str, Any], frozenset[int]]], begun: int
    ) -> list[Change]:
        """Return a change for each backward pass, which frees or keeps a graph.

        A graph without a name that the statement built itself, after the age ``begun``, is left out.
        """
        changes = []
        for data, ages in passes:
            if data["raised"] or not ages:
                continue
            names = [name for name, known in self.known.items() if known.age in ages]
            if not names and not data["retain_graph"] and min(ages) >= begun:
                continue
            owner = max(names, key=lambda name: self.known[name].age or 0, default=UNNAMED)
            others = ", ".join(sorted(set(names) - {owner}))
            note = f"and the part of it behind {others}" if others else ""
            kept = data["retain_graph"]
            kind: Kind = "kept" if kept else "removed"
            change = Change(owner, "graph", "graph", kind, "built", "kept" if kept else "freed")
            change.note = note
            changes.append(change)
        return changes

    def _bind(self, name: str, value: Any, before: _Name | None, changes: list[Change]) -> None:
        if type(value).__module__ == _LEDGER:
            return
        now = self.known[name] = self._remember(value, before)
        kind: Kind = "created" if before is None else "rebound"
        earlier = None if before is None else before.bound
        changes.append(Change(name, "", "name", kind, earlier, now.bound))
        if now.age is not None:
            built = Change(name, "graph", "graph", "created", None, "built")
            built.note = f"{now.bound.nodes} nodes"
            changes.append(built)
        self._watch(name, value)
        if before is None or not isinstance(value, _DISCOVERED):
            return
        unwatched = not self._is_watched(value) and not self.keeper.module_label(value)
        if unwatched and any(one.label == name for one in self.keeper.watches):
            self.keeper.unfollowed[name] = (
                f"was rebound to another {type(value).__name__}, which is not watched; "
                "fnlib.Ledger() without names would find it"
            )

    def _remember(self, value: Any, before: _Name | None) -> _Name:
        is_module = isinstance(value, nn.Module)
        weak = isinstance(value, Tensor) or is_module or parameters_of(value) is not None
        bound = Bound(type(value).__name__, _text(value), is_module=is_module)
        bound.token = self.keeper.token(value) if weak else None
        bound.alive = None if before is None or not before.weak else before.value() is not None
        age: int | None = None
        graph: Graph | None = None
        traced = isinstance(value, Tensor) and unreadable(value) is None
        if isinstance(value, Tensor):
            bound.view = not is_own(value)
        if traced and (age := age_of_tensor(value)) is not None:
            graph = graph_of((value,))
            labels = map(self.keeper.weight_label, graph.leaves.values())
            bound.leaves = tuple(sorted([label for label in labels if label is not None]))
            bound.nodes = graph.nodes
            bound.carries_previous = before is not None and before.age in graph.ages
        held = weakref.ref(value) if weak else value
        return _Name(held, bound, age, weak, traced, graph)

    # --- watching what names are bound to ------------------------------------------------------

    def _watch(self, name: str, value: Any) -> None:
        """Begin to watch what a name is bound to, and stop watching what it was bound to before."""
        held = self.followed.get(name)
        if held is not None and type(value) is Tensor and type(held[0]) is TensorWatch:
            if self._may_follow(name, value):
                held[0].value = weakref.ref(value)  # the same watch goes on with the next tensor
                self.keeper.prime(held)
                return
        self._unfollow(name)
        if type(value) in SCALAR:
            return
        if self.discover and isinstance(value, _DISCOVERED):
            if not self._is_watched(value):
                self._discover(name, value)
        elif self._may_follow(name, value):
            self.keeper.renamed(name)
            weakly = not isinstance(value, dict)
            found = watch(name, value, self.keeper.weight_label, weakly=weakly)
            for one in found:
                one.follow()
            self.followed[name] = found
            self.keeper.prime(found)

    def _may_follow(self, name: str, value: Any) -> bool:
        """Say whether to watch a value unasked: a tensor, a dict of them, an fnlib value."""
        if not self.follow or self._is_watched(value):
            return False
        if isinstance(value, Tensor):
            if value.numel() > FOLLOWED_SIZE:
                self.keeper.unfollowed[name] = (
                    f"is large ({value.numel():,} numbers) and was not asked for; "
                    f"fnlib.Ledger({name}={name}) follows it"
                )
                return False
            return True
        if any(id(value) in one.ids and one.value() is not None for one in self.keeper.watches):
            return False  # a part of what is watched: a group of an optimizer
        if type(value) not in (dict, OrderedDict):
            return parameters_of(value) is not None
        if not holds_tensors(value):
            return False
        if next(islice(leaves("", value), FOLLOWED_PLACES, None), None) is not None:
            self.keeper.unfollowed[name] = (
                f"holds more than {FOLLOWED_PLACES:,} values and was not asked for; "
                f"fnlib.Ledger({name}={name}) follows it"
            )
            return False
        return True

    def _unfollow(self, name: str) -> None:
        if name in self.followed:
            self.keeper.drop(self.followed.pop(name))

    def _discover(self, name: str, value: Any) -> None:
        if isinstance(value, nn.Module) and is_scripted(value):
            self.keeper.unfollowed[name] = (
                "is made by torch.jit, or has a part that is, and is not followed"
            )
            return
        if isinstance(value, nn.Module) and (self.keeper.module_label(value) or _is_empty(value)):
            return
        if isinstance(value, nn.Module):
            name = hidden_in(self.keeper.watches, value) or name
        found = watch(self.keeper.free_label(name), value, self.keeper.weight_label, weakly=True)
        found = [one for one in found if not self._is_watched(one.value())]
        if isinstance(value, nn.Module):  # optimizers met before can name its weights now
            for one in self.keeper.watches:
                if isinstance(one, OptimizerWatch):
                    one.named = {}
                    found.append(one)
        self.keeper.prime(found)

    def _is_watched(self, value: Any) -> bool:
        return any(one.value() is value for one in self.keeper.watches)


def _is_empty(module: nn.Module) -> bool:
    """Say whether a module keeps nothing: a loss, or one whose ``__init__`` has only begun."""
    tables = vars(module)
    return not (tables.get("_parameters") or tables.get("_buffers") or tables.get("_modules"))


def _text(value: Any) -> str:
    """Describe a value in a few words."""
    if isinstance(value, Tensor):
        sizes = "nested" if value.is_nested else "x".join(map(str, value.shape)) or "scalar"
        return f"{sizes} {name_of(value.dtype)}"
    if type(value) in SCALAR:
        text = repr(value)
        return text if len(text) <= 30 else text[:27] + "..."
    kind = type(value).__name__
    try:
        if (held := parameters_of(value)) is not None:
            return f"{kind}, {len(held)} tensor" + "s" * (len(held) != 1)
    except FnlibError:
        pass  # given away: its name is all that can be said
    return kind


def _written(path: Path) -> str:
    """Write a path as code."""
    return "".join(
        f"[{step.key!r}]" if isinstance(step, Subscript) else (f".{step}" if number else str(step))
        for number, step in enumerate(path)
    )
