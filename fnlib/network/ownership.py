"""Whether a network that was just built is ours alone, or somebody else holds a part of it."""

from __future__ import annotations

import gc
import sys
import types
from collections.abc import Iterable
from typing import Any

from torch import nn

from fnlib import torch_private

_CODE = (type, types.ModuleType, types.CodeType, types.FrameType, types.BuiltinFunctionType)


def held_elsewhere(box: list[nn.Module]) -> bool:
    """Say whether anything outside of a network leads to one of its modules or tensors.

    This counts as Python's cycle collector does: an object with more references than those from
    inside of the network is held by somebody else. Only the `box` may refer to the network.
    """
    inside = {id(box[0]): 1}
    found: list[Any] = list(box)
    for value in found:  # which grows
        for other in _referents(value):
            inside[id(other)] = inside.get(id(other), 0) + 1
            if inside[id(other)] == 1:
                found.append(other)
    value = other = None
    (of_list,) = map(sys.getrefcount, [object()])
    counts = list(map(sys.getrefcount, found))
    held = [
        value
        for value, count in zip(found, counts, strict=True)
        if count - of_list > inside[id(value)]
        or (isinstance(value, nn.Module) and torch_private.weak_references(value))
    ]
    parts = {id(part) for part in box[0].modules()}
    parts |= {id(tensor) for tensor in (*box[0].parameters(), *box[0].buffers())}
    return _reach(held, parts)


def _reach(start: list[Any], goals: set[int]) -> bool:
    """Say whether objects lead to one of some others."""
    seen = set(map(id, start))
    if not goals.isdisjoint(seen):
        return True
    todo = list(start)
    while todo:
        for other in _referents(todo.pop()):
            if id(other) in goals:
                return True
            if id(other) not in seen:
                seen.add(id(other))
                todo.append(other)
    return False


def _referents(value: Any) -> Iterable[Any]:
    """Return what an object refers to, without code, and the global variables that code sees."""
    others = gc.get_referents(value)
    if isinstance(value, types.FunctionType):
        seen = {id(value.__globals__), id(value.__globals__.get("__builtins__"))}
        others = [other for other in others if id(other) not in seen]
    return [other for other in others if gc.is_tracked(other) and not isinstance(other, _CODE)]
