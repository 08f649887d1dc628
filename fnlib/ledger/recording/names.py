"""Which owners a statement names: its dotted names, looked up without calling anything.

A statement names an owner if a name, dotted name or constant subscript in its text is that owner, a part of it, or one
of its tensors. A module that contains the owner names it too: state belongs to its module and to the modules
around it (a compiled or wrapped model, a box that holds its network and its optimizer).
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from fnlib.ledger.recording.source import Path, Subscript

MISSING: Any = object()
_DATA_DESCRIPTORS = (
    types.MemberDescriptorType,
)  # slots: read by C code, nothing of the user's runs


def values_along(path: Path, local: dict[str, Any], world: dict[str, Any]) -> Iterator[Any]:
    """Yield the value of each prefix of a path, as far as it can be found without calling anything."""
    name = path[0]
    value = local.get(name, MISSING)  # type: ignore[call-overload]
    if value is MISSING:
        value = world.get(name, MISSING)  # type: ignore[call-overload]
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
    """An attribute that is stored, not computed: ``MISSING`` for properties and anything else that would run code."""
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
    if (
        isinstance(value, Tensor)
        and name == "grad"
        and type(value).__torch_function__ is Tensor.__torch_function__
    ):
        return value.grad if value.is_leaf else MISSING
    for kind in type(value).__mro__:
        if name in kind.__dict__:
            found = kind.__dict__[name]
            if isinstance(found, _DATA_DESCRIPTORS):
                try:
                    return found.__get__(value)
                except AttributeError:
                    return MISSING
            return MISSING if hasattr(type(found), "__get__") else found
    return MISSING


def _item(value: Any, key: Any) -> Any:
    """A constant subscript of a plain container or of a module list: ``MISSING`` for any other class."""
    if isinstance(value, (nn.Sequential, nn.ModuleList)) and isinstance(key, int):
        children = list(value._modules.values())
        return children[key] if -len(children) <= key < len(children) else MISSING
    if isinstance(value, nn.ModuleDict):
        return value._modules.get(key, MISSING)
    if type(value) in (list, tuple) or type(value).__name__ == "OrderedDict" or type(value) is dict:
        try:
            return value[key]
        except (LookupError, TypeError):
            return MISSING
    return MISSING
