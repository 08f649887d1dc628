"""State as a tree: nested dicts, lists and tuples of tensors, numbers and strings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fnlib import errors
from fnlib.values.protect import kept, same_bits

ATOMS = frozenset({type(None), bool, int, float, str})


def map_tree(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """Copy a tree with a function applied to its tensors.

    >>> map_tree(lambda tensor: tensor + 1, {"step": torch.tensor(1.0), "names": ["w"]})
    {'step': tensor(2.), 'names': ['w']}
    """
    if isinstance(tree, Tensor):
        return function(tree)
    if type(tree) in ATOMS:
        return tree
    if isinstance(tree, Mapping):
        return {key: map_tree(function, value) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(map_tree(function, value) for value in tree))
    if isinstance(tree, (list, tuple)):
        return type(tree)(map_tree(function, value) for value in tree)
    return tree


def same_tree(a: Any, b: Any) -> bool:
    """Compare two trees: tensors by their bytes, NaN equal to NaN.

    >>> same_tree({"lr": 0.1, "m": torch.zeros(2)}, {"m": torch.zeros(2), "lr": 0.1})
    True
    """
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and same_bits(a, b)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same_tree(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same_tree, a, b))
    return type(a) is type(b) and (bool(a == b) or (a != a and b != b))


def same_entries(a: Any, b: Any) -> bool:
    """Say whether two trees have the same keys, whatever is under them.

    >>> same_entries({"m": 0.1, "groups": [{}]}, {"m": torch.zeros(2), "groups": [{}]})
    True
    """
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same_entries(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same_entries, a, b))
    return not isinstance(a, (Mapping, list, tuple)) and not isinstance(b, (Mapping, list, tuple))


def storable(tree: Any, where: str, take: Callable[[Tensor], Tensor] = kept) -> Any:
    """Take over a tree of state, or raise `CannotStore`.

    Args:
        tree: what a rule keeps, or what a user gives.
        where: what an error calls it.
        take: takes over a tensor: `kept` what a rule made, `owned` what a user gives.
    """
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
