"""backward: the gradient of a loss as a value."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from fnlib import errors
from fnlib.gradient import Gradient
from fnlib.network.leaves import Leaves
from fnlib.network.randomness import one_at_a_time
from fnlib.values.protect import in_transform, lazy_clone, share, share_all

if TYPE_CHECKING:
    from fnlib.model import Model

_is_contiguous: Any = Tensor.is_contiguous
_ONE = torch.ones(())
_run_backward: Any = torch.autograd.Variable._execution_engine.run_backward


def backward(loss: Tensor, *models: Model, retain_graph: bool = False) -> tuple[Gradient, ...]:
    """Return the gradient of one loss with respect to the weights of several models, in one pass.

    Args:
        loss: a tensor with one element.
        models: the models whose weights it depends on.
        retain_graph: keep the graph behind the loss for another backward.

    Returns:
        One gradient a model, in their order.

    Raises:
        LossNotScalar: the loss has more than one element.
        LossIndependent: it does not depend on the weights of one of the models.
        HiddenByCheckpoint: a checkpoint with use_reentrant=True keeps weights out of the graph.
        DifferentiateOutside: a transform of torch.func that is running keeps the graph to itself.
        GraphUsedUp: an earlier backward used the graph up.
        GraphOverwritten: something that it needs was changed in place since.
        Donated: a model's parameters have been given away.

    >>> import fnlib
    >>> from torch import nn
    >>> encoder, decoder = (fnlib.Sequential(nn.Linear(2, 2))(fnlib.Parameters(seed=s)) for s in (0, 1))
    >>> loss = decoder(encoder(torch.ones(1, 2))).sum()
    >>> for_encoder, for_decoder = fnlib.backward(loss, encoder, decoder)
    """
    for model in models:
        model._parameters._alive("take a gradient")
    leaves = tuple(leaf for model in models for leaf in model._leaves.trained)
    runs_again = any(
        model._leaves.structure.left for model in models
    )  # and draws again, where the first pass drew
    with one_at_a_time if runs_again else contextlib.nullcontext():
        found = iter(differentiate(loss, leaves, retain_graph))
    for model in models:
        model._leaves.structure.check_left()
    return tuple(
        named(model._leaves, list(itertools.islice(found, len(model._leaves.trained))), loss)
        for model in models
    )


def differentiate(
    loss: Tensor, leaves: tuple[Tensor, ...], retain_graph: bool
) -> Sequence[Tensor | None]:
    """Return what ``torch.autograd.grad(loss, leaves, allow_unused=True)`` does, or say why it cannot.

    It is called past its Python front, which takes 10 of the 95 us of a whole step of the 128-64-10 network.
    """
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise errors.LossNotScalar(loss)
    if not loss.requires_grad and in_transform():
        raise errors.DifferentiateOutside
    if not loss.requires_grad:
        raise errors.LossIndependent(
            "it has no graph (computed under no_grad, detached, or not from the model's output)"
        )
    if not leaves:
        raise errors.LossIndependent("the model has no trainable weights")
    try:
        if in_transform():
            return torch.autograd.grad(loss, leaves, retain_graph=retain_graph, allow_unused=True)
        one = (
            lazy_clone(_ONE)
            if loss.is_cpu and loss.dtype is torch.float32 and not loss.shape
            else _one_like(loss)
        )
        return cast(
            Sequence[Tensor | None],
            _run_backward(
                (loss,), (one,), retain_graph, False, leaves, True, accumulate_grad=False
            ),
        )
    except RuntimeError as error:
        named = _explained(error, loss)
        if named is error:
            raise
        raise named from error


def _one_like(loss: Tensor) -> Tensor:
    if loss.is_complex():
        raise errors.LossNotScalar(loss)
    return torch.ones_like(loss)


def named(leaves: Leaves, found: Sequence[Tensor | None], loss: Tensor) -> Gradient:
    """Name the tensors that autograd found, and lay them out as ``.grad`` would: strides of the weight, memory of its own."""
    try:
        if leaves.contiguous and all(map(_is_contiguous, found)):  # nearly always
            return Gradient._make(
                dict(zip(leaves.structure.trained_names, share_all(found), strict=True)),
                leaves.structure,
            )  # type: ignore[arg-type]
    except TypeError:  # a None among them: a weight that the loss does not depend on
        pass
    if any(type(node).__name__ == "CheckpointFunctionBackward" for node in _nodes(loss)):
        missing = [
            name
            for name, tensor in zip(leaves.structure.trained_names, found, strict=True)
            if tensor is None
        ]
        raise errors.HiddenByCheckpoint(missing)
    tensors = {}
    for name, tensor, leaf in zip(
        leaves.structure.trained_names, found, leaves.trained, strict=True
    ):
        if tensor is not None:
            if tensor.layout is torch.strided and tensor.stride() != leaf.stride():
                tensor = torch.empty_like(leaf, requires_grad=False).copy_(tensor)
            tensors[name] = share(tensor)
    if not tensors:
        raise errors.LossIndependent("none of them is in the graph behind it")
    return Gradient._make(tensors, leaves.structure)


def _nodes(loss: Tensor) -> Iterator[Any]:
    """Walk through the graph behind a loss."""
    todo, seen = [loss.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            todo += [following for following, _ in node.next_functions]


def _explained(error: RuntimeError, loss: Tensor) -> Exception:
    """Find the named error for what autograd raised; PyTorch's own where there is none."""
    text = str(error)
    for node in _nodes(loss):
        donated = getattr(getattr(node, "variable", None), "_donated", None)
        if donated is not None:
            return cast(Exception, donated)
    if "second time" in text:
        return errors.GraphUsedUp()
    if "modified by an inplace operation" in text:
        return errors.GraphOverwritten(text)
    return error
