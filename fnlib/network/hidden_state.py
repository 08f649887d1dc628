"""What a forward pass could change besides weights and buffers: the attributes of the modules.

A network may keep whatever it likes in its attributes: numbers, lists, caches, objects, generators.
They are found once, when a tree is made, and compared after each forward pass.
"""

from __future__ import annotations

import copy
import pickle
import types
from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fnlib import errors
from fnlib.torch_private import RNN_LISTS, forward_hooks_of, keep_rnn_lists, registries
from fnlib.values.protect import share, unchanged

# A container, a key in it, and the index of the tensor that belongs there.
Place = tuple[Any, Any, int]

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_ATOMS = (
    type(None), bool, int, float, complex, str, bytes,
    torch.dtype, torch.device, torch.Size, type, slice, range,
)  # fmt: skip
_CODE = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType)


class Attributes:
    """What the modules of a network keep in their attributes.

    Args:
        module: the network.
        weights, buffers: the index of each, by identity. Those that are in lists and attributes too
            are found in `weight_places` and `buffer_places`.
    """

    def __init__(
        self, module: nn.Module, weights: Mapping[int, int], buffers: Mapping[int, int]
    ) -> None:
        self.indices = {**weights, **buffers}
        self.of_buffers = buffers.keys()
        self.weight_places: list[Place] = []
        self.buffer_places: list[Place] = []
        self.watched: list[tuple[str, Any]] = []  # label, container of attributes
        self.tensors: list[tuple[str, Tensor, Tensor]] = []  # label, a tensor, its content
        self.opaque: list[tuple[str, Any, bytes]] = []  # label, object, its pickle
        self.parts = list(module.modules())
        # Identities, because a reference too many would spoil Tree.is_referenced.
        self.seen = {id(part) for part in self.parts}
        keeping = [(path, p) for path, p in module.named_modules() if not _keeps_nothing(p)]
        for path, part in keeping:
            self._visit_module(path, part)
        self.watched += [(path, registries(p)[2]) for path, p in keeping if registries(p)[2]]
        self.registries = [registry for _, part in keeping for registry in registries(part)]
        # Places of None: a tensor that a forward pass puts there is not one of the value's.
        self.absent = [
            (f"{path}.{key}" if path else key, registry, key)
            for path, part in keeping
            for registry in registries(part)[:2]
            for key, tensor in registry.items()
            if tensor is None
        ]
        self.keeps_nothing = not (self.watched or self.tensors or self.opaque or self.registries)

    def _visit_module(self, path: str, part: nn.Module) -> None:
        own = vars(part)
        if isinstance(part, nn.RNNBase):
            keep_rnn_lists(part)
            self.watched.append((path, _Without(own, RNN_LISTS)))
        else:
            self.watched.append((path, own))
        for name, value in list(own.items()):
            if name not in _OF_EVERY_MODULE or name == "training":
                self._visit(value, f"{path}.{name}" if path else name, own, name)

    def remember(self) -> None:
        """Note the state of everything, to compare with later."""
        self.labels = [label for label, _ in self.watched]
        self.containers = [container for _, container in self.watched]
        self.before = [copy.copy(container) for container in self.containers]
        self.keys = [tuple(registry) for registry in self.registries]
        self.sizes = [len(registry) for registry in self.registries]
        self.flags = [part.training for part in self.parts]

    def changed(self) -> list[str]:
        """Name the attributes that differ from what was noted."""
        changed: list[str] = []
        if not _equal(self.containers, self.before):
            for parts in zip(self.labels, self.containers, self.before, strict=True):
                changed += _which(*parts)
        changed += [
            f"{type(part).__name__}.training"
            for part, flag in zip(self.parts, self.flags, strict=True)
            if part.training is not flag
        ]
        changed += [
            label for label, tensor, origin in self.tensors if not unchanged(tensor, origin)
        ]
        changed += [label for label, value, before in self.opaque if _pickled(value) != before]
        return changed

    def grew(self) -> list[str]:
        """Name parameters, buffers and modules that were added or removed."""
        filled = [label for label, registry, key in self.absent if registry.get(key) is not None]
        if filled or list(map(len, self.registries)) == self.sizes:
            return filled
        return [
            str(key)
            for registry, keys in zip(self.registries, self.keys, strict=True)
            for key in set(registry) ^ set(keys)
        ]

    def _visit(self, value: Any, label: str, holder: Any, key: Any) -> None:
        """Find what can change in a value that a holder has under a key."""
        if isinstance(value, Tensor) and id(value) in self.indices:
            if isinstance(holder, tuple):
                raise errors.UnsupportedModule(
                    f"{label} is a weight or buffer inside a tuple, where it can't be replaced. Use an nn.ParameterList or a list."
                )
            places = self.buffer_places if id(value) in self.of_buffers else self.weight_places
            places.append((holder, key, self.indices[id(value)]))
            return
        if isinstance(value, (*_ATOMS, *_CODE)) or id(value) in self.seen:
            return
        self.seen.add(id(value))
        if isinstance(value, Tensor):
            self.tensors.append((label, value, share(value)))
        elif isinstance(value, nn.Module):  # one that is not registered
            self._visit(vars(value), label, None, None)
        elif isinstance(value, (dict, list, set, deque)):
            self.watched.append((label, value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for k, item in list(items):
                self._visit(
                    item, f"{label}.{k}" if isinstance(value, dict) else f"{label}[{k}]", value, k
                )
        elif isinstance(value, (tuple, frozenset)):
            for k, item in enumerate(value):
                self._visit(item, f"{label}[{k}]", value, k)
        elif hasattr(value, "__dict__"):
            self.watched.append((label, vars(value)))
            for k, item in list(vars(value).items()):
                self._visit(item, f"{label}.{k}", vars(value), k)
        elif (pickled := _pickled(value)) is not None:
            self.opaque.append((label, value, pickled))


def _keeps_nothing(part: nn.Module) -> bool:
    """Say whether a part is a layer of torch.nn as PyTorch wrote it.

    Only RNNs change attributes in their forward. Not looking at the others saves 2 of the 95 us of
    a step of the 128-64-10 network.
    """
    return (
        type(part).__module__.startswith("torch.nn.modules.")
        and not isinstance(part, nn.RNNBase)
        and not forward_hooks_of(part)
        and "forward" not in vars(part)
    )


class _Without:
    """The attributes of a module, some left out of comparisons."""

    def __init__(self, own: Mapping[str, Any], left_out: frozenset[str]) -> None:
        self.own, self.left_out = own, left_out

    def items(self) -> list[tuple[str, Any]]:
        return [(name, value) for name, value in self.own.items() if name not in self.left_out]

    def get(self, key: str) -> Any:
        return self.own.get(key)

    def keys(self) -> set[str]:
        return {name for name, _ in self.items()}

    def __copy__(self) -> dict[str, Any]:
        return dict(self.items())

    def __eq__(self, other: object) -> bool:
        return dict(self.items()) == other

    __hash__ = None  # type: ignore[assignment]


def _which(label: str, container: Any, before: Any) -> list[str]:
    """Name the entries of a container that changed, or the container itself."""
    if not isinstance(container, (dict, _Without)):
        return [] if _equal(container, before) else [label]
    names = [
        key
        for key in {**dict(before.items()), **dict(container.items())}
        if not _equal(container.get(key), before.get(key))
    ]
    return [f"{label}.{name}" if label else str(name) for name in names]


def _equal(a: Any, b: Any) -> bool:
    try:
        return a is b or bool(a == b)
    except (RuntimeError, ValueError):
        return False


def _pickled(value: Any) -> bytes | None:
    """Return the bytes of an object whose content Python cannot compare."""
    try:
        if isinstance(value, torch.Generator):
            return bytes(value.get_state().tolist())
        return pickle.dumps(value)
    except Exception:  # cannot be pickled: locks, handles, generators of code
        return None
