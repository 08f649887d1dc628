"""The tensors at which gradients are taken, and the way back to them from a loss."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from fnlib import errors
from fnlib.network.pool import Network
from fnlib.network.randomness import one_at_a_time
from fnlib.torch_private import gradients_of, is_cow, is_wrapped, memory_of, outside_transforms
from fnlib.values.protect import in_transform, same_bits, share, share_all

_is_contiguous: Any = Tensor.is_contiguous
_NO_LOCK: Any = contextlib.nullcontext()


class Leaves:
    """The weights of a value as leaves of autograd's graph: copy-on-write, one set for a value.

    Args:
        network: whose weights they are, and which of them are trained.
        weights: the value's own tensors, in the network's order.
    """

    __slots__ = ("all", "aside", "contiguous", "network", "shown", "trained")

    def __init__(self, network: Network, weights: Collection[Tensor]) -> None:
        self.network = network
        # Leaves that a pass wrote to: later passes start from others, a graph still needs these.
        self.aside: tuple[Tensor, ...] = ()
        self._take(weights)

    def _take(self, weights: Collection[Tensor]) -> None:
        network = self.network
        self.shown: list[Any] = []  # their storages, once somebody outside may write to them
        self.all = share_all(weights)
        self.trained: tuple[Any, ...] = tuple(self.all)
        if len(network.trained) < len(self.trained):
            self.trained = tuple([self.all[i] for i in network.trained])
        inside = in_transform()
        with outside_transforms() if inside else contextlib.nullcontext():
            for leaf in self.trained:
                if not (inside and is_wrapped(leaf)):  # a transform follows its own tensors
                    leaf.requires_grad_()
        self.contiguous = all(map(Tensor.is_contiguous, self.trained))
        if network.hooks:
            for name, leaf in zip(network.weights, self.all, strict=True):
                for hook in network.hooks.get(name, ()):
                    leaf.register_hook(hook)

    def show(self) -> dict[str, Tensor]:
        """Return the leaves themselves by name, and from now on notice writes to them."""
        if not self.shown and not any(map(is_wrapped, self.all)):
            self.shown = [(leaf.untyped_storage(), memory_of(leaf)) for leaf in self.all]
        return dict(zip(self.network.weights, self.all, strict=True))

    def written(self, origins: Mapping[str, Tensor]) -> list[str]:
        """Name the leaves that somebody outside wrote to or froze.

        A leaf is intact while it shares the memory of its origin. A version would miss ``.data``.
        """
        if not self.shown:
            return []
        leaves, switched = zip(origins.items(), self.all, self.shown, strict=True), self._switched()
        return [
            name
            for (name, origin), leaf, (_, memory) in leaves
            if name in switched
            or (not (is_cow(leaf) and memory_of(leaf) == memory) and not same_bits(leaf, origin))
        ]

    def _switched(self) -> dict[str, Tensor]:
        """Return the leaves whose ``requires_grad`` is no longer the network's."""
        return {
            name: leaf
            for (name, weight), leaf in zip(self.network.weights.items(), self.all, strict=True)
            if leaf.is_leaf and not is_wrapped(leaf) and leaf.requires_grad != weight.requires_grad
        }

    def switch_back(self) -> list[str]:
        """Undo what somebody did with ``requires_grad_``, and name the weights."""
        switched = self._switched()
        for leaf in switched.values():
            leaf.requires_grad_(not leaf.requires_grad)
        return list(switched)

    def standing_in(self, moved: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return copies that lead to the leaves, some with the content that a pass left."""
        placed = dict(zip(self.network.weights, share_all(self.all), strict=True))
        for name, tensor in moved.items():
            placed[name].data = share(tensor)
        return placed

    def set_aside(self, weights: Collection[Tensor]) -> None:
        """Start from weights again, after a pass wrote to the leaves that it was given."""
        self.aside += self.trained
        self._take(weights)

    def give_away(self, error: errors.Donated) -> None:
        """Let go of the memory, and make a backward that still needs a leaf fail with the error."""
        self.shown = []
        for leaf in self.all:
            torch.autograd.graph.increment_version(leaf)
            leaf.data = torch.empty(0, dtype=leaf.dtype, device=leaf.device)
            leaf._donated = error  # type: ignore[attr-defined]


def gradients(
    loss: Tensor, leaves: Sequence[Leaves], retain_graph: bool, create_graph: bool = False
) -> list[tuple[dict[str, Tensor], Network]]:
    """Return the gradient of a loss for each set of leaves, by name, and its network."""
    trained = tuple([leaf for some in leaves for leaf in (*some.trained, *some.aside)])
    runs_again = [some for some in leaves if some.network.left]
    # A checkpoint runs parts again in backward, and draws again what the first pass drew.
    try:
        with one_at_a_time if runs_again else _NO_LOCK:
            found = differentiate(loss, trained, retain_graph, create_graph)
    except (RuntimeError, errors.LossIndependent) as error:
        named_error = _explained(error, loss, leaves)
        if named_error is error:
            raise
        raise named_error from error
    for some in runs_again:
        some.network.check_left()
        if hidden := _hidden(some, loss):
            raise errors.HiddenByCheckpoint(hidden)
    results, named = iter(found), []
    for some in leaves:
        own = list(itertools.islice(results, len(some.trained)))
        # Those of leaves that were set aside, in the order of the leaves that replaced them.
        for i, tensor in enumerate(itertools.islice(results, len(some.aside))):
            if tensor is not None:
                before = own[i % len(own)]
                own[i % len(own)] = tensor if before is None else before + tensor
        named.append((_named(some, own, loss), some.network))
    return named


def differentiate(
    loss: Tensor, leaves: tuple[Tensor, ...], retain_graph: bool, create_graph: bool = False
) -> Sequence[Tensor | None]:
    """Return ``torch.autograd.grad(loss, leaves, allow_unused=True)`` of a loss that has one."""
    if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.dtype.is_complex:
        raise _not_scalar(loss)
    if not loss.requires_grad and in_transform():
        raise errors.DifferentiateOutside
    if not loss.requires_grad:
        raise errors.LossIndependent(
            "it has no graph (computed under no_grad, detached, or not from the model's output)"
        )
    if not leaves:
        raise errors.LossIndependent("the model has no trainable weights")
    return gradients_of(loss, leaves, retain_graph or create_graph, create_graph)


def _not_scalar(loss: Any) -> errors.LossNotScalar:
    """Return the error for a loss that isn't one real number, with what makes it one."""
    if not isinstance(loss, Tensor):
        what = f"is a {type(loss).__name__}", ".mean()", "a tensor with one element"
    elif loss.dtype.is_complex:
        what = "is complex", ".abs().mean()", "or losses.real.mean()"
    else:
        shape = f"has shape {tuple(loss.shape)}"
        what = shape, ".mean()", "combine them into one number"
    return errors.LossNotScalar(*what)


def _named(leaves: Leaves, found: Sequence[Tensor | None], loss: Tensor) -> dict[str, Tensor]:
    """Name what autograd found, laid out like ``.grad``: the weight's strides, its own memory."""
    names = leaves.network.trained_names
    try:
        if leaves.contiguous and all(map(_is_contiguous, found)):  # nearly always
            return dict(zip(names, share_all(found), strict=True))  # type: ignore[arg-type]
    except TypeError:  # a None among them: a weight that the loss does not depend on
        pass
    absent = [name for name, tensor in zip(names, found, strict=True) if tensor is None]
    if absent and any(_checkpoints(loss)):
        raise errors.HiddenByCheckpoint(absent)
    tensors = {}
    for name, tensor, leaf in zip(names, found, leaves.trained, strict=True):
        if tensor is not None:
            if tensor.layout is torch.strided and tensor.stride() != leaf.stride():
                tensor = torch.empty_like(leaf, requires_grad=False).copy_(tensor)
            tensors[name] = share(tensor)
    if not tensors:
        raise errors.LossIndependent("none of them is in the graph behind it")
    return tensors


def reached(loss: Tensor, leaves: Mapping[str, Tensor]) -> list[str]:
    """Name the leaves that a loss depends on: ``torch.func.grad`` has zeros for the others."""
    variables = {id(getattr(node, "variable", None)) for node in _nodes(loss.grad_fn)}
    return [name for name, leaf in leaves.items() if id(leaf) in variables]


def _checkpoints(loss: Tensor) -> Iterator[Any]:
    """Find the reentrant checkpoints behind a loss."""
    kind = "CheckpointFunctionBackward"
    return (node for node in _nodes(loss.grad_fn) if type(node).__name__ == kind)


def _hidden(leaves: Leaves, loss: Tensor) -> list[str]:
    """Name the weights in and before a reentrant checkpoint, which writes to their ``.grad``."""
    hidden: set[int] = set()
    for node in _checkpoints(loss):
        hidden.update(id(getattr(before, "variable", None)) for before in _nodes(node))
        if isinstance(node.run_function, torch.nn.Module):
            hidden.update(map(id, node.run_function.parameters()))
    named = zip(leaves.network.weights, leaves.all, strict=True)
    return [name for name, leaf in named if leaf.requires_grad and id(leaf) in hidden]


def _nodes(first: Any) -> Iterator[Any]:
    """Walk through the graph from a node on."""
    todo, seen = [first], set()
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            todo += [following for following, _ in node.next_functions]


def _explained(error: Exception, loss: Tensor, leaves: Sequence[Leaves]) -> Exception:
    """Find the named error for what autograd raised; PyTorch's own where there is none."""
    if frozen := [name for some in leaves for name in some.switch_back()]:
        return errors.WeightsOverwritten(frozen, frozen[0])
    text = str(error)
    for node in _nodes(loss.grad_fn):
        donated = getattr(getattr(node, "variable", None), "_donated", None)
        if donated is not None:
            return cast(Exception, donated)
    if "second time" in text:
        return errors.GraphUsedUp()
    if "modified by an inplace operation" in text:
        return errors.GraphOverwritten(text.splitlines()[0])
    if "use_reentrant" in text:
        return errors.HiddenByCheckpoint([name for some in leaves for name in _hidden(some, loss)])
    return error
