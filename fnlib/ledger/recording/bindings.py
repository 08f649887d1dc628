"""The names of a recorded frame: which were bound to new values, and watching those values from then on."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fnlib.errors import FnlibError
from fnlib.ledger.entries import Bound, Change
from fnlib.ledger.looks.content import name_of, unreadable
from fnlib.ledger.looks.differ import Keeper
from fnlib.ledger.looks.watches import (
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
from fnlib.ledger.recording.graphs import Graph, age_of, graph_of
from fnlib.ledger.recording.names import MISSING
from fnlib.ledger.recording.source import Path, Subscript

FOLLOWED_SIZE = 4_000_000  # numbers in a tensor that is followed without having been asked for
FOLLOWED_PLACES = 5_000  # tensors, numbers and texts in a dict of the same kind: a data set, say
_DISCOVERED = (nn.Module, Optimizer, LRScheduler, torch.amp.GradScaler)


@dataclass(eq=False, slots=True)
class _Name:
    """What a name was bound to at the last look. Tensors and values are held weakly: they may go when the program lets go."""

    value: Callable[[], Any]
    key: int
    bound: Bound
    age: int | None = None
    weak: bool = False
    graph: Graph | None = None


class Bindings:
    """The names of one frame that its recorded statements mention."""

    def __init__(
        self, keeper: Keeper, names: frozenset[str], *, follow: bool, discover: bool
    ) -> None:
        self.keeper, self.names, self.follow, self.discover = (
            keeper,
            sorted(names),
            follow,
            discover,
        )
        self.known: dict[str, _Name] = {}
        self.followed: dict[str, list[Watch]] = {}
        self._ids: list[int] | None = None
        self._weak: list[_Name] = []
        self._aged: list[tuple[Callable[[], Any], int, bool]] = []

    def begin(self, local: dict[str, Any], world: dict[str, Any]) -> None:
        """Take the names as they stand; none of them counts as bound by a statement."""
        for name in self.names:
            value = _find(name, local, world)
            if value is not MISSING:
                self.known[name] = self._remember(value, None)
                self._watch(name, value)

    def end(self) -> None:
        """The frame has ended: its names are gone, and with them what was followed under them."""
        for name in list(self.followed):
            self._unfollow(name)

    def met(self, path: Path, value: Any) -> None:
        """A statement names an object: begin to watch it if objects are to be discovered."""
        if self.discover and isinstance(value, _DISCOVERED) and not self._is_watched(value):
            self._discover(_written(path), value)

    def rebound(self, local: dict[str, Any], world: dict[str, Any]) -> list[Change]:
        """Return a change for each name that has another value than at the last look, and follow the new values."""
        changes: list[Change] = []
        known = self.known
        values = [local[name] if name in local else world.get(name, MISSING) for name in self.names]
        if self._as_they_stood(values):
            return changes
        self._ids = None
        for name, value in zip(self.names, values, strict=True):
            before = known.get(name)
            if before is None:
                if value is not MISSING:
                    self._bind(name, value, None, changes)
            elif value is MISSING:
                del known[name]
                self._unfollow(name)
                changes.append(Change(name, "", "name", "removed", before.bound))
            elif id(value) != before.key or (before.weak and before.value() is not value):
                self._bind(name, value, before, changes)
            elif before.weak and isinstance(value, Tensor) and before.age != _age(value):
                now = known[name] = self._remember(value, before)
                changes.append(
                    Change(
                        name,
                        "graph",
                        "graph",
                        "changed in place",
                        before.bound,
                        now.bound,
                        note=f"{now.bound.nodes} nodes",
                    )
                )
        self._stand(values)
        return changes

    def _as_they_stood(self, values: list[Any]) -> bool:
        """Whether all names have the values of the last look, the graphs behind them included; told in few passes that run in C."""
        if self._ids != list(map(id, values)):
            return False
        for held in self._weak:  # an identity may be used again once its object is gone
            if held.value() is None:
                return False
        for (
            value,
            version,
            flag,
        ) in self._aged:  # cheaper than the graph's age, which only moves along with these
            if (one := value()) is None or one._version != version or one.requires_grad is not flag:
                return False
        return True

    def _stand(self, values: list[Any]) -> None:
        """Remember what the names stand for."""
        self._ids = list(map(id, values))
        self._weak = [one for one in self.known.values() if one.weak]
        tensors = [
            (one.value, value)
            for one in self._weak
            if isinstance(value := one.value(), Tensor) and not value.is_inference()
        ]
        self._aged = [(held, value._version, value.requires_grad) for held, value in tensors]

    def graph_behind(self, tensor: Tensor) -> Graph | None:
        """The graph behind a tensor that one of the names stood for at the last look, as it was read then."""
        for known in self._weak:
            if known.graph is not None and known.value() is tensor:
                return known.graph if known.age == _age(tensor) else None
        return None

    def used_up(self, passes: list[tuple[dict[str, Any], frozenset[int]]]) -> list[Change]:
        """Return a change for each backward pass: the graph behind the loss is freed, or kept."""
        changes = []
        for data, ages in passes:
            if data["raised"] or not ages:
                continue
            names = [name for name, known in self.known.items() if known.age in ages]
            owner = data.get("name") or (
                max(names, key=lambda name: self.known[name].age or 0) if names else "loss"
            )
            note = (
                f"and the part of it behind {', '.join(sorted(set(names) - {owner}))}"
                if set(names) - {owner}
                else ""
            )
            kept = data["retain_graph"]
            changes.append(
                Change(
                    owner,
                    "graph",
                    "graph",
                    "kept" if kept else "removed",
                    "built",
                    "kept" if kept else "freed",
                    note=note,
                )
            )
        return changes

    def _bind(self, name: str, value: Any, before: _Name | None, changes: list[Change]) -> None:
        if type(value).__name__ == "Ledger":
            return
        now = self.known[name] = self._remember(value, before)
        kind = "created" if before is None else "replaced"
        changes.append(
            Change(name, "", "name", kind, None if before is None else before.bound, now.bound)
        )  # type: ignore[arg-type]
        if now.age is not None:
            changes.append(
                Change(
                    name,
                    "graph",
                    "graph",
                    "created",
                    None,
                    "built",
                    note=f"{now.bound.nodes} nodes",
                )
            )
        self._watch(name, value)
        if (
            before is not None
            and isinstance(value, _DISCOVERED)
            and any(one.label == name for one in self.keeper.watches)
        ):
            if not self._is_watched(value) and not self.keeper.module_label(value):
                self.keeper.unfollowed[name] = (
                    f"was bound again, to another {type(value).__name__}, which is not watched; fnlib.Ledger() without names would find it"
                )

    def _remember(self, value: Any, before: _Name | None) -> _Name:
        weak = isinstance(value, (Tensor, nn.Module)) or parameters_of(value) is not MISSING
        alive = None if before is None or not before.weak else before.value() is not None
        age: int | None = None
        graph: Graph | None = None
        nodes, carries = 0, False
        leaves: tuple[str, ...] = ()
        if isinstance(value, Tensor) and (age := _age(value)) is not None:
            graph = graph_of((value,))
            nodes = graph.nodes
            labels = [self.keeper.weight_label(leaf) for leaf in graph.leaves.values()]
            leaves = tuple(sorted([label for label in labels if label is not None]))
            carries = before is not None and before.age in graph.ages
        token = self.keeper.token(value) if weak else None
        bound = Bound(
            type(value).__name__,
            _text(value),
            token,
            None,
            alive,
            nodes,
            leaves,
            carries,
            isinstance(value, nn.Module),
        )
        return _Name(
            weakref.ref(value) if weak else (lambda: value), id(value), bound, age, weak, graph
        )

    # --- watching what names are bound to ------------------------------------------------------

    def _watch(self, name: str, value: Any) -> None:
        """Begin to watch what a name is bound to, and let go of what it was bound to before."""
        held = self.followed.get(name)
        if (
            held is not None
            and type(value) is Tensor
            and self._may_follow(name, value)
            and type(held[0]) is TensorWatch
        ):
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
            self.followed[name] = watch(
                name, value, self.keeper.weight_label, weakly=not isinstance(value, dict)
            )
            for one in self.followed[name]:
                one.follow()
            self.keeper.prime(self.followed[name])

    def _may_follow(self, name: str, value: Any) -> bool:
        """Whether a value is to be watched without having been asked for: a tensor, a dict of them, an fnlib value."""
        if not self.follow or self._is_watched(value):
            return False
        if isinstance(value, Tensor):
            if value.numel() > FOLLOWED_SIZE:
                self.keeper.unfollowed[name] = (
                    f"is large ({value.numel():,} numbers) and was not asked for; fnlib.Ledger({name}={name}) follows it"
                )
                return False
            return True
        if any(id(value) in one.ids and one.value() is not None for one in self.keeper.watches):
            return False  # a part of what is watched: a group of an optimizer
        if type(value).__name__ not in ("dict", "OrderedDict"):
            return parameters_of(value) is not MISSING
        if not holds_tensors(value):
            return False
        if next(islice(leaves("", value), FOLLOWED_PLACES, None), None) is not None:
            self.keeper.unfollowed[name] = (
                f"holds more than {FOLLOWED_PLACES:,} values and was not asked for; fnlib.Ledger({name}={name}) follows it"
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
        found = watch(self.keeper.free_label(name), value, self.keeper.weight_label, weakly=True)
        found = [one for one in found if not self._is_watched(one.value())]
        if isinstance(
            value, nn.Module
        ):  # optimizers that were met before can call its weights by their names now
            for one in self.keeper.watches:
                if isinstance(one, OptimizerWatch):
                    one.named = {}
                    found.append(one)
        self.keeper.prime(found)

    def _is_watched(self, value: Any) -> bool:
        return any(one.value() is value for one in self.keeper.watches)


def _age(value: Tensor) -> int | None:
    return age_of(value) if value.requires_grad and unreadable(value) is None else None


def _find(name: str, local: dict[str, Any], world: dict[str, Any]) -> Any:
    return local[name] if name in local else world.get(name, MISSING)


def _is_empty(module: nn.Module) -> bool:
    """Whether a module keeps nothing: a loss, an activation, or one whose ``__init__`` has only begun."""
    tables = vars(module)
    return not (tables.get("_parameters") or tables.get("_buffers") or tables.get("_modules"))


def _text(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, Tensor):
        shape = (
            "nested"
            if value.is_nested
            else "x".join([str(size) for size in value.shape]) or "scalar"
        )
        return f"{shape} {name_of(value.dtype)}"
    if isinstance(value, (bool, int, float, str, type(None))):
        text = repr(value)
        return text if len(text) <= 30 else text[:27] + "..."
    kind = type(value).__name__
    try:
        if (held := parameters_of(value)) is not MISSING:
            return f"{kind}, {len(held)} tensor" + "s" * (len(held) != 1)
    except FnlibError:
        pass  # given away: its name is all that can be said
    return kind


def _written(path: Path) -> str:
    """A path as it is written in code."""
    return "".join(
        f"[{step.key!r}]" if isinstance(step, Subscript) else (f".{step}" if number else str(step))
        for number, step in enumerate(path)
    )
