"""What a value holds: one record that is saved, compared, moved and stepped."""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fnlib import errors
from fnlib.show.location import where
from fnlib.values.protect import share, share_all
from fnlib.values.trees import map_tree, same_tree

Target = torch.device | str | torch.dtype


class Names(NamedTuple):
    """What a network says of its names."""

    ties: Mapping[str, str] = {}  # second name of a tied tensor -> its first name
    unsaved: frozenset[str] = frozenset()  # buffers that a state dict leaves out
    resized: frozenset[str] = frozenset()  # buffers that a forward pass gave another shape
    extra: Mapping[str, Any] = {}  # what `get_extra_state` adds to a state dict


class Held(NamedTuple):
    """All that training changes."""

    weights: dict[str, Tensor]
    buffers: dict[str, Tensor]
    state: Any = None  # the update rule's
    rule: str | None = None  # the name of the rule that made the state
    step_count: int = 0
    names: Names = Names()


class Empty(NamedTuple):
    """How initial weights are to be drawn."""

    seed: int | None = None
    device: torch.device | str | None = None
    dtype: torch.dtype | None = None


class GivenAway(NamedTuple):
    """What is left of a value that a step has used up."""

    where: str  # the line that gave it away
    step_count: int

    def error(self) -> errors.Donated:
        return errors.Donated(f"This value (parameters after step {self.step_count})", self.where)


Content = Held | Empty | GivenAway


def held_in(content: Content, action: str) -> Held:
    """Return what a value holds, or say why it holds nothing and so can't do `action`."""
    if isinstance(content, Empty):
        raise errors.EmptyParameters(action)
    if isinstance(content, GivenAway):
        raise content.error()
    return content


def same(a: Content, b: Content) -> bool:
    """Compare all state, byte for byte."""
    if isinstance(a, Held) and isinstance(b, Held):
        if (a.step_count, a.rule) != (b.step_count, b.rule):
            return False
        # Names belong to the network, which a value made elsewhere may not know.
        return all(map(same_tree, a[:-1], b[:-1]))
    return isinstance(a, Empty) and isinstance(b, Empty) and a == b


def check_dtype(target: Target | None, what: str, right: str) -> None:
    """Refuse a dtype that would make weights another kind of number."""
    if isinstance(target, torch.dtype) and not target.is_floating_point:
        raise errors.WrongParameters(what, f"{target} can't represent the weights", right)


def converted(held: Held, target: Target) -> Held:
    """Move to another device, or convert floating numbers to another dtype; counters never.

    The ``step`` entries of optimizers keep their dtype and their device, as in ``torch.optim``.
    """
    right = "parameters = parameters.to(torch.float64)   # complex weights become complex128"
    check_dtype(target, "to() takes a device or a floating dtype", right)

    def convert(tensor: Tensor) -> Tensor:
        return moved(tensor, target)

    def convert_state(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {k: v if k == "step" else convert_state(v) for k, v in tree.items()}
        if type(tree) in (list, tuple):
            return type(tree)(map(convert_state, tree))
        return map_tree(convert, tree)

    return held._replace(
        weights=map_tree(convert, held.weights),
        buffers=map_tree(convert, held.buffers),
        state=convert_state(held.state),
    )


def moved(tensor: Tensor, target: Target) -> Tensor:
    """Copy a tensor to a device, or convert it to a dtype if it is of floating numbers."""
    if not isinstance(target, torch.dtype):
        return tensor.to(target, copy=True)
    if tensor.is_complex():
        return tensor.to(target.to_complex())
    return tensor.to(target) if tensor.is_floating_point() else tensor


def state_dict(held: Held) -> dict[str, Any]:
    """Copy weights and saved buffers, a tied one under each of its names."""
    ties, unsaved = held.names.ties, held.names.unsaved
    tensors = {**held.weights, **held.buffers}
    copies: dict[str, Any] = {
        name: tensors[name].detach().clone() for name in tensors if name not in unsaved
    }
    tied = {name: first for name, first in ties.items() if first in copies and name not in unsaved}
    extra = copy.deepcopy(dict(held.names.extra))
    return copies | {name: copies[first] for name, first in tied.items()} | extra


def lent(held: Held, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Any]:
    """Return weights and state that a step may write to, once nobody else refers to `held`.

    They are shared, because another value may hold the same tensors (`replace` copies nothing). A
    tensor that nobody else holds is written to where it is: its original ends with `held`.
    """
    lends = dict(zip(weights, share_all(weights.values()), strict=True))
    return lends, map_tree(share, held.state)


_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def caller() -> str:
    """Say which line outside of this package is being executed."""
    frame = inspect.currentframe()
    while frame and frame.f_back and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return where(frame.f_code.co_filename, frame.f_lineno) if frame else "an unknown line"
