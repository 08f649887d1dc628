"""Checks on what comes in: names, shapes and kinds of tensors, and state that a value can carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fnlib import errors
from fnlib.values.protect import _in_transform, outside_transforms, share


def check_mapping(kind: str, given: object, right: str) -> None:
    """Raise `WrongParameters` unless `given` is a mapping."""
    if not isinstance(given, Mapping):
        raise errors.WrongParameters(
            f"Pass {_plural(kind)} as a mapping of names to tensors",
            f"got {type(given).__name__}",
            right,
        )


def _plural(kind: str) -> str:
    return kind[:-1] + "ies" if kind.endswith("y") else kind + "s"


def check_match(
    kind: str,
    given: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    right: str,
    partial: bool = False,
    exact: bool = False,
) -> None:
    """Raise `WrongParameters` unless names, shapes, kinds and devices of `given` are those of `expected`."""

    def wrong(detail: str) -> errors.WrongParameters:
        return errors.WrongParameters(f"These {_plural(kind)} don't match", detail, right)

    check_mapping(kind, given, right)

    unknown, missing = (
        [name for name in given if name not in expected],
        [name for name in expected if name not in given],
    )
    if unknown or (missing and not partial):
        parts = []
        if unknown:
            parts.append(f"{errors._names(unknown)} {'is' if len(unknown) == 1 else 'are'} unknown")
        if missing and not partial:
            parts.append(f"{errors._names(missing)} {'is' if len(missing) == 1 else 'are'} missing")
        raise wrong(f"{' and '.join(parts)}; expected: {errors._names(expected) or 'none'}")
    for name, tensor in given.items():
        if not isinstance(tensor, Tensor):
            raise wrong(f"'{name}' is {type(tensor).__name__}, expected a tensor")
        like = expected[name]
        if tensor.shape != like.shape:
            raise wrong(f"'{name}' has shape {tuple(tensor.shape)}, expected {tuple(like.shape)}")
        if tensor.dtype != like.dtype and _number_kind(tensor) != _number_kind(like):
            raise wrong(
                f"'{name}' has dtype {tensor.dtype}, expected {like.dtype} or another {_number_kind(like)} dtype"
            )
        if exact and tensor.dtype != like.dtype:
            raise wrong(f"'{name}' has dtype {tensor.dtype}, expected {like.dtype}")
        if exact and tensor.device != like.device:
            raise wrong(f"'{name}' is on {tensor.device}, expected {like.device}")


def _number_kind(tensor: Tensor) -> str:
    return (
        "complex"
        if tensor.is_complex()
        else "floating"
        if tensor.is_floating_point()
        else "integer"
    )


def owned(tensor: Tensor) -> Tensor:
    """Take over a tensor that a user gives: a copy, as NumPy may hold a view of its memory, where no write is noticed."""
    if _in_transform(tensor):
        return tensor
    with outside_transforms():
        return tensor.detach().clone()


def kept(tensor: Tensor) -> Tensor:
    """Take over a tensor that an update rule made: what it writes to it later does not reach the value."""
    # Numbers that stand in one place of memory (an expanded tensor) could not be updated in place by a later step.
    shared = (
        share(tensor)
        if tensor.layout is not torch.strided or tensor.is_contiguous()
        else tensor.clone()
    )
    return shared.detach() if shared.requires_grad else shared


def storable(tree: Any, where: str, take: Callable[[Tensor], Tensor] = kept) -> Any:
    """Take a tree of state over, or raise `CannotStore` for what a value cannot carry."""
    if isinstance(tree, Tensor):
        return take(tree)
    if tree is None or type(tree) in (bool, int, float, complex, str):
        return tree
    if isinstance(tree, Mapping):
        for key in tree:
            if type(key) not in (str, int, float):
                raise errors.CannotStore(f"The key {key!r} in {where}", key)
        return {key: storable(value, f"{where}[{key!r}]", take) for key, value in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(storable(value, f"{where}[{i}]", take) for i, value in enumerate(tree))
    if isinstance(tree, (torch.dtype, torch.device)):
        return str(tree)
    raise errors.CannotStore(where, tree)
