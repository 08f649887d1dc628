"""One forward pass of a module, with everything that it changed noticed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fnlib import errors
from fnlib.network.backward import Leaves
from fnlib.network.judge import Record, judge
from fnlib.network.pool import SHARED, Call, Mode, Network
from fnlib.show import words
from fnlib.torch_private import flat, is_own, is_wrapped, map_tensors, memory_of
from fnlib.values.check import check_match, untied
from fnlib.values.held import Held
from fnlib.values.protect import Tensors, all_unchanged, owned, share, share_all, unchanged

Named = Mapping[str, Tensor]
_NONE: Mapping[str, Any] = {}


class Buffers(Tensors):
    """The buffers after some forward passes, with any weights that the passes changed."""

    __slots__ = ("behind", "passes", "resized", "weights")

    def __init__(
        self,
        tensors: Named,
        weights: Named,
        resized: frozenset[str],
        passes: list[list[str]],
        behind: int,
        ties: Mapping[str, str],
    ) -> None:
        self._tensors, self._ties = tensors, ties
        self.weights = weights  # those that passes changed (Embedding(max_norm=) does)
        self.resized = resized  # names of buffers that no longer have the network's shape
        # What each pass changed, of all models of one bind. Of the first `behind` passes these buffers
        # have the changes; a step refuses buffers that lack those of a later one.
        self.passes, self.behind = passes, behind


def at_first(held: Held) -> Buffers:
    """Return the buffers of a value that is bound, before any pass."""
    return Buffers(held.buffers, _NONE, held.names.resized, [], 0, held.names.ties)


def taken(given: Mapping[str, Tensor], before: Buffers, network: Network, right: str) -> Buffers:
    """Check buffers that a user passes on and take them over, in the order of the network.

    `before` are the model's own; an error shows the line `right`.
    """
    ours = isinstance(given, Buffers)
    tensors = given._tensors if isinstance(given, Buffers) else given
    tensors = untied("buffers", tensors, network.names.ties, right)
    weights, resized, behind = before.weights, before.resized, len(before.passes)
    if isinstance(given, Buffers):
        weights, resized = given.weights, given.resized
        behind = given.behind if given.passes is before.passes else 0
    check_match("buffers", tensors, network.buffers, right, free=resized)
    check_match("weights", weights, network.weights, right, partial=True)
    tensors = {n: tensors[n] if ours else owned(tensors[n]) for n in network.buffers}
    return Buffers(tensors, weights, resized, before.passes, behind, network.names.ties)


def run(
    mode: Mode, weights: Named, leaves: Leaves, before: Buffers, call: Call, keep: bool
) -> tuple[Any, Buffers]:
    """Run a forward pass on copy-on-write tensors; return its output and the buffers after it.

    Args:
        mode: training or evaluation.
        weights: the value's own tensors, in the network's order, to compare with.
        leaves: where gradients are taken.
        before: the buffers before the pass, in the network's order.
        call: what to call with which arguments.
        keep: whether changes are returned; if not, a change is an error.
    """
    network, buffers, moved = leaves.network, before._tensors, before.weights
    tree = network.borrow(mode)
    # Layers of torch.nn keep nothing in their forward; another method may switch them.
    is_watched = not tree.keeps_nothing or call[0] is not None
    watch = tree.records.setdefault(call[0], Record()) if is_watched else None
    copied = None if watch is None else watch.begin(tree, call)
    # A pass that writes to weights (Embedding(max_norm=)) gets copies, or it would write to leaves.
    placed = leaves.all
    if network.writes_weights or moved:
        placed = list(leaves.standing_in(moved).values())
        weights = {**weights, **moved}
    given_buffers = share_all(buffers.values()) if buffers else []
    first = watch is not None and watch.count == 1
    for i in range(len(given_buffers)) if first else network.plain:
        given_buffers[i] = given_buffers[i].clone()  # PyTorch can't resize a lazy copy
    try:
        output = tree.call(placed, given_buffers, call)
    except BaseException as error:
        leaves.switch_back()
        if not network.writes_weights and _changed(weights, leaves.all):
            leaves.set_aside(weights.values())
        if "COW" not in str(error) or "INTERNAL ASSERT" not in str(error):
            raise
        network.plain = set(range(len(buffers)))
        raise errors.UnsupportedModule(_RESIZED) from error
    if call[0] is not None and (switched := leaves.switch_back()):
        what = f"switches requires_grad of {words.names(switched)}"
        raise errors.UnsupportedModule(SHARED.format(call[0], what))
    new_weights, new_buffers = tree.found
    written = _changed(weights, new_weights)
    changed = _changed(buffers, new_buffers) if buffers else []
    if written and not network.writes_weights:
        network.writes_weights = True
        leaves.set_aside(weights.values())
    if watch is not None and (attributes := tree.changed_attributes(watch.outside)):
        judge(watch, tree, list(weights.values()), buffers, copied, attributes)
    network.give_back(tree, new_buffers)
    if not (type(output) is Tensor and output.grad_fn is not None and is_own(output)):
        # hardly ever
        output = _apart(output, [*placed, *new_weights, *new_buffers], tree.attributes.parts)
    if not keep:
        if changed or written:
            raise _dropped([*changed, *written], call[0])
        return output, before
    places = zip(buffers, given_buffers, new_buffers, strict=True)
    after = {name: _own(new, given) for name, given, new in places}
    resized, behind = before.resized, before.behind
    if changed or network.plain:
        resized = frozenset(n for n in after if after[n].shape != network.buffers[n].shape)
        network.plain.update(i for i, name in enumerate(after) if name in resized)
    if changed or written:
        before.passes.append([*changed, *written])
        behind += 1
    places = zip(weights, placed, new_weights, strict=True)
    moved = {**moved, **{n: _own(new, given) for n, given, new in places if n in written}}
    return output, Buffers(after, moved, resized, before.passes, behind, before._ties)


_RESIZED = (
    "This forward pass resizes a buffer for the first time, after passes that didn't, and PyTorch can't resize the "
    "copy-on-write tensor that stood in for it. Run the pass again: from now on this factory gives plain copies.\n\n"
    "    output, buffers = model.with_buffers(feature)   # again: works\n"
)


_HANDED_OUT = (
    "This network returns one of its own modules. All models of this factory share it, so whoever gets it could change them all. "
    "Return what the module computes.\n\n"
    "    return self.encoder      # wrong\n"
    "    return self.encoder(x)   # right\n"
)


def _dropped(names: list[str], method: str | None) -> errors.StateDropped:
    """Return the error for a pass that changed state, with the line that keeps it."""
    call, keyword, advice = "model(feature)", "", ""
    if method is not None:
        call, keyword = f'model.call("{method}", feature)', f', method="{method}"'
        advice = f"`with_buffers` calls forward: let it take method= and call self.{method}. "
    right = f"output, buffers = model.with_buffers(feature{keyword})"
    return errors.StateDropped(names, names[0], f"output = {call}", right, advice)


def _own(new: Tensor, given: Tensor) -> Tensor:
    """Take over the tensor in a place after a pass: another one than ours may be the user's."""
    if new is not given:
        return owned(new)
    return new.detach() if new.requires_grad else new


def _apart(output: Any, held: list[Tensor], modules: list[nn.Module]) -> Any:
    """Share what a module returns of its weights and buffers, so that nobody writes to a value."""
    memory, own = {_memory(tensor) for tensor in held}, {*map(id, modules)}
    found = flat(output)[0]
    if any(id(part) in own for part in found):
        raise errors.UnsupportedModule(_HANDED_OUT)
    parts = [part for part in found if isinstance(part, Tensor)]
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
