"""A record taken apart into tensors and all the rest, as ``torch.func`` takes a tree apart."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fnlib import errors
from fnlib.values.held import Content, Held, Names
from fnlib.values.protect import share_all
from fnlib.values.trees import ATOMS

_STACK = "stacked = fnlib.stack([p, q])   # of one factory, after as many steps"
_UNSTACK = "values = fnlib.unstack(fnlib.stack([p, q]))"


class Static(NamedTuple):
    """What a record holds besides tensors. Two records with equal static parts can be stacked."""

    weights: tuple[str, ...]
    buffers: tuple[str, ...]
    state: Any  # with the class Tensor in the place of each tensor
    rule: str | None
    step_count: int
    names: Names


class Apart(NamedTuple):
    """A record as a transform takes it and returns it, until somebody looks up a name."""

    tensors: list[Any]  # or what a transform put in their places
    static: Static

    @property
    def step_count(self) -> int:
        return self.static.step_count


def apart(content: Content | Apart) -> tuple[list[Any], Any]:
    """Return the tensors of a value, as shares, and the rest: all of it, if it is empty."""
    if isinstance(content, Apart):
        return _shares(content.tensors), content.static
    if not isinstance(content, Held):
        return [], content
    tensors: list[Any] = [*content.weights.values(), *content.buffers.values()]
    names = tuple(content.weights), tuple(content.buffers)
    state = _emptied(content.state, tensors)
    static = Static(*names, state, content.rule, content.step_count, content.names)
    return _shares(tensors), static


def rebuilt(tensors: Collection[Any], static: Any) -> Any:
    """Undo `apart`, with any leaves: a transform puts in tensors of its own, or none at all."""
    if not isinstance(static, Static):
        return static
    return Apart(_shares(tensors), static)


def together(content: Apart) -> Held:
    """Give the tensors their names again."""
    static, leaves = content.static, iter(content.tensors)
    weights = dict(zip(static.weights, leaves, strict=False))
    buffers = dict(zip(static.buffers, leaves, strict=False))
    return Held(weights, buffers, _filled(static.state, leaves), *static[3:])


def _shares(leaves: Collection[Any]) -> list[Any]:
    shares = iter(share_all([leaf for leaf in leaves if isinstance(leaf, Tensor)]))
    return [next(shares) if isinstance(leaf, Tensor) else leaf for leaf in leaves]


class _Leaf:
    """What a transform put in the place of a tensor of the state: an axis, or nothing."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _emptied(tree: Any, leaves: list[Any]) -> Any:
    """Copy a tree with its leaves put aside."""
    if isinstance(tree, (Tensor, _Leaf)):
        leaves.append(tree if isinstance(tree, Tensor) else tree.value)
        return Tensor
    if isinstance(tree, dict):
        return {k: v if type(v) in ATOMS else _emptied(v, leaves) for k, v in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(_emptied(value, leaves) for value in tree)
    return tree


def _filled(skeleton: Any, leaves: Iterator[Any]) -> Any:
    """Undo `_emptied`."""
    if skeleton is Tensor:
        leaf = next(leaves)
        return leaf if isinstance(leaf, Tensor) else _Leaf(leaf)
    if isinstance(skeleton, dict):
        return {k: v if type(v) in ATOMS else _filled(v, leaves) for k, v in skeleton.items()}
    if type(skeleton) in (list, tuple):
        return type(skeleton)(_filled(value, leaves) for value in skeleton)
    return skeleton


def stacked(records: Sequence[Held]) -> Held:
    """Stack the tensors of records along a new first dimension."""
    if not records:
        raise errors.WrongParameters("stack takes parameters", "the list is empty", _STACK)
    tensors, statics = zip(*map(apart, records), strict=True)
    for static in statics[1:]:
        _check_same(statics[0], static)
    names = *statics[0].weights, *statics[0].buffers
    for name, parts in zip(names, zip(*tensors, strict=True), strict=False):
        if len({part.shape for part in parts}) > 1:
            shapes = " and ".join(sorted({str(tuple(part.shape)) for part in parts}))
            raise _not_alike(f"'{name}' has shapes {shapes}")
    return together(rebuilt(list(map(torch.stack, zip(*tensors, strict=True))), statics[0]))


def unstacked(held: Held) -> list[Held]:
    """Take a stacked record apart into the records that it was made of."""
    tensors, static = apart(held)
    sizes = {tensor.shape[:1] for tensor in tensors}
    if len(sizes) != 1 or sizes == {torch.Size()}:
        why = "these parameters have no first dimension that all of their tensors share"
        raise errors.WrongParameters("unstack takes what stack returned", why, _UNSTACK)
    # Each a copy: the parts of one tensor share its memory, which a donation would take.
    rows = zip(*(map(Tensor.clone, tensor.unbind()) for tensor in tensors), strict=True)
    return [together(rebuilt(row, static)) for row in rows]


def _check_same(first: Static, other: Static) -> None:
    for part in ("weights", "buffers", "rule", "step_count", "state", "names"):
        mine, theirs = getattr(first, part), getattr(other, part)
        if mine != theirs:
            if part in ("rule", "step_count"):
                raise _not_alike(f"{part} is {mine!r} in one and {theirs!r} in another")
            if part == "state":
                raise _not_alike("their optimizer states differ in their settings or entries")
            raise _not_alike(f"the names of their {part} differ")


def _not_alike(detail: str) -> errors.WrongParameters:
    return errors.WrongParameters("Only parameters of one kind can be stacked", detail, _STACK)
