"""What a graph saved for its backward: the tensors that must not change until then.

Autograd refuses a backward whose saved tensors were changed, as far as their version counters tell. Fused optimizers,
BatchNorm's statistics and ``.data`` change tensors without the counter, so the ledger looks for itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from fnlib.ledger.looks.content import address, quietly, unreadable
from fnlib.ledger.recording.graphs import LIMIT


def saved_by(tensors: Iterable[Any]) -> dict[int, list[int]]:
    """Where the saved tensors of the graph behind some tensors lie, each with the ages of the nodes that saved it.

    Nothing is unpacked, so that saved-tensor hooks (checkpointing, offloading) do not run.
    """
    found: dict[int, list[int]] = {}
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return found  # inside a torch.func transform, whose tensors may not be looked into
    waiting = [
        node for one in tensors if isinstance(one, Tensor) and (node := one.grad_fn) is not None
    ]
    seen: set[Any] = set(waiting)
    with quietly():
        while waiting and len(seen) < LIMIT:
            node = waiting.pop()
            statistics_unused = getattr(
                node, "_saved_training", False
            )  # BatchNorm in training mode normalises by the batch
            for name in _names(type(node)):
                if statistics_unused and "running" in name:
                    continue
                held = getattr(node, name)
                for one in held if isinstance(held, (list, tuple)) else (held,):
                    value = getattr(one, "data", None)
                    if (
                        isinstance(value, Tensor)
                        and unreadable(value) is None
                        and (start := address(value))
                    ):
                        found.setdefault(start, []).append(node._sequence_nr())
            for inner, _ in node.next_functions:
                if inner is not None and inner not in seen:
                    seen.add(inner)
                    waiting.append(inner)
    return found


_named: WeakKeyDictionary[type, tuple[str, ...]] = (
    WeakKeyDictionary()
)  # not to keep alive what a Function made in a function refers to


def _names(kind: type) -> tuple[str, ...]:
    """The saved tensors that a kind of node has."""
    names = _named.get(kind)
    if names is None:
        names = _named[kind] = tuple(name for name in dir(kind) if name.startswith("_raw_saved_"))
    return names
