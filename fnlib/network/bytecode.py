"""What the code of functions says about the variables that they use."""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Iterator
from typing import Any

_RESIZING = frozenset({"resize_", "resize_as_", "set_"})


def is_code(value: Any) -> bool:
    """Say whether an attribute of a class is code, and no state."""
    return isinstance(
        value, (type, types.FunctionType, types.ModuleType, staticmethod, classmethod)
    ) or hasattr(type(value), "__get__")


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for inside in code.co_consts:
        if isinstance(inside, types.CodeType):
            yield from _codes(inside)


def globals_of(code: types.CodeType) -> list[str]:
    """Name what a function may take from global variables."""
    return list(dict.fromkeys(name for some in _codes(code) for name in some.co_names))


def stored_in(code: types.CodeType) -> set[str]:
    """Name the global variables that a function writes to."""
    return {
        step.argval
        for some in _codes(code)
        for step in dis.get_instructions(some)
        if step.opname == "STORE_GLOBAL"
    }


@functools.cache
def resizes(kind: type) -> bool:
    """Say whether the methods of a class mention what resizes a tensor."""
    functions = [getattr(value, "__func__", value) for value in vars(kind).values()]
    codes = [f.__code__ for f in functions if isinstance(f, types.FunctionType)]
    return any(not _RESIZING.isdisjoint(globals_of(code)) for code in codes)
