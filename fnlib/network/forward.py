"""One forward pass of a module, with everything that it changed noticed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fnlib import errors
from fnlib.network.backward import Leaves
from fnlib.network.judge import Record, judge
from fnlib.network.pool import Call, Mode, Network
from fnlib.torch_private import flat, is_own, is_wrapped, map_tensors, memory_of
from fnlib.values.held import check_match, untied
from fnlib.values.protect import (
    Tensors,
    all_unchanged,
    owned,
    share,
    share_all,
    unchanged,
)


class Passes:
    """The forward passes of models that were made from one another, and what they changed."""

    __slots__ = ("changed", "count")

    def __init__(self) -> None:
        self.changed: list[str] = []  # names of buffers and weights
        self.count = 0  # of passes that changed any

    def add(self, names: list[str]) -> None:
        self.count += 1
        self.changed.extend(name for name in names if name not in self.changed)

    def behind(self, buffers: Mapping[str, Tensor]) -> int:
        """Count the passes that led to buffers; all, if somebody made the mapping on purpose."""
        if not isinstance(buffers, Buffers):
            return self.count
        return buffers.behind if buffers.passes is self else 0


class Buffers(Tensors):
    """The buffers after a forward pass, with any weights that the pass itself changed.

    Made by ``model.with_buffers``.
    """

    __slots__ = ("behind", "changed", "passes", "resized", "weights")

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        weights: Mapping[str, Tensor],
        changed: list[str],
        resized: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(tensors)
        self.weights, self.changed, self.resized = weights, changed, resized
        # How many of which passes led here; set by the model, to notice when some are dropped.
        self.passes: Passes | None = None
        self.behind = 0

    @property
    def raw(self) -> Mapping[str, Tensor]:
        """The tensors themselves, for use inside of fnlib."""
        return self._tensors


_NO_BUFFERS = Buffers({}, {}, [])


def taken(buffers: Mapping[str, Tensor], network: Network, right: str) -> dict[str, Tensor]:
    """Check buffers and take them over, in the order of the network."""
    ours = isinstance(buffers, Buffers)
    raw = buffers.raw if isinstance(buffers, Buffers) else buffers
    raw = untied("buffer", raw, network.names.ties, right)
    free = buffers.resized if isinstance(buffers, Buffers) else ()
    check_match("buffer", raw, network.buffers, right, free=free)
    return {name: raw[name] if ours else owned(raw[name]) for name in network.buffers}


def run(
    network: Network,
    mode: Mode,
    weights: Mapping[str, Tensor],
    leaves: Leaves,
    buffers: Mapping[str, Tensor],
    call: Call,
    keep: bool,
    moved: Mapping[str, Tensor],
) -> tuple[Any, Buffers]:
    """Run a forward pass on copy-on-write tensors and say what it changed.

    Args:
        network: names and module trees.
        mode: training or evaluation.
        weights: the value's own tensors, in the network's order, to compare with.
        leaves: where gradients are taken.
        buffers: the buffers before the pass, in the network's order.
        call: what to call with which arguments.
        keep: whether changes are returned; if not, a change is an error.
        moved: weights that earlier passes changed, to start from.

    Returns:
        The output and the buffers after the pass.
    """
    tree = network.borrow(mode)
    record = None if tree.keeps_nothing else tree.records.setdefault(call[0], Record())
    copied = None if record is None else record.begin(tree, call)
    # A pass that writes to weights (Embedding(max_norm=)) gets copies, or it would write to leaves.
    placed = leaves.all
    if network.writes_weights or moved:
        placed = list(leaves.standing_in(moved).values())
        weights = {**weights, **moved}
    given_buffers = share_all(buffers.values()) if buffers else []
    first = record is not None and record.count == 1
    for i in range(len(given_buffers)) if first else network.plain:
        given_buffers[i] = given_buffers[i].clone()  # PyTorch can't resize a lazy copy
    try:
        output = tree.call(placed, given_buffers, call)
    except RuntimeError as error:
        if "COW" not in str(error) or "INTERNAL ASSERT" not in str(error):
            raise
        network.plain = set(range(len(buffers)))
        raise errors.UnsupportedModule(_RESIZED) from error
    new_weights, new_buffers = tree.found
    written = _changed(weights, new_weights)
    changed = _changed(buffers, new_buffers) if buffers else []
    if written and not network.writes_weights:
        network.writes_weights = True
        leaves.set_aside(weights.values())
    if record is not None and (attributes := tree.changed_attributes(record.outside)):
        judge(record, tree, list(weights.values()), buffers, copied, attributes)
    network.give_back(tree, new_buffers)
    if not (type(output) is Tensor and output.grad_fn is not None and is_own(output)):
        output = _apart(output, [*placed, *new_weights, *new_buffers])  # hardly ever
    if not keep:
        if changed or written:
            raise errors.StateDropped([*changed, *written], call[0])
        return output, _NO_BUFFERS
    places = zip(buffers, given_buffers, new_buffers, strict=True)
    after = {name: _own(new, given) for name, given, new in places}
    resized = []
    if changed or network.plain:
        resized = [name for name in after if after[name].shape != network.buffers[name].shape]
        network.plain.update(i for i, name in enumerate(after) if name in resized)
    moved = dict(moved) | {
        name: _own(new, given)
        for name, given, new in zip(weights, placed, new_weights, strict=True)
        if name in written
    }
    return output, Buffers(after, moved, [*changed, *written], frozenset(resized))


_RESIZED = (
    "This forward pass resizes a buffer for the first time, after passes that didn't, and PyTorch can't resize the "
    "copy-on-write tensor that stood in for it. Run the pass again: from now on this factory gives plain copies.\n\n"
    "    output, buffers = model.with_buffers(feature)   # again: works\n"
)


def _own(new: Tensor, given: Tensor) -> Tensor:
    """Take over the tensor in a place after a pass: another one than ours may be the user's."""
    if new is not given:
        return owned(new)
    return new.detach() if new.requires_grad else new


def _apart(output: Any, held: list[Tensor]) -> Any:
    """Share what a module returns of its weights and buffers, so that nobody writes to a value."""
    memory = {_memory(tensor) for tensor in held}
    parts = [part for part in flat(output)[0] if isinstance(part, Tensor)]
    if not any(part.layout is torch.strided and _memory(part) in memory for part in parts):
        return output
    return map_tensors(lambda part: share(part) if _memory(part) in memory else part, output)


def _memory(tensor: Tensor) -> int:
    if tensor.layout is not torch.strided or is_wrapped(tensor):
        return 0
    return memory_of(tensor)


def _changed(before: Mapping[str, Tensor], after: list[Tensor]) -> list[str]:
    """Name the tensors that a forward pass wrote to or exchanged."""
    if all_unchanged(after, before.values()):
        return []
    pairs = zip(before, after, before.values(), strict=True)
    return [name for name, new, old in pairs if not unchanged(new, old)]
