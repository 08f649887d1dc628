"""The autograd graph behind a tensor: its size, its leaves, when its parts were built, what it saved.

No node is kept, as a node that is held keeps the whole graph alive.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from fnlib.ledger.looks.bytes import address, unreadable
from fnlib.torch_private import (
    active_transform,
    age_of,
    next_age,
    normalised_by_batch,
    quietly,
    saved_names,
)

LIMIT = 20_000  # nodes: a graph that grows with every step must not slow the recording down with it


@dataclass(slots=True)
class Graph:
    """What is behind some tensors. ``uses`` maps the identity of each leaf to the ages of its uses."""

    nodes: int = 0
    uses: dict[int, list[int]] = field(default_factory=dict)
    leaves: dict[int, Tensor] = field(default_factory=dict)
    ages: set[int] = field(default_factory=set)
    squashed: tuple[str, str, int, int] | None = None  # a loss, what made its input, and their ages


_LOGITS = ("SoftmaxBackward0", "SigmoidBackward0")
_SCORES = ("AddmmBackward0", "MmBackward0", "ConvolutionBackward0", "ReluBackward0")
_SQUASHED = {  # functions that squash raw scores, or take logarithms, and what should not make them
    "LogSoftmaxBackward0": _LOGITS,
    "BinaryCrossEntropyWithLogitsBackward0": _LOGITS,
    "NllLossBackward0": (*_LOGITS, *_SCORES),
    "NllLoss2DBackward0": (*_LOGITS, *_SCORES),
}
_SHAPES = re.compile(
    "(Unsafe)?(View|Reshape|Transpose|T|Permute|Squeeze|Unsqueeze|Expand|Clone|ToCopy"
    "|Select|Slice|Index|IndexSelect|Unbind)Backward"
)


def graph_of(tensors: Iterable[Any]) -> Graph:
    """Walk the graph behind some tensors."""
    found = Graph()
    uses, ages = found.uses, found.ages
    waiting: list[tuple[Any, int]] = []
    for tensor in tensors:
        if isinstance(tensor, Tensor):
            if (root := tensor.grad_fn) is not None:
                waiting.append((root, 0))
            elif tensor.requires_grad:
                found.leaves[id(tensor)] = tensor
                uses[id(tensor)] = [next_age()]
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
            age = age_of(node)
            if age is not None:
                ages.add(age)
            wrong = _SQUASHED.get(type(node).__name__)
            if wrong is not None and age is not None:
                made = _made(node)
                if (name := type(made).__name__) in wrong:
                    found.squashed = (type(node).__name__, name, age, age_of(made) or age)
            for inner, _ in node.next_functions:
                if inner is not None:
                    waiting.append((inner, -1 if age is None else age))
    found.nodes = len(seen)
    return found


def _made(node: Any) -> Any:
    """Return what made the first input of a node, past what only selects, shapes or converts it."""
    for _ in range(10):
        node = node.next_functions[0][0] if node.next_functions else None
        if node is None or not _SHAPES.match(type(node).__name__):
            break
    return node


def age_of_tensor(tensor: Tensor) -> int | None:
    """Return the age of the node that made a tensor, ``None`` without a graph."""
    node = tensor.grad_fn
    return None if node is None else age_of(node)


def _leaf_type() -> type:
    with torch.enable_grad():
        return type((torch.zeros(1, requires_grad=True) * 1).grad_fn.next_functions[0][0])  # type: ignore[union-attr]


_LEAF = _leaf_type()


# --- what must not change until the backward pass -----------------------------------------------


def saved_by(tensors: Iterable[Any]) -> dict[int, list[int]]:
    """Map where saved tensors of a graph are to the ages of the nodes that saved them.

    Autograd refuses a backward pass whose saved tensors were changed, as far as their version
    counters tell. Fused optimizers, BatchNorm's statistics and ``.data`` change tensors without
    the counter. Nothing is unpacked, so hooks of saved tensors (checkpointing) don't run.
    """
    found: dict[int, list[int]] = {}
    if active_transform() is not None:
        return found  # tensors inside of a torch.func transform may not be looked into
    roots = [one.grad_fn for one in tensors if isinstance(one, Tensor)]
    waiting: list[Any] = [node for node in roots if node is not None]
    seen: set[Any] = set(waiting)
    with quietly():
        while waiting and len(seen) < LIMIT:
            node = waiting.pop()
            statistics_unused = normalised_by_batch(node)
            for name in _names(type(node)):
                if statistics_unused and "running" in name:
                    continue
                held = getattr(node, name)
                for one in held if isinstance(held, (list, tuple)) else (held,):
                    value = getattr(one, "data", None)
                    if isinstance(value, Tensor) and unreadable(value) is None:
                        if (start := address(value)) and (age := age_of(node)) is not None:
                            found.setdefault(start, []).append(age)
            for inner, _ in node.next_functions:
                if inner is not None and inner not in seen:
                    seen.add(inner)
                    waiting.append(inner)
    return found


# Weak keys: a Function made inside of a function refers to whatever it closes over.
_named: WeakKeyDictionary[type, tuple[str, ...]] = WeakKeyDictionary()


def _names(kind: type) -> tuple[str, ...]:
    names = _named.get(kind)
    if names is None:
        names = _named[kind] = saved_names(kind)
    return names
