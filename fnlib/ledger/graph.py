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
    waiting = [(node, 0) for tensor in tensors if isinstance(tensor, Tensor) and (node := tensor.grad_fn) is not None]
    for tensor in tensors:
        if isinstance(tensor, Tensor) and tensor.is_leaf and tensor.requires_grad:
            found.leaves[id(tensor)] = tensor
            found.uses[id(tensor)] = [age_now()]
    seen: set[Any] = set()
    while waiting and found.nodes < LIMIT:
        node, user = waiting.pop()
        if type(node).__name__ == "AccumulateGrad":
            leaf = node.variable
            found.leaves[id(leaf)] = leaf
            found.uses.setdefault(id(leaf), []).append(user)
            if node not in seen:
                seen.add(node)
                found.nodes += 1
            continue
        if node in seen:
            continue
        seen.add(node)
        found.nodes += 1
        age = node._sequence_nr()
        found.ages.add(age)
        waiting.extend([(inner, age) for inner, _ in node.next_functions if inner is not None])
    return found


def age_now() -> int:
    """The age that the next node of this thread will have; ages only grow."""
    return int(torch._C._autograd._get_sequence_nr())


def age_of(tensor: Tensor) -> int | None:
    """Age of the node that made a tensor, ``None`` without a graph."""
    node = tensor.grad_fn
    return None if node is None else int(node._sequence_nr())
