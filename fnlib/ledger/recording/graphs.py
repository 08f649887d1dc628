"""Reading the autograd graph behind a tensor: its size, the leaves that it reaches, and when each part was built."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

LIMIT = 20_000  # nodes: a graph that grows with every step must not slow the recording down with it


@dataclass(slots=True)
class Graph:
    """What lies behind some tensors. ``uses`` maps the identity of each leaf to the ages of its uses."""

    nodes: int = 0
    uses: dict[int, list[int]] = field(default_factory=dict)
    leaves: dict[int, Tensor] = field(default_factory=dict)
    ages: set[int] = field(default_factory=set)


def graph_of(tensors: Iterable[Any]) -> Graph:
    """Walk the graph behind some tensors. No node is kept: a node that is held keeps the whole graph alive."""
    found = Graph()
    uses, ages = found.uses, found.ages
    waiting: list[tuple[Any, int]] = []
    for tensor in tensors:
        if isinstance(tensor, Tensor):
            if (root := tensor.grad_fn) is not None:
                waiting.append((root, 0))
            elif tensor.requires_grad:
                found.leaves[id(tensor)] = tensor
                uses[id(tensor)] = [age_now()]
    seen: set[Any] = set()
    while waiting and len(seen) < LIMIT:
        node, user = waiting.pop()
        if type(node) is _LEAF:
            leaf: Any = node.variable  # type: ignore[attr-defined]
            found.leaves[id(leaf)] = leaf
            uses.setdefault(id(leaf), []).append(user)
            seen.add(node)
        elif node not in seen:
            seen.add(node)
            age = node._sequence_nr()
            ages.add(age)
            for inner, _ in node.next_functions:
                if inner is not None:
                    waiting.append((inner, age))
    found.nodes = len(seen)
    return found


def _leaf_type() -> type:
    with torch.enable_grad():
        return type((torch.zeros(1, requires_grad=True) * 1).grad_fn.next_functions[0][0])  # type: ignore[union-attr]


_LEAF = _leaf_type()


def age_now() -> int:
    """The age that the next node of this thread will have; ages only grow."""
    return int(torch._C._autograd._get_sequence_nr())


def age_of(tensor: Tensor) -> int | None:
    """Age of the node that made a tensor, ``None`` without a graph."""
    node = tensor.grad_fn
    return None if node is None else int(node._sequence_nr())
