"""Where a layer or weight hides that no watched module registers: in a Python list, dict or object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from fnlib.ledger.looks.watches import ModuleWatch, Watch

NOWHERE = "(a weight of no watched module)"
DEEP = 3  # containers in each other
MANY = 200  # entries of one container that are looked at
_PASSED_OVER = (str, int, float, bool, type(None))


def hidden_in(watches: Iterable[Watch], value: nn.Module | Tensor) -> str:
    """Return the label of what is kept in a plain attribute of a watched module.

    Args:
        watches: all that is watched.
        value: a module or a weight that no watched module registers.

    Returns:
        ``model.layers[0].weight``, or "" if no watched module keeps it.
    """
    for one in watches:
        module = one.value() if isinstance(one, ModuleWatch) else None
        for name, part in module.named_modules() if module is not None else ():
            prefix = f"{one.label}.{name}" if name else one.label
            for attribute, held in vars(part).items():
                if attribute[0] != "_" and not isinstance(held, _PASSED_OVER):
                    for label, kept in _kept_in(f"{prefix}.{attribute}", held, DEEP):
                        if kept is value:
                            return label
    return ""


def _kept_in(label: str, value: Any, deep: int) -> Iterator[tuple[str, Any]]:
    """Yield the modules and weights in plain containers and objects, each with its label."""
    if isinstance(value, Tensor):
        if value.requires_grad and value.is_leaf:
            yield label, value
    elif isinstance(value, nn.Module):
        for name, part in value.named_modules():
            yield f"{label}.{name}" if name else label, part
        for name, weight in value.named_parameters():
            yield f"{label}.{name}", weight
    elif not deep or isinstance(value, (type, ModuleType)):
        return
    elif type(value) in (list, tuple):
        for number, entry in enumerate(value[:MANY]):
            yield from _kept_in(f"{label}[{number}]", entry, deep - 1)
    elif type(value) is dict:
        for key, entry in list(value.items())[:MANY]:
            yield from _kept_in(f"{label}[{key!r}]", entry, deep - 1)
    elif type(getattr(value, "__dict__", None)) is dict and not hasattr(value, "__code__"):
        for name, entry in list(vars(value).items())[:MANY]:
            if not isinstance(entry, _PASSED_OVER):
                yield from _kept_in(f"{label}.{name}", entry, deep - 1)
