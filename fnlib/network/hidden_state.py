"""What a forward pass could change besides weights and buffers: the attributes of the modules.

They are found once, when a tree is made, compared after each forward pass, and put back.
"""

from __future__ import annotations

import copy
import io
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fnlib import errors
from fnlib.network.bytecode import globals_of, is_code, resizes, stored_in
from fnlib.network.containers import (
    CONTAINERS,
    Fields,
    content_of,
    entries_changed,
    equal,
    is_global,
    late_buffers,
    pickled,
    position_of,
    refill,
    slots_of,
    without,
)
from fnlib.network.names import is_filled
from fnlib.torch_private import (
    RNN_LISTS,
    forward_hooks_of,
    keep_rnn_lists,
    registries,
)
from fnlib.values.protect import same_bits, share, unchanged

# A container, a key in it, and the index of the tensor that belongs there.
Place = tuple[Any, Any, int]

OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_ATOMS = (
    type(None), bool, int, float, complex, str, bytes,
    torch.dtype, torch.device, torch.Size, type, slice, range,
)  # fmt: skip
_CODE = (types.BuiltinFunctionType, types.ModuleType)


class State(NamedTuple):
    """The content of everything that is watched, at one time."""

    contents: list[Any]
    tensors: list[Tensor]
    flags: list[bool]  # whether each module trains


class Watched(NamedTuple):
    """A container whose content a forward pass could change."""

    label: str
    container: Any
    outside: bool  # not the module's own: a closure, a class or a global variable


class Attributes:
    """What the modules of a network keep in their attributes.

    Args:
        module: the network.
        weights, buffers: the index of each, by identity, to find them in lists and attributes.
    """

    def __init__(
        self, module: nn.Module, weights: Mapping[int, int], buffers: Mapping[int, int]
    ) -> None:
        self.indices = {**weights, **buffers}
        self.of_buffers = buffers.keys()
        self.weight_places: list[Place] = []
        self.buffer_places: list[Place] = []
        self.watched: list[Watched] = []
        self.outside: list[Watched] = []
        self.tensors: list[tuple[str, Tensor]] = []
        self.opaque: list[tuple[str, Any, bytes]] = []  # label, object, its pickle
        self.parts = list(module.modules())
        # Identities, because a reference too many would spoil Tree.is_referenced.
        self.seen = {id(part) for part in self.parts}
        keeping = [(path, p) for path, p in module.named_modules() if not _keeps_nothing(p)]
        self.is_outside = False
        for path, part in keeping:
            self._visit_module(path, part)
        self.watched += [
            Watched(path, registries(p)[2], False) for path, p in keeping if registries(p)[2]
        ]
        self.registries = [registry for _, part in keeping for registry in registries(part)]
        # Places of None: a tensor that a forward pass puts there is not one of the value's.
        self.absent = [
            (_joined(path, key), registry, key)
            for path, part in keeping
            for registry in registries(part)[:2]
            for key, tensor in registry.items()
            if tensor is None
        ]
        self.late = [Watched(path, late_buffers(part), False) for path, part in keeping]
        self.is_outside = True
        for kind in {type(part): None for _, part in keeping}:
            for base in kind.__mro__[: kind.__mro__.index(nn.Module)]:
                self._visit_class(base)
        self.keeps_nothing = not (self.watched or self.tensors or self.opaque or self.registries)

    # --- finding ----------------------------------------------------------------------------------

    def _visit_module(self, path: str, part: nn.Module) -> None:
        own = vars(part)
        if isinstance(part, nn.RNNBase):
            keep_rnn_lists(part)
        self._watch(path, without(own, RNN_LISTS) if isinstance(part, nn.RNNBase) else own)
        for name, value in list(own.items()):
            if name not in OF_EVERY_MODULE or name == "training":
                self._visit(value, _joined(path, name), own, name)
        self._visit_slots(path, part)

    def _watch(self, label: str, container: Any) -> None:
        some = self.outside if self.is_outside else self.watched
        some.append(Watched(label, container, self.is_outside))

    def _visit(self, value: Any, label: str, holder: Any, key: Any) -> None:
        """Find what can change in a value that a holder has under a key."""
        if isinstance(value, Tensor) and id(value) in self.indices:
            if self.is_outside:  # it would belong to one tree only
                return
            if isinstance(holder, (tuple, Fields)):
                raise errors.UnsupportedModule(
                    f"{label} is a weight or buffer inside a tuple, where it can't be replaced. Use an nn.ParameterList or a list."
                )
            places = self.buffer_places if id(value) in self.of_buffers else self.weight_places
            places.append((holder, key, self.indices[id(value)]))
            return
        if isinstance(value, (*_ATOMS, *_CODE)) or id(value) in self.seen or is_global(value):
            return
        self.seen.add(id(value))
        if isinstance(value, Tensor):
            self.tensors.append((label, value))
        elif isinstance(value, nn.Module):  # one that is not registered
            self._visit(vars(value), label, None, None)
        elif isinstance(value, types.FunctionType):
            self._visit_function(value, label)
        elif isinstance(value, types.MethodType):
            self._visit(value.__self__, label, None, None)
        elif isinstance(value, CONTAINERS):
            self._watch(label, value)
            content = content_of(value)
            items = content.items() if isinstance(content, dict) else enumerate(content)
            for k, item in list(items):
                where = f"{label}.{k}" if isinstance(value, dict) else f"{label}[{k}]"
                self._visit(item, where, value, k)
        elif isinstance(value, (tuple, frozenset)):
            for k, item in enumerate(value):
                self._visit(item, f"{label}[{k}]", value, k)
        elif (position := position_of(value)) is not None:
            self._watch(label, position)
        elif hasattr(value, "__dict__") or slots_of(value):
            if hasattr(value, "__dict__"):
                self._visit(vars(value), label, None, None)
            self._visit_slots(label, value)
        elif (content := pickled(value)) is not None:
            self.opaque.append((label, value, content))
        elif hasattr(value, "__next__") and not isinstance(value, io.IOBase):
            raise errors.UnsupportedModule(
                f"'{label}' of this network is an iterator ({type(value).__name__}) whose position can't be read, so nothing "
                "shows whether a forward pass moves it. Take its items outside, and pass them to forward:\n\n"
                "    x = next(self.items)               # wrong in forward\n"
                "    output = model(feature, next(items))   # right: the loop owns the iterator\n"
            )

    def _visit_slots(self, label: str, value: Any) -> None:
        if names := slots_of(value):
            self._visit_fields(
                label,
                lambda: {name: getattr(value, name) for name in names if hasattr(value, name)},
                lambda name, content: setattr(value, name, content),
                lambda name: delattr(value, name),
            )

    def _visit_function(self, function: types.FunctionType, label: str) -> None:
        """Find what a function keeps: in its closure, in its attributes, in global variables."""
        if (function.__module__ or "").partition(".")[0] in ("torch", "fnlib"):
            return
        was, self.is_outside = self.is_outside, True
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        cells.pop("__class__", None)
        space, stored = function.__globals__, stored_in(function.__code__)
        seen = globals_of(function.__code__)
        kept = [n for n in seen if n in stored or isinstance(space.get(n), CONTAINERS)]
        if cells:
            self._visit_fields(
                label,
                lambda: {n: cell.cell_contents for n, cell in cells.items() if is_filled(cell)},
                lambda name, content: setattr(cells[name], "cell_contents", content),
                lambda name: delattr(cells[name], "cell_contents"),
            )
        if kept:
            self._visit_fields(
                "",
                lambda: {name: space[name] for name in kept if name in space},
                space.__setitem__,
                space.__delitem__,
            )
        if vars(function):
            self._visit(vars(function), label, None, None)
        self.is_outside = was

    def _visit_fields(self, label: str, *access: Callable[..., Any]) -> None:
        fields = Fields(*access)
        self._watch(label, fields)
        for name, content in fields.read().items():
            self._visit(content, _joined(label, name), fields, name)

    def _visit_class(self, kind: type) -> None:
        """Find what a class keeps for all of its modules, and what its methods keep."""
        if kind.__module__.partition(".")[0] == "torch":
            return
        self._visit_fields(
            kind.__name__,
            lambda: {
                name: value
                for name, value in vars(kind).items()
                if not name.startswith("__") and not is_code(value)
            },
            lambda name, content: setattr(kind, name, content),
            lambda name: delattr(kind, name),
        )
        for name, value in list(vars(kind).items()):
            function = getattr(value, "__func__", value)
            if isinstance(function, types.FunctionType) and id(function) not in self.seen:
                self.seen.add(id(function))
                self._visit_function(function, f"{kind.__name__}.{name}")

    # --- comparing --------------------------------------------------------------------------------

    def remember(self) -> None:
        """Note the state of everything, to compare with later and to go back to."""
        self.containers = [container for _, container, _ in self.watched]
        self.keys = list(map(tuple, self.registries))
        self.sizes = list(map(len, self.registries))
        self.first = self.note()
        self.flags, self.origins = self.first.flags, self.first.tensors
        self.before = self.first.contents[: len(self.watched)]

    @property
    def everything(self) -> Iterator[Watched]:
        yield from self.watched
        yield from self.late
        yield from self.outside

    def changed(self, outside: list[Any] | None = None) -> list[str]:
        """Name the attributes that differ from what was noted, and from `outside` if given."""
        changed: list[str] = []
        if not equal(self.containers, self.before):
            for (label, container, _), before in zip(self.watched, self.before, strict=True):
                changed += entries_changed(label, container, before)
        if outside is not None:
            for (label, container, _), before in zip(self.outside, outside, strict=True):
                changed += entries_changed(label, container, before)
        flags = zip(self.parts, self.flags, strict=True)
        changed += [f"{type(p).__name__}.training" for p, flag in flags if p.training is not flag]
        tensors = zip(self.tensors, self.origins, strict=True)
        changed += [label for (label, new), old in tensors if not unchanged(new, old)]
        moved = [label for label, value, before in self.opaque if pickled(value) != before]
        if moved:
            raise errors.HiddenState(moved, "can't put this object back to what it was")
        return changed

    def grew(self) -> list[str]:
        """Name buffers that were added or filled, which may be a cache; refuse any other change."""
        filled = [label for label, registry, key in self.absent if registry.get(key) is not None]
        if not filled and list(map(len, self.registries)) == self.sizes:
            return filled
        buffers = {id(registries(part)[1]) for part in self.parts}
        for registry, keys in zip(self.registries, self.keys, strict=True):
            added = set(registry) - set(keys)
            gone = set(keys) - set(registry)
            if gone or (added and id(registry) not in buffers):
                raise errors.HiddenState(sorted(gone | added), "adds or removes them while it runs")
            filled += sorted(added)
        return filled

    # --- going back -------------------------------------------------------------------------------

    def note(self) -> State:
        """Note the content of everything, to `put` back later."""
        contents = [content_of(container) for _, container, _ in self.everything]
        tensors = [share(tensor.detach()) for _, tensor in self.tensors]
        return State(contents, tensors, [part.training for part in self.parts])

    def put(
        self, state: State, outside: State | None = None, shared: frozenset[int] = frozenset()
    ) -> None:
        """Put everything to a noted state, and what isn't the network's own to `outside`."""

        def other(value: Any, is_outside: bool = False) -> bool:
            return outside is not None and (is_outside or id(value) in shared)

        for i, (_, container, is_outside) in enumerate(self.everything):
            source = outside if other(container, is_outside) else state
            assert source is not None
            refill(container, source.contents[i])
        for (_, tensor), content in zip(self.tensors, state.tensors, strict=True):
            if not other(tensor) and not same_bits(tensor, content):
                tensor.data = share(content)
        for part, flag in zip(self.parts, state.flags, strict=True):
            if part.training is not flag:
                part.training = flag

    def identities(self) -> list[int]:
        """Identify everything that two networks could share."""
        return [id(thing[1]) for thing in (*self.watched, *self.tensors)]


def _joined(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)


def _keeps_nothing(part: nn.Module) -> bool:
    """Say whether a part is a layer of torch.nn, but for RNNs, as PyTorch wrote it.

    Not looking at those saves 2 of the 95 us of a step of the 128-64-10 network.
    """
    return (
        type(part).__module__.startswith("torch.nn.modules.")
        and not isinstance(part, nn.RNNBase)
        and not forward_hooks_of(part)
        and "forward" not in vars(part)
    )


def anatomy(parts: list[nn.Module]) -> dict[str, Any]:
    """Note what modules are made of: their parts, hooks, and names of weights and buffers."""
    noted: dict[str, Any] = {}
    for i, part in enumerate(parts):
        tensors = registries(part)[:2]
        for name in OF_EVERY_MODULE - {"training"}:
            value: Any = vars(part).get(name)
            if any(value is registry for registry in tensors):
                value = list(value)
            label = f"{type(part).__name__}.{name}"
            noted.setdefault(label, {})[i] = copy.copy(value)
    return noted


def resizable(module: nn.Module, buffers: list[Tensor]) -> set[int]:
    """Return the indices of buffers that a forward pass may resize."""
    found = {
        id(buffer)
        for part in module.modules()
        if not _keeps_nothing(part)
        and any(map(resizes, type(part).__mro__[: type(part).__mro__.index(nn.Module)]))
        for buffer in registries(part)[1].values()
    }
    return {i for i, buffer in enumerate(buffers) if id(buffer) in found}
