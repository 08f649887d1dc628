"""What runs inside a transform of ``torch.func``: values in a stack, and one training step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from fnlib import errors
from fnlib.factory import Factory
from fnlib.network.backward import reached
from fnlib.network.bound import Bound
from fnlib.parameters import Parameters
from fnlib.updates.check import refuse_foreign
from fnlib.updates.formula import Formula
from fnlib.values.apart import stacked, unstacked
from fnlib.values.held import Held


def transformed(
    factory: Factory,
    criterion: Callable[[Any, Any], Tensor],
    parameters: Parameters,
    feature: Any,
    label: Any,
    seed: int | None = None,
) -> tuple[Parameters, Tensor]:
    """Take one step with ``torch.func.grad``: a transform keeps the graph of a loss to itself.

    Args: as `fnlib.train_step` and the step that it returns.

    Raises:
        CannotTransform: the rule works in place, so no transform can follow it.
        WrongRule, WrongParameters: the optimizer state isn't this rule's.
    """
    network, name = factory.network, factory._rule.name
    held, _ = parameters._bind(network)
    if not isinstance(factory._rule, Formula):
        raise errors.CannotTransform(f"The update rule {name}", "changes tensors in place")
    if network.writes_weights:
        raise errors.CannotTransform("A forward pass of this network", "writes to its weights")
    refuse_foreign(held, factory._rule, parameters._bound.rule)
    inputs = feature if isinstance(feature, tuple) else (feature,)
    moving: list[str] = []

    def loss_of(trained: Mapping[str, Tensor]) -> tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]:
        # Copies of the buffers, because a forward pass writes to what a transform follows.
        copies = {name: buffer.clone() for name, buffer in held.buffers.items()}
        now = held._replace(weights={**held.weights, **trained}, buffers=copies)
        model = factory(Parameters._of(now, Bound(network, name, None)), seed=seed)
        output, buffers = model.with_buffers(*inputs)
        loss = criterion(output, label)
        moving[:] = reached(loss, trained)
        return loss, (loss, dict(buffers._tensors))

    trained = {name: held.weights[name] for name in network.trained_names}
    slopes, (loss, buffers) = torch.func.grad(loss_of, has_aux=True)(trained)
    gradient = {name: slopes[name] for name in moving}
    rule = factory._rule.at(held.step_count)
    state = rule.init(held.weights) if held.state is None else held.state
    weights, state = rule.update(held.weights, gradient, state)
    after = Held(weights, buffers, state, name, held.step_count + 1, held.names)
    return Parameters._of(after, Bound(network, name, None)), loss


def stack(values: Iterable[Parameters]) -> Parameters:
    """Stack parameters along a new first dimension, for ``torch.vmap``.

    Args:
        values: parameters of one factory, after equally many steps.

    Returns:
        One value: all its tensors have a leading dimension, of the models.

    Raises:
        WrongParameters: names, shapes, rule, step count or settings differ.

    >>> import fnlib
    >>> ModelFactory = fnlib.Sequential(torch.nn.Linear(3, 2))
    >>> step = fnlib.train_step(ModelFactory, torch.nn.MSELoss())
    >>> models = [ModelFactory(fnlib.Parameters(seed=s)).parameters for s in range(4)]
    >>> feature, label = torch.ones(5, 3), torch.zeros(5, 2)
    >>> stacked, losses = torch.vmap(step, (0, None, None))(fnlib.stack(models), feature, label)
    >>> losses.shape, [value.step_count for value in fnlib.unstack(stacked)]
    (torch.Size([4]), [1, 1, 1, 1])
    """
    return Parameters._of(stacked([_checked(value)._held("be stacked") for value in values]))


def unstack(values: Parameters) -> list[Parameters]:
    """Take stacked parameters apart again.

    Args:
        values: what `stack` returned, or what ``torch.vmap`` made of it.

    Returns:
        The parameters of each model.

    Raises:
        WrongParameters: these parameters aren't stacked.

    >>> import fnlib
    >>> one = fnlib.Parameters.from_module(torch.nn.Linear(3, 2))
    >>> fnlib.unstack(fnlib.stack([one, one])) == [one, one]
    True
    """
    return [Parameters._of(held) for held in unstacked(_checked(values)._held("be unstacked"))]


def _checked(value: Any) -> Parameters:
    if isinstance(value, Parameters):
        return value
    raise errors.WrongParameters(
        "stack takes parameters, and unstack takes what it returned",
        f"got {type(value).__name__}",
        "stacked = fnlib.stack([p, q])",
    )
