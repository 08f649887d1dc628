"""Where a weight hides that no watched module registers: layers in a Python list, dict or object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn

from fnlib.ledger.looks.watches import ModuleWatch, Watch

NOWHERE = "(a weight of no watched module)"
DEEP = 3  # containers in each other
MANY = 200  # entries of one container that are looked at


def hidden_in(watches: Iterable[Watch], weight: Tensor) -> str:
    """Return a label for a weight that is kept in an attribute of a watched module's.

    Args:
        watches: all that is watched.
        weight: that no watched module registers.

    Returns:
        ``model.layers[0].weight``, or `NOWHERE`.
    """
    for one in watches:
        module = one.value() if isinstance(one, ModuleWatch) else None
        for name, part in module.named_modules() if module is not None else ():
            prefix = f"{one.label}.{name}" if name else one.label
            for attribute, value in vars(part).items():
                if attribute[0] != "_" and not isinstance(value, (str, int, float, Tensor)):
                    for label, held in _weights_in(f"{prefix}.{attribute}", value, DEEP):
                        if held is weight:
                            return label
    return NOWHERE


def _weights_in(label: str, value: Any, deep: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of modules in plain containers, each with its label."""
    if isinstance(value, nn.Parameter):
        yield label, value
    elif isinstance(value, nn.Module):
        for name, weight in value.named_parameters():
            yield f"{label}.{name}", weight
    elif deep and type(value) in (list, tuple):
        for number, entry in enumerate(value[:MANY]):
            yield from _weights_in(f"{label}[{number}]", entry, deep - 1)
    elif deep and type(value) is dict:
        for key, entry in list(value.items())[:MANY]:
            yield from _weights_in(f"{label}[{key!r}]", entry, deep - 1)
