"""What a forward pass could change besides weights and buffers: the attributes of the modules.

A network may keep whatever it likes in its attributes: numbers, lists, caches, objects, generators.
They are found once, when a tree is made, compared after each forward pass, and put back.
"""

from __future__ import annotations

import copy
import dis
import functools
import io
import pickle
import random
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fnlib import errors
from fnlib.network.names import is_filled
from fnlib.torch_private import (
    RNN_LISTS,
    forward_hooks_of,
    keep_rnn_lists,
    registries,
    unsaved_buffers,
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
_CONTAINERS = (dict, list, set, deque)


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
        weights, buffers: the index of each, by identity. Those that are in lists and attributes too
            are found in `weight_places` and `buffer_places`.
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
        self.late = [Watched(path, _late_buffers(part), False) for path, part in keeping]
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
            self._watch(path, _without(own, RNN_LISTS))
        else:
            self._watch(path, own)
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
            if isinstance(holder, (tuple, _Fields)):
                raise errors.UnsupportedModule(
                    f"{label} is a weight or buffer inside a tuple, where it can't be replaced. Use an nn.ParameterList or a list."
                )
            places = self.buffer_places if id(value) in self.of_buffers else self.weight_places
            places.append((holder, key, self.indices[id(value)]))
            return
        if isinstance(value, (*_ATOMS, *_CODE)) or id(value) in self.seen or _is_global(value):
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
        elif isinstance(value, _CONTAINERS):
            self._watch(label, value)
            content = content_of(value)
            items = content.items() if isinstance(content, dict) else enumerate(content)
            for k, item in list(items):
                where = f"{label}.{k}" if isinstance(value, dict) else f"{label}[{k}]"
                self._visit(item, where, value, k)
        elif isinstance(value, (tuple, frozenset)):
            for k, item in enumerate(value):
                self._visit(item, f"{label}[{k}]", value, k)
        elif (position := _position_of(value)) is not None:
            self._watch(label, position)
        elif hasattr(value, "__dict__") or _slots_of(value):
            if hasattr(value, "__dict__"):
                self._visit(vars(value), label, None, None)
            self._visit_slots(label, value)
        elif (pickled := _pickled(value)) is not None:
            self.opaque.append((label, value, pickled))
        elif hasattr(value, "__next__") and not isinstance(value, io.IOBase):
            raise errors.UnsupportedModule(
                f"'{label}' of this network is an iterator ({type(value).__name__}) whose position can't be read, so nothing "
                "shows whether a forward pass moves it. Take its items outside, and pass them to forward:\n\n"
                "    x = next(self.items)               # wrong in forward\n"
                "    output = model(feature, next(items))   # right: the loop owns the iterator\n"
            )

    def _visit_slots(self, label: str, value: Any) -> None:
        if names := _slots_of(value):
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
        space, stored = function.__globals__, _stored_in(function.__code__)
        seen = _globals_of(function.__code__)
        kept = [n for n in seen if n in stored or isinstance(space.get(n), _CONTAINERS)]
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
        fields = _Fields(*access)
        self._watch(label, fields)
        for name, content in fields.items():
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
                if not name.startswith("__") and not _is_code(value)
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
        self.keys = [tuple(registry) for registry in self.registries]
        self.sizes = [len(registry) for registry in self.registries]
        self.first = self.note()
        self.flags, self.origins = self.first.flags, self.first.tensors
        self.before = self.first.contents[: len(self.watched)]

    @property
    def everything(self) -> Iterator[Watched]:
        yield from self.watched
        yield from self.late
        yield from self.outside

    def note_outside(self) -> list[Any]:
        """Note what closures, classes and global variables hold now."""
        return [content_of(container) for _, container, _ in self.outside]

    def changed(self, outside: list[Any] | None = None) -> list[str]:
        """Name the attributes that differ from what was noted.

        Args:
            outside: what closures, classes and global variables held; None not to look there.
        """
        changed: list[str] = []
        if not _equal(self.containers, self.before):
            for (label, container, _), before in zip(self.watched, self.before, strict=True):
                changed += _which(label, container, before)
        if outside is not None:
            for (label, container, _), before in zip(self.outside, outside, strict=True):
                changed += _which(label, container, before)
        flags = zip(self.parts, self.flags, strict=True)
        changed += [f"{type(p).__name__}.training" for p, flag in flags if p.training is not flag]
        tensors = zip(self.tensors, self.origins, strict=True)
        changed += [label for (label, new), old in tensors if not unchanged(new, old)]
        moved = [label for label, value, before in self.opaque if _pickled(value) != before]
        if moved:
            raise errors.HiddenState(moved, "can't put this object back to what it was")
        return changed

    def grew(self) -> list[str]:
        """Name buffers that were added or filled, which may be a cache.

        Raises:
            HiddenState: weights or modules were added, or something was taken away.
        """
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
        """Put everything to a state that was noted.

        What is not the network's own, or `shared` with other networks, may have a state `outside`.
        """

        def other(value: Any, is_outside: bool = False) -> bool:
            return outside is not None and (is_outside or id(value) in shared)

        for i, (_, container, is_outside) in enumerate(self.everything):
            source = outside if other(container, is_outside) else state
            assert source is not None
            _refill(container, source.contents[i])
        for (_, tensor), content in zip(self.tensors, state.tensors, strict=True):
            if not other(tensor) and not same_bits(tensor, content):
                tensor.data = share(content)
        for part, flag in zip(self.parts, state.flags, strict=True):
            if part.training is not flag:
                part.training = flag

    @property
    def identities(self) -> Iterator[Any]:
        """Everything that two networks could share."""
        yield from (container for _, container, _ in self.watched)
        yield from (tensor for _, tensor in self.tensors)


def _joined(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)


def _keeps_nothing(part: nn.Module) -> bool:
    """Say whether a part is a layer of torch.nn as PyTorch wrote it.

    Only RNNs change attributes in their forward. Not looking at the others saves 2 of the 95 us of
    a step of the 128-64-10 network.
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


# --- containers -----------------------------------------------------------------------------------


class _Fields:
    """What has no dict of its own, seen as one: slots, cells, a class, global variables.

    Args:
        read: returns names and values.
        set, delete: change one of them.
    """

    def __init__(
        self,
        read: Callable[[], dict[str, Any]],
        set: Callable[[str, Any], object],
        delete: Callable[[str], None],
    ) -> None:
        self.read, self.set, self.delete = read, set, delete

    def items(self) -> list[tuple[str, Any]]:
        return list(self.read().items())

    def get(self, key: str) -> Any:
        return self.read().get(key)

    def write(self, content: dict[str, Any]) -> None:
        now = self.read()
        for name in now.keys() - content.keys():
            self.delete(name)
        for name, value in content.items():
            if name not in now or now[name] is not value:
                self.set(name, value)

    def __copy__(self) -> dict[str, Any]:
        return self.read()

    def __eq__(self, other: object) -> bool:
        return self.read() == other

    __hash__ = None  # type: ignore[assignment]


def _without(own: dict[str, Any], left_out: frozenset[str]) -> _Fields:
    """See the attributes of a module, some left out."""
    return _Fields(
        lambda: {name: value for name, value in own.items() if name not in left_out},
        own.__setitem__,
        own.__delitem__,
    )


def _late_buffers(part: nn.Module) -> _Fields:
    """See the buffers that have no tensor when the module is built."""
    buffers = registries(part)[1]
    own = {name for name, buffer in buffers.items() if buffer is not None}
    empty = {name for name, buffer in buffers.items() if buffer is None}

    def delete(name: str) -> None:
        del buffers[name]
        unsaved_buffers(part).discard(name)

    return _Fields(
        lambda: {name: buffer for name, buffer in buffers.items() if name not in own},
        buffers.__setitem__,
        lambda name: buffers.__setitem__(name, None) if name in empty else delete(name),
    )


def _slots_of(value: Any) -> list[str]:
    """Name the slots of an object, as its class writes them."""
    if isinstance(value, Tensor) or type(value).__module__.partition(".")[0] == "torch":
        return []
    slots = [vars(kind).get("__slots__", ()) for kind in type(value).__mro__]
    names = [name for some in slots for name in ([some] if isinstance(some, str) else some)]
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def _position_of(value: Any) -> _Fields | None:
    """See the position of a generator of random numbers, and the content of an array."""
    if isinstance(value, torch.Generator):
        return _as_one(
            lambda: bytes(value.get_state().tolist()),
            lambda state: value.set_state(torch.tensor([*state], dtype=torch.uint8)),
        )
    if isinstance(value, random.Random):
        return _as_one(value.getstate, value.setstate)
    if not type(value).__module__.startswith("numpy"):
        return None
    if bits := getattr(value, "bit_generator", None):
        return _as_one(
            lambda: pickle.dumps(bits.state), lambda s: setattr(bits, "state", pickle.loads(s))
        )
    if hasattr(value, "get_state") and hasattr(value, "set_state"):
        return _as_one(
            lambda: pickle.dumps(value.get_state()), lambda s: value.set_state(pickle.loads(s))
        )
    is_array = hasattr(value, "__array_interface__") and hasattr(value, "tobytes")
    if not is_array or value.dtype == object:
        return None

    def write(content: bytes) -> None:
        if value.flags.c_contiguous and value.flags.writeable:
            memoryview(value).cast("B")[:] = content

    return _as_one(value.tobytes, write)


def _as_one(read: Callable[[], Any], write: Callable[[Any], object]) -> _Fields:
    """See a state that is read and written as a whole."""
    return _Fields(lambda: {"": read()}, lambda _, state: write(state), lambda _: None)


def _is_global(value: Any) -> bool:
    """Say whether this is a generator of the whole program, which moves on as in a stock loop."""
    if isinstance(value, torch.Generator):
        return value is torch.default_generator or any(
            value is other for other in torch.cuda.default_generators
        )
    if isinstance(value, random.Random):
        return value is random.getstate.__self__  # type: ignore[attr-defined]
    numpy = sys.modules.get("numpy")
    return numpy is not None and value is numpy.random.get_state.__self__


def _is_code(value: Any) -> bool:
    return isinstance(
        value, (type, types.FunctionType, types.ModuleType, staticmethod, classmethod)
    ) or hasattr(type(value), "__get__")


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for inside in code.co_consts:
        if isinstance(inside, types.CodeType):
            yield from _codes(inside)


def _globals_of(code: types.CodeType) -> list[str]:
    """Name what a function may take from global variables."""
    return list(dict.fromkeys(name for some in _codes(code) for name in some.co_names))


@functools.cache
def _resizes(kind: type) -> bool:
    """Say whether the methods of a class mention what resizes a tensor."""
    functions = [getattr(value, "__func__", value) for value in vars(kind).values()]
    codes = [f.__code__ for f in functions if isinstance(f, types.FunctionType)]
    return any(not _RESIZING.isdisjoint(_globals_of(code)) for code in codes)


_RESIZING = frozenset({"resize_", "resize_as_", "set_"})


def resizable(module: nn.Module, buffers: list[Tensor]) -> set[int]:
    """Return the indices of buffers that a forward pass may resize."""
    found = {
        id(buffer)
        for part in module.modules()
        if not _keeps_nothing(part)
        and any(map(_resizes, type(part).__mro__[: type(part).__mro__.index(nn.Module)]))
        for buffer in registries(part)[1].values()
    }
    return {i for i, buffer in enumerate(buffers) if id(buffer) in found}


def _stored_in(code: types.CodeType) -> set[str]:
    """Name the global variables that a function writes to."""
    return {
        step.argval
        for some in _codes(code)
        for step in dis.get_instructions(some)
        if step.opname == "STORE_GLOBAL"
    }


def content_of(container: Any) -> Any:
    """Copy a container, by the methods of its builtin class: a subclass may override its own."""
    if isinstance(container, OrderedDict):
        return OrderedDict(OrderedDict.items(container))
    if isinstance(container, dict):
        return dict.copy(container)
    if isinstance(container, list):
        return list.copy(container)
    if isinstance(container, set):
        return set(set.__iter__(container))
    if isinstance(container, deque):
        return deque(deque.__iter__(container), container.maxlen)
    return copy.copy(container)


def _refill(container: Any, content: Any) -> None:
    """Give a container the content of a copy of it."""
    if _equal(container, content) and not isinstance(container, _CONTAINERS):
        return
    if isinstance(container, _Fields):
        container.write(content)
    elif isinstance(container, dict):
        kind = OrderedDict if isinstance(container, OrderedDict) else dict
        for key in dict.keys(container) - content.keys():
            kind.__delitem__(container, key)
        for key, value in content.items():
            kind.__setitem__(container, key, value)
    elif isinstance(container, list):
        list.__setitem__(container, slice(None), content)
    elif isinstance(container, set):
        set.clear(container)
        set.update(container, content)
    elif isinstance(container, deque):
        deque.clear(container)
        deque.extend(container, content)


def _which(label: str, container: Any, before: Any) -> list[str]:
    """Name the entries of a container that changed, or the container itself."""
    if not isinstance(container, (dict, _Fields)):
        return [] if _equal(container, before) else [label]
    now = content_of(container)
    names = [key for key in {**before, **now} if not _equal(now.get(key), before.get(key))]
    return [f"{label}.{name}".strip(".") for name in names]


def _equal(a: Any, b: Any) -> bool:
    try:
        return a is b or bool(a == b)
    except (RuntimeError, ValueError):
        return False


def _pickled(value: Any) -> bytes | None:
    """Return the bytes of an object whose content Python cannot compare."""
    try:
        if isinstance(value, types.GeneratorType):
            frame = value.gi_frame
            return repr(frame and (frame.f_lasti, frame.f_locals)).encode()
        return pickle.dumps(value)
    except Exception:  # cannot be pickled: locks, handles, iterators
        return None
