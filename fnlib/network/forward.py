"""One forward pass of a module, with everything that it changed noticed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

from fnlib import errors
from fnlib.network.pool import Mode, Skeleton, Structure
from fnlib.network.randomness import Mark, preserved
from fnlib.values.checks import owned
from fnlib.values.protect import (
    Tensors,
    _in_transform,
    all_unchanged,
    same_bits,
    share,
    share_all,
    unchanged,
)


class Buffers(Tensors):
    """The buffers after a forward pass, and any weights that the pass itself changed. Made by ``model.with_buffers``."""

    __slots__ = ("changed", "weights")

    def __init__(
        self, tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor], changed: list[str]
    ) -> None:
        super().__init__(tensors)
        self.weights, self.changed = weights, changed

    @property
    def raw(self) -> dict[str, Tensor]:
        return dict(self._tensors)


_NO_BUFFERS = Buffers({}, {}, [])


def run(
    structure: Structure,
    mode: Mode,
    weights: Mapping[str, Tensor],
    leaves: list[Tensor],
    buffers: Mapping[str, Tensor],
    method: str | None,
    args: Any,
    kwargs: Any,
    keep: bool,
) -> tuple[Any, Buffers]:
    """Run a forward pass on copy-on-write tensors and say what it changed.

    Args:
        structure: the network.
        mode: training or evaluation.
        weights: the value's own tensors, to compare with.
        leaves: the same tensors, copy-on-write, where gradients are taken.
        buffers: the buffers before the pass.
        method: another method than forward.
        args, kwargs: the inputs.
        keep: whether changes are returned; if not, a change is an error.

    Returns:
        The output and the buffers after the pass.
    """
    skeleton = structure.borrow(mode)
    # A pass that turns out to write to weights is run again from here. Layers of torch.nn show on the first one whether they do.
    mark = (
        None
        if structure.writes_weights or (structure.has_run and skeleton.keeps_nothing)
        else Mark(leaves)
    )
    # A pass that writes to its weights (Embedding(max_norm=)) would write to the leaves, so it gets copies of its own.
    placed = [share(leaf) for leaf in leaves] if structure.writes_weights else leaves
    given_buffers = share_all(buffers.values()) if buffers else []
    output = skeleton.call(placed, given_buffers, method, args, kwargs)
    structure.has_run = True
    new_weights, new_buffers = skeleton.found
    written = _changed(weights, new_weights)
    changed = _changed(buffers, new_buffers) if buffers else []
    if written and not structure.writes_weights:
        for leaf, origin in zip(leaves, weights.values(), strict=True):
            leaf.data = share(origin)
        structure.writes_weights = True
        if mark is not None:
            mark.restore()
        return run(structure, mode, weights, leaves, buffers, method, args, kwargs, keep)
    if not skeleton.keeps_nothing and (grown := skeleton.survey.grew()):
        raise errors.HiddenState(grown, "adds or removes them while it runs")
    if not skeleton.keeps_nothing and (attributes := skeleton.changed_attributes()):
        _refuse_memory(skeleton, placed, buffers, method, args, kwargs, attributes)
    else:
        structure.give_back(skeleton, new_buffers)
    if not (
        type(output) is Tensor and output.grad_fn is not None and output._base is None
    ):  # nearly always
        output = _apart(output, [*leaves, *new_weights, *new_buffers])
    if not keep:
        if changed or written:
            raise errors.StateDropped([*changed, *written], method)
        return output, _NO_BUFFERS
    places = zip(buffers, given_buffers, new_buffers, strict=True)
    after = {name: _own(new, given) for name, given, new in places}
    moved = {
        name: _own(new, given)
        for name, given, new in zip(weights, placed, new_weights, strict=True)
        if name in written
    }
    return output, Buffers(after, moved, [*changed, *written])


def _own(new: Tensor, given: Tensor) -> Tensor:
    """Take over what stands in a place after a pass: another tensor than the one that was put there may be the user's."""
    if new is not given:
        return owned(new)
    return new.detach() if new.requires_grad else new


def _apart(output: Any, held: list[Tensor]) -> Any:
    """Share what a module returns of its weights and buffers: writes to an output must not reach a value."""
    memory = {_memory(tensor) for tensor in held}
    parts = [
        part
        for part in _pytree.tree_leaves(output)
        if isinstance(part, Tensor) and part.layout is torch.strided
    ]
    if not any(_memory(part) in memory for part in parts):
        return output
    return _pytree.tree_map_only(
        Tensor, lambda part: share(part) if _memory(part) in memory else part, output
    )


def _memory(tensor: Tensor) -> int:
    """Identify the memory of a tensor, without writing to it (asking for its address would)."""
    return (
        0
        if tensor.layout is not torch.strided or _in_transform(tensor)
        else tensor.untyped_storage()._cdata
    )


def _changed(before: Mapping[str, Tensor], after: list[Tensor]) -> list[str]:
    """Name the tensors that a forward pass wrote to or exchanged."""
    if all_unchanged(after, before.values()):
        return []
    return [
        name
        for name, new, old in zip(before, after, before.values(), strict=True)
        if not unchanged(new, old)
    ]


def _refuse_memory(
    skeleton: Skeleton,
    placed: list[Tensor],
    buffers: Mapping[str, Tensor],
    method: str | None,
    args: Any,
    kwargs: Any,
    attributes: list[str],
) -> None:
    """Run twice more from one state, without and with the changed attributes: if the outputs differ, they are state, and refused."""
    structure = skeleton.structure
    fresh = structure.borrow(skeleton.mode)
    outputs = []
    for module in (fresh, skeleton):
        with preserved():
            outputs.append(module.call(placed, share_all(buffers.values()), method, args, kwargs))
    if not _same_output(*outputs):
        raise errors.HiddenState(
            attributes, "gives a different output when it runs again on the same input"
        )


def _same_output(a: Any, b: Any) -> bool:
    leaves_a, tree_a = _pytree.tree_flatten(a)
    leaves_b, tree_b = _pytree.tree_flatten(b)
    if tree_a != tree_b:
        return False
    for x, y in zip(leaves_a, leaves_b, strict=True):
        if isinstance(x, Tensor) and isinstance(y, Tensor):
            if not same_bits(x, y):
                return False
        elif type(x) is not type(y):
            return False
        elif hasattr(x, "__dict__"):
            if not _same_output(dict(vars(x)), dict(vars(y))):
                return False
        elif not (x == y or (x != x and y != y)):
            return False
    return True
