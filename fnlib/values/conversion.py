"""Moving and converting the tensors of a value: floating numbers change their dtype, counters never do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fnlib import errors
from fnlib.values.protect import map_tree

Target = torch.device | str | torch.dtype


def check_target(target: Target) -> None:
    """Raise `WrongParameters` for a dtype that would make weights another kind of number."""
    if isinstance(target, torch.dtype) and not target.is_floating_point:
        raise errors.WrongParameters(
            "to() converts to floating dtypes only",
            f"{target} can't represent the weights",
            "parameters = parameters.to(torch.float64)   # complex weights become complex128",
        )


def converted(tensor: Tensor, target: Target) -> Tensor:
    """Return a tensor on another device, or of another dtype: complex numbers of that precision, whole numbers as they are."""
    if not isinstance(target, torch.dtype):
        return tensor.to(target, copy=True)
    if tensor.is_complex():
        return tensor.to(target.to_complex())
    return tensor.to(target) if tensor.is_floating_point() else tensor


def converted_state(tree: Any, target: Target) -> Any:
    """Convert an optimizer's state. Its ``step`` entries stay as they are and where they are, as in ``torch.optim``."""
    if isinstance(tree, dict):
        return {
            key: value if key == "step" else converted_state(value, target)
            for key, value in tree.items()
        }
    if isinstance(tree, (list, tuple)) and not hasattr(tree, "_fields"):
        return type(tree)(converted_state(value, target) for value in tree)
    return map_tree(lambda tensor: converted(tensor, target), tree)
