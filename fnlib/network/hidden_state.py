"""Everything that a forward pass could change besides weights and buffers: the attributes of the modules.

A network may keep whatever it likes in its attributes: numbers, lists, caches, objects, generators. Here they are found once,
when a skeleton is made, and compared after each forward pass.
"""

from __future__ import annotations

import copy
import pickle
import types
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fnlib import errors
from fnlib.values.octets import octets
from fnlib.values.protect import share, unchanged

Place = tuple[
    Any, Any, int
]  # a container, a key in it, and the index of the tensor that belongs there

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
# What PyTorch itself derives from the weights on each forward pass and keeps beside them.
_DERIVED: tuple[tuple[type, frozenset[str]], ...] = (
    (nn.RNNBase, frozenset({"_flat_weights", "_flat_weight_refs"})),
)
_ATOMS = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    torch.dtype,
    torch.device,
    torch.Size,
    type,
    slice,
    range,
)
_CODE = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType)


class Survey:
    """What the modules of a network keep in their attributes.

    Args:
        module: the network.
        weights, buffers: the index of each, by identity: those that stand in lists and attributes too are found in
            `weight_aliases` and `buffer_aliases`.
    """

    def __init__(
        self, module: nn.Module, weights: Mapping[int, int], buffers: Mapping[int, int]
    ) -> None:
        self.indices = {**weights, **buffers}
        self.of_buffers = buffers.keys()
        self.weight_aliases: list[Place] = []
        self.buffer_aliases: list[Place] = []
        self.watched: list[tuple[str, Any]] = []  # label and container of attributes
        self.tensors: list[
            tuple[str, Tensor, Tensor]
        ] = []  # label, a tensor that is no weight or buffer, its content
        self.opaque: list[tuple[str, Any, bytes]] = []  # label, object, its pickle
        self.parts = list(module.modules())
        self.seen = {
            id(part) for part in self.parts
        }  # not the parts: a reference too many would spoil Skeleton.is_held
        keeping = [
            (path, part) for path, part in module.named_modules() if not _keeps_nothing(part)
        ]
        for path, part in keeping:
            if isinstance(part, nn.RNNBase):
                _hold_still(part)
            derived = frozenset().union(
                *(names for kind, names in _DERIVED if isinstance(part, kind))
            )
            own = vars(part)
            self.watched.append((path, _Without(own, derived) if derived else own))
            for name, value in list(own.items()):
                if name not in _OF_EVERY_MODULE or name == "training":
                    self._visit(value, f"{path}.{name}" if path else name, own, name)
        self.watched += [(path, part._modules) for path, part in keeping if part._modules]
        self.registries = [
            registry
            for _, part in keeping
            for registry in (part._parameters, part._buffers, part._modules)
        ]
        self.absent = [  # places of None: a tensor that a forward pass puts there is not one of the value's
            (f"{path}.{key}" if path else key, registry, key)
            for path, part in keeping
            for registry in (part._parameters, part._buffers)
            for key, tensor in registry.items()
            if tensor is None
        ]
        self.keeps_nothing = not (self.watched or self.tensors or self.opaque or self.registries)

    def remember(self) -> None:
        """Take down how everything stands."""
        self.labels = [label for label, _ in self.watched]
        self.containers = [container for _, container in self.watched]
        self.before = [copy.copy(container) for container in self.containers]
        self.keys = [tuple(registry) for registry in self.registries]
        self.sizes = [len(registry) for registry in self.registries]
        self.flags = [part.training for part in self.parts]

    def changed(self) -> list[str]:
        """Name the attributes that differ from what was taken down."""
        changed: list[str] | None
        try:
            changed = [] if self.containers == self.before else None
        except (
            RuntimeError,
            ValueError,
        ):  # tensors or arrays compared element by element: other objects, then
            changed = None
        if changed is None:
            changed = [
                name
                for parts in zip(self.labels, self.containers, self.before, strict=True)
                for name in _which(*parts)
            ]
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
        if (
            filled := [
                label for label, registry, key in self.absent if registry.get(key) is not None
            ]
        ) or list(map(len, self.registries)) == self.sizes:
            return filled
        return [
            str(key)
            for registry, keys in zip(self.registries, self.keys, strict=True)
            for key in set(registry) ^ set(keys)
        ]

    def _visit(self, value: Any, label: str, holder: Any, key: Any) -> None:
        """Find what can change in a value that stands in a holder under a key."""
        if isinstance(value, Tensor) and id(value) in self.indices:
            if isinstance(holder, tuple):
                raise errors.UnsupportedModule(
                    f"{label} is a weight or buffer inside a tuple, where it can't be replaced. Use an nn.ParameterList or a list."
                )
            aliases = self.buffer_aliases if id(value) in self.of_buffers else self.weight_aliases
            aliases.append((holder, key, self.indices[id(value)]))
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
    """Say whether a part is a layer of torch.nn as PyTorch wrote it: none of them changes attributes in its forward, but RNNs.

    Not looking at them saves 2 of the 95 us of a step of the 128-64-10 network.
    """
    own = vars(part)
    as_written = type(part).__module__.startswith("torch.nn.modules.") and not isinstance(
        part, nn.RNNBase
    )
    return (
        as_written
        and not part._forward_hooks
        and not part._forward_pre_hooks
        and "forward" not in own
    )


def _hold_still(part: nn.RNNBase) -> None:
    """Let an RNN use its second list of weights as we fill it.

    It makes a new one when the weights are not those that it saw last: at each step, that is, and the last
    list would keep an old value alive. Weights that are computed (weight norm), and those on CUDA, which it lays out
    in one piece of memory, it goes on to collect by itself.
    """

    def current(name: str) -> Callable[[], Tensor | None]:
        return lambda: None if part._parameters[name].is_cuda else part._parameters[name]  # type: ignore[union-attr]

    if all(part._parameters.get(name) is not None for name in part._flat_weights_names):
        part._flat_weight_refs = [current(name) for name in part._flat_weights_names]  # type: ignore[misc]


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
    """Return the bytes of an object whose content Python cannot compare (the state of a generator)."""
    try:
        if isinstance(value, torch.Generator):
            return octets(value.get_state())
        return pickle.dumps(value)
    except Exception:  # cannot be pickled: locks, handles, generators of code
        return None
