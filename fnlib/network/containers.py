"""Read, compare and refill what holds things: containers, slots, cells, generators, arrays."""

from __future__ import annotations

import copy
import pickle
import random
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fnlib.torch_private import registries, unsaved_buffers

CONTAINERS = (dict, list, set, deque)


@dataclass(eq=False)
class Fields:
    """What has no dict of its own, seen as one: slots, cells, a class, global variables.

    Args:
        read: returns names and values.
        set, delete: change one of them.
    """

    read: Callable[[], dict[str, Any]]
    set: Callable[[str, Any], object]
    delete: Callable[[str], None]

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


def without(own: dict[str, Any], left_out: frozenset[str]) -> Fields:
    """See the attributes of a module, some left out."""
    return Fields(
        lambda: {name: value for name, value in own.items() if name not in left_out},
        own.__setitem__,
        own.__delitem__,
    )


def late_buffers(part: nn.Module) -> Fields:
    """See the buffers that have no tensor when the module is built."""
    buffers = registries(part)[1]
    own = {name for name, buffer in buffers.items() if buffer is not None}
    empty = {name for name, buffer in buffers.items() if buffer is None}

    def delete(name: str) -> None:
        del buffers[name]
        unsaved_buffers(part).discard(name)

    return Fields(
        lambda: {name: buffer for name, buffer in buffers.items() if name not in own},
        buffers.__setitem__,
        lambda name: buffers.__setitem__(name, None) if name in empty else delete(name),
    )


def slots_of(value: Any) -> list[str]:
    """Name the slots of an object, as its class writes them."""
    if isinstance(value, Tensor) or type(value).__module__.partition(".")[0] == "torch":
        return []
    slots = [vars(kind).get("__slots__", ()) for kind in type(value).__mro__]
    names = [name for some in slots for name in ([some] if isinstance(some, str) else some)]
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def position_of(value: Any) -> Fields | None:
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


def _as_one(read: Callable[[], Any], write: Callable[[Any], object]) -> Fields:
    """See a state that is read and written as a whole."""
    return Fields(lambda: {"": read()}, lambda _, state: write(state), lambda _: None)


def is_global(value: Any) -> bool:
    """Say whether this is a generator of the whole program, which moves on as in a stock loop."""
    if isinstance(value, torch.Generator):
        return value is torch.default_generator or any(
            value is other for other in torch.cuda.default_generators
        )
    if isinstance(value, random.Random):
        return value is random.getstate.__self__  # type: ignore[attr-defined]
    numpy = sys.modules.get("numpy")
    return numpy is not None and value is numpy.random.get_state.__self__


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


def refill(container: Any, content: Any) -> None:
    """Give a container the content of a copy of it."""
    if equal(container, content) and not isinstance(container, CONTAINERS):
        return
    if isinstance(container, Fields):
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


def entries_changed(label: str, container: Any, before: Any) -> list[str]:
    """Name the entries of a container that changed, or the container itself."""
    if not isinstance(container, (dict, Fields)):
        return [] if equal(container, before) else [label]
    now = content_of(container)
    names = [key for key in {**before, **now} if not equal(now.get(key), before.get(key))]
    return [f"{label}.{name}".strip(".") for name in names]


def equal(a: Any, b: Any) -> bool:
    """Compare as `==` does; what can't be compared is another thing."""
    try:
        return a is b or bool(a == b)
    except (RuntimeError, ValueError):
        return False


def pickled(value: Any) -> bytes | None:
    """Return the bytes of an object whose content Python cannot compare."""
    try:
        if isinstance(value, types.GeneratorType):
            frame = value.gi_frame
            return repr(frame and (frame.f_lasti, frame.f_locals)).encode()
        return pickle.dumps(value)
    except Exception:  # cannot be pickled: locks, handles, iterators
        return None
