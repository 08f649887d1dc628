"""Parameters of several models in one value, for ``torch.vmap``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fnlib import errors
from fnlib.parameters import Parameters
from fnlib.values.apart import stacked, unstacked


def stack(values: Iterable[Parameters]) -> Parameters:
    """Stack parameters along a new first dimension, for ``torch.vmap``.

    Args:
        values: parameters of one factory, after equally many steps.

    Returns:
        One value: all its tensors have a leading dimension, of the models.

    Raises:
        WrongParameters: names, shapes, rule, step count or settings differ.

    >>> import fnlib, torch
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

    >>> import fnlib, torch
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
