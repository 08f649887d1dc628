"""One training step inside a transform of ``torch.func``: vmap over models, grad through steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fnlib import errors
from fnlib.factory import Factory, bind
from fnlib.network.backward import reached
from fnlib.parameters import Bound, Parameters
from fnlib.updates.formula import Formula
from fnlib.updates.rule import refuse_foreign
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
    held, network, name = bind(parameters, factory.network)[0], factory.network, factory._rule.name
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
