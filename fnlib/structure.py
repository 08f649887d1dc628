"""The structure of a network: names and shapes of its tensors, and module trees with empty places for them."""

from __future__ import annotations

import contextlib
import copy
import itertools
import pickle
import sys
import types
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fnlib import errors
from fnlib.protect import outside_transforms, share, share_all, unchanged
from fnlib.randomness import preserved

Place = tuple[Any, Any, int]  # a container, a key in it, and the index of the tensor that belongs there
Mode = bool | tuple[tuple[str, bool], ...]

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
# What PyTorch itself derives from the weights on each forward pass and keeps beside them.
_DERIVED: tuple[tuple[type, frozenset[str]], ...] = ((nn.RNNBase, frozenset({"_flat_weights", "_flat_weight_refs"})),)
_ATOMS = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size, type, slice, range)
_CODE = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType)


class Layout(NamedTuple):
    """The tensors of a module by name, as ``named_parameters()`` and ``named_buffers()`` give them."""

    weights: dict[str, Tensor]
    buffers: dict[str, Tensor]
    aliases: dict[str, str]  # second name of a tied tensor -> its first name
    transient: frozenset[str]  # names of buffers that are left out of a state_dict

    @classmethod
    def of(cls, module: nn.Module) -> Layout:
        weights: dict[str, Tensor] = dict(module.named_parameters())
        buffers = dict(module.named_buffers())
        lazy = [name for name, tensor in {**weights, **buffers}.items() if nn.parameter.is_lazy(tensor)]
        if lazy:
            raise errors.LazyModule(lazy)
        first = {id(tensor): name for name, tensor in {**weights, **buffers}.items()}
        everywhere = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
        aliases = {name: first[id(tensor)] for name, tensor in everywhere if first[id(tensor)] != name}
        transient = frozenset(
            f"{path}.{name}" if path else name
            for path, part in module.named_modules(remove_duplicate=False)
            for name in part._non_persistent_buffers_set
        )
        return cls(weights, buffers, aliases, transient)


class Structure:
    """What a factory knows of its network: everything but the values of its tensors.

    Args:
        module: a module that is ours to take apart.
        another: makes another module of the same structure, for forward passes that run at the same time.
    """

    def __init__(self, module: nn.Module, another: Callable[[], nn.Module]) -> None:
        if isinstance(module, torch.jit.ScriptModule):
            raise errors.UnsupportedModule(
                "A scripted module keeps its weights out of Python's reach. Pass the nn.Module that it was made from."
            )
        layout = Layout.of(module)
        self.aliases, self.transient = layout.aliases, layout.transient
        for name, weight in layout.weights.items():
            if getattr(weight, "_post_accumulate_grad_hooks", None):
                raise errors.UnsupportedModule(
                    f"'{name}' has a hook that waits for its .grad (register_post_accumulate_grad_hook), and backward here returns a value "
                    "instead: it would never be called. Use the gradient that model.backward(loss) returns."
                )
        self.hooks = {name: list(weight._backward_hooks.values()) for name, weight in layout.weights.items() if weight._backward_hooks}
        # Tensors on "meta" have names, shapes and kinds, and no content.
        self.weights = {name: nn.Parameter(weight.detach().to("meta"), weight.requires_grad) for name, weight in layout.weights.items()}
        self.buffers = {name: buffer.detach().to("meta") for name, buffer in layout.buffers.items()}
        self.empty = list[Tensor](self.weights.values()), list(self.buffers.values())
        self.trained = [i for i, weight in enumerate(self.weights.values()) if weight.requires_grad]
        self.trained_names = [name for name, weight in self.weights.items() if weight.requires_grad]
        self.trains_all = len(self.trained) == len(self.weights)
        self.has_run = False
        # Whether forward passes write to weights; for other layers this is learnt from the first pass that does.
        self.writes_weights = any(getattr(part, "max_norm", None) is not None for part in module.modules())
        self._another = another
        self._idle: dict[Mode, list[Skeleton]] = {}
        self._idle.setdefault(True, []).append(Skeleton(self, module, True))
        self.left: deque[Skeleton] = deque(maxlen=8)  # to a graph or an output that will run parts of them again

    def borrow(self, mode: Mode) -> Skeleton:
        """Take a skeleton that no other forward pass is using: this makes one factory safe in threads and nested calls."""
        try:
            return self._idle[mode].pop()
        except (KeyError, IndexError):
            pass
        for skeleton in list(self.left):
            if skeleton.mode == mode and not skeleton.is_held():
                with contextlib.suppress(ValueError):  # another thread took it
                    self.left.remove(skeleton)
                    return skeleton
        with preserved(), outside_transforms():
            return Skeleton(self, self._another(), mode)

    def give_back(self, skeleton: Skeleton, buffers: list[Tensor]) -> None:
        """Return a skeleton that is as it was, or leave it as it stands to what still refers to it.

        ``torch.utils.checkpoint`` runs parts of a module again in backward, and a forward pass may return a
        function of its module: both need the tensors in their places.
        """
        if skeleton.is_held():
            skeleton.after = share_all(buffers)
            skeleton.fill(skeleton.placed, share_all(buffers))
            self.left.append(skeleton)
        else:
            skeleton.clear()
            self._idle.setdefault(skeleton.mode, []).append(skeleton)

    def check_left(self) -> None:
        """Refuse a backward pass that changed buffers: it came after the pass that returned them."""
        for skeleton in list(self.left):
            names = [
                name
                for name, new, old in zip(self.buffers, skeleton.found_buffers(), skeleton.after, strict=True)
                if not unchanged(new, old)
            ]
            if names:
                with contextlib.suppress(ValueError):
                    self.left.remove(skeleton)
                raise errors.UnsupportedModule(
                    f"A part of this network runs again in backward (torch.utils.checkpoint) and changes {errors._names(names)} a second "
                    "time: stock PyTorch counts both, and buffers that with_buffers has already returned cannot. Leave such a layer out of "
                    "the checkpoint, or bind it with training=False."
                )


class Skeleton:
    """One module tree with places for tensors: they are put in for one forward pass, and taken out again."""

    def __init__(self, structure: Structure, module: nn.Module, mode: Mode) -> None:
        self.module, self.mode, self.structure = module, mode, structure
        layout = Layout.of(module)
        if list(layout.weights) != list(structure.weights) or list(layout.buffers) != list(structure.buffers):
            raise errors.UnsupportedModule(
                "Building this network twice gave other names of weights or buffers. Let the build be the same each time."
            )
        self.weight_places = _places(module, "_parameters", layout.weights)
        self.buffer_places = _places(module, "_buffers", layout.buffers)
        indices = {id(tensor): i for i, tensor in enumerate(layout.weights.values())}
        self.alias_places: list[Place] = []
        self.watched: list[tuple[str, Any]] = []  # label and container of attributes
        self.tensors: list[tuple[str, Tensor, Tensor]] = []  # label, a tensor that is no weight or buffer, its content
        self.opaque: list[tuple[str, Any, bytes]] = []  # label, object, its pickle
        _set_mode(module, mode)
        self._survey(indices)
        self.clear()
        self.watched += [(path, part._modules) for path, part in module.named_modules() if part._modules and not _keeps_nothing(part)]
        self.labels = [label for label, _ in self.watched]
        self.containers = [container for _, container in self.watched]
        self.before = [copy.copy(container) for container in self.containers]
        self.registries = [
            registry
            for part in module.modules()
            if not _keeps_nothing(part)
            for registry in (part._parameters, part._buffers, part._modules)
        ]
        self.keys = [tuple(registry) for registry in self.registries]
        self.sizes = [len(registry) for registry in self.registries]
        self.keeps_nothing = not (self.containers or self.tensors or self.opaque or self.registries)
        self.parts = list(module.modules())
        self.flags = [part.training for part in self.parts]
        self.absent = [  # places of None: a tensor that a forward pass puts there is not one of the value's
            (f"{path}.{key}" if path else key, registry, key)
            for path, part in module.named_modules()
            if not _keeps_nothing(part)
            for registry in (part._parameters, part._buffers)
            for key, tensor in registry.items()
            if tensor is None
        ]
        self.references: int | None = None

    def is_held(self) -> bool:
        """Say whether something refers to the module that did not before its forward passes."""
        return self.references is not None and sum(map(sys.getrefcount, self.parts)) > self.references

    def call(self, weights: list[Tensor], buffers: list[Tensor], method: str | None, args: Any, kwargs: Any) -> Any:
        """Run a forward pass. What stands in the places afterwards is in `found`; an error leaves the skeleton to be thrown away."""
        if self.references is None:
            self.references = sum(map(sys.getrefcount, self.parts))
        self.placed = weights
        self.fill(weights, buffers)
        output = self.module(*args, **kwargs) if method is None else getattr(self.module, method)(*args, **kwargs)
        self.found = self.read(self.weight_places, weights), self.read(self.buffer_places, buffers) if buffers else buffers
        return output

    def fill(self, weights: list[Tensor], buffers: list[Tensor]) -> None:
        """Put tensors into their places."""
        for container, key, i in self.weight_places:
            container[key] = weights[i]
        for container, key, i in self.buffer_places:
            container[key] = buffers[i]
        for container, key, i in self.alias_places:
            container[key] = weights[i]

    def clear(self) -> None:
        """Take the tensors out again."""
        self.placed = []
        self.after: list[Tensor] = []
        self.found = ([], [])
        self.fill(*self.structure.empty)

    def found_buffers(self) -> list[Tensor]:
        """Return the buffers that stand in their places now."""
        found: list[Any] = [None] * len(self.structure.buffers)
        for container, key, i in self.buffer_places:
            found[i] = container.get(key)
        return found

    @staticmethod
    def read(places: list[Place], placed: list[Tensor]) -> list[Tensor]:
        """Return the tensors that stand in places now: a forward pass may have put in others."""
        found = list(placed)
        for container, key, i in places:
            if container.get(key) is not placed[i]:
                if container.get(key) is None:
                    raise errors.HiddenState([key], "adds or removes them while it runs")
                found[i] = container[key]
        return found

    def changed_attributes(self) -> list[str]:
        """Name the attributes that differ from before the forward pass. Tensors in places do not count."""
        changed: list[str] | None
        for place in list(self.alias_places):
            container, key, i = place
            with contextlib.suppress(LookupError):
                if container[key] is self.found[0][i]:
                    container[key] = self.structure.empty[0][i]
                    continue
            self.alias_places.remove(place)  # the pass put something else there, and a second run must find it there
        try:
            changed = [] if self.containers == self.before else None
        except (RuntimeError, ValueError):  # tensors or arrays compared element by element: other objects, then
            changed = None
        if changed is None:
            changed = [name for parts in zip(self.labels, self.containers, self.before, strict=True) for name in _which(*parts)]
        changed += [
            f"{type(part).__name__}.training" for part, flag in zip(self.parts, self.flags, strict=True) if part.training is not flag
        ]
        changed += [label for label, tensor, origin in self.tensors if not unchanged(tensor, origin)]
        changed += [label for label, value, before in self.opaque if _pickled(value) != before]
        return changed

    def grew(self) -> list[str]:
        """Name parameters, buffers and modules that a forward pass added or removed."""
        if (filled := [label for label, registry, key in self.absent if registry.get(key) is not None]) or list(
            map(len, self.registries)
        ) == self.sizes:
            return filled
        return [str(key) for registry, keys in zip(self.registries, self.keys, strict=True) for key in set(registry) ^ set(keys)]

    def _survey(self, indices: dict[int, int]) -> None:
        """Find everything that a forward pass could change besides weights and buffers."""
        seen: set[int] = set()

        def visit(value: Any, label: str, holder: Any, key: Any) -> None:
            if isinstance(value, Tensor) and id(value) in indices:
                if isinstance(holder, tuple):
                    raise errors.UnsupportedModule(
                        f"{label} is a weight inside a tuple, where it cannot be exchanged. Use a list or an nn.ParameterList."
                    )
                self.alias_places.append((holder, key, indices[id(value)]))
            elif isinstance(value, (*_ATOMS, *_CODE, nn.Module)) or id(value) in seen:
                if isinstance(value, nn.Module) and id(value) not in seen and id(value) not in registered:
                    seen.add(id(value))
                    visit(vars(value), label, None, None)
            elif isinstance(value, Tensor):
                seen.add(id(value))
                self.tensors.append((label, value, share(value)))
            elif isinstance(value, (dict, list, set, deque)):
                seen.add(id(value))
                self.watched.append((label, value))
                items = value.items() if isinstance(value, dict) else enumerate(value)
                for k, item in list(items):
                    visit(item, f"{label}.{k}" if isinstance(value, dict) else f"{label}[{k}]", value, k)
            elif isinstance(value, (tuple, frozenset)):
                seen.add(id(value))
                for k, item in enumerate(value):
                    visit(item, f"{label}[{k}]", value, k)
            elif hasattr(value, "__dict__"):
                seen.add(id(value))
                self.watched.append((label, vars(value)))
                for k, item in list(vars(value).items()):
                    visit(item, f"{label}.{k}", vars(value), k)
            elif (pickled := _pickled(value)) is not None:
                seen.add(id(value))
                self.opaque.append((label, value, pickled))

        registered = {id(part) for part in self.module.modules()}  # not the parts: a reference too many would spoil is_held
        for path, part in self.module.named_modules():
            if _keeps_nothing(part):
                continue
            if isinstance(part, nn.RNNBase):
                _hold_still(part)
            derived = frozenset().union(*(names for kind, names in _DERIVED if isinstance(part, kind)))
            own = vars(part)
            self.watched.append((path, _Without(own, derived) if derived else own))
            for name, value in list(own.items()):
                if name not in _OF_EVERY_MODULE or name == "training":
                    visit(value, f"{path}.{name}" if path else name, own, name)


def _keeps_nothing(part: nn.Module) -> bool:
    """Say whether a part is a layer of torch.nn as PyTorch wrote it: none of them changes attributes in its forward, but RNNs.

    Not looking at them saves 2 of the 95 us of a step of the 128-64-10 network.
    """
    own = vars(part)
    as_written = type(part).__module__.startswith("torch.nn.modules.") and not isinstance(part, nn.RNNBase)
    return as_written and not part._forward_hooks and not part._forward_pre_hooks and "forward" not in own


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
    names = [key for key in {**dict(before.items()), **dict(container.items())} if not _equal(container.get(key), before.get(key))]
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
            return value.get_state().numpy().tobytes()
        return pickle.dumps(value)
    except Exception:  # cannot be pickled: locks, handles, generators of code
        return None


def _places(module: nn.Module, registry: str, tensors: Mapping[str, Tensor]) -> list[Place]:
    """List where each tensor stands in the module tree, each name of a tied one."""
    indices = {id(tensor): i for i, tensor in enumerate(tensors.values())}
    return [
        (container, key, indices[id(tensor)])
        for part in module.modules()
        for container in (getattr(part, registry),)
        for key, tensor in container.items()
        if tensor is not None
    ]


def _set_mode(module: nn.Module, mode: Mode) -> None:
    """Switch a module tree to training or evaluation with its own ``train()``, which some networks override."""
    wanted = {"": mode} if isinstance(mode, bool) else {"": True, **dict(mode)}
    before = {path: {k: v for k, v in vars(part).items() if k != "training"} for path, part in module.named_modules()}
    for path in sorted(wanted, key=lambda path: path.count(".") + bool(path)):
        try:
            part = module.get_submodule(path)
        except AttributeError:
            known = ", ".join(f"'{name}'" for name, _ in module.named_modules() if name)
            raise errors.UnsupportedModule(f"training= names the submodule '{path}', and this network has {known or 'none'}.") from None
        part.train(wanted[path])
    for path, part in module.named_modules():
        switched = [key for key in before[path] if vars(part).get(key) is not before[path][key]]
        if switched:
            raise errors.HiddenState([f"{path}.{key}" if path else key for key in switched], "its train() or eval() is what changes it")


def copy_structure(module: nn.Module) -> nn.Module:
    """Copy a module instance with its weights and buffers on "meta": names, shapes and kinds without content."""
    layout = Layout.of(module)
    refuse_hidden_ties(layout)
    _refuse_closures(
        module, {id(part) for part in module.modules()} | {id(t) for t in (*layout.weights.values(), *layout.buffers.values())}
    )
    memo: dict[int, Any] = {
        id(weight): nn.Parameter(weight.detach().to("meta"), weight.requires_grad) for weight in layout.weights.values()
    }
    memo |= {id(buffer): buffer.detach().to("meta") for buffer in layout.buffers.values()}
    for weight in layout.weights.values():
        memo[id(weight)]._backward_hooks = weight._backward_hooks
    try:
        return copy.deepcopy(module, memo)
    except Exception as error:
        raise errors.UnsupportedModule(
            f"This {type(module).__name__} cannot be copied ({type(error).__name__}: {str(error).splitlines()[0]}). "
            "Pass something that builds it:\n\n    ModelFactory = fnlib.Factory(lambda: Network(...))\n"
        ) from error


def _refuse_closures(module: nn.Module, own: set[int]) -> None:
    """Refuse to copy a network with functions that hold parts of it: the copies would go on using the original's weights."""
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            for function in (value, *value.values()) if isinstance(value, dict) else (value,):
                held = [cell.cell_contents for cell in getattr(function, "__closure__", None) or () if _is_filled(cell)]
                if any(id(getattr(inside, "__self__", inside)) in own for inside in held):
                    where = f"{path}.{name}" if path else name
                    raise errors.UnsupportedModule(
                        f"'{where}' of this network is a function that holds a part of the network: in a copy it would go on "
                        "using the weights of the original. Pass something that builds it:\n\n    ModelFactory = fnlib.Factory(lambda: "
                        "Network(...))\n"
                    )


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def refuse_hidden_ties(layout: Layout) -> None:
    """Refuse weights and buffers that overlap in memory without being one tensor: a write to one changes the other."""
    spans = sorted(
        (tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.storage_offset() + _extent(tensor), name)
        for name, tensor in {**layout.weights, **layout.buffers}.items()
        if tensor.layout is torch.strided and not tensor.is_meta and tensor.numel()
    )
    for (memory, _, end, name), (following, start, _, other) in itertools.pairwise(spans):
        if memory == following and start < end:
            raise errors.UnsupportedModule(
                f"'{name}' and '{other}' are two tensors in one piece of memory: training one changes the other, and values cannot follow. "
                "Tie them by name:\n\n    network.decoder.weight.data = network.encoder.weight.data   # wrong: shares memory\n"
                "    network.decoder.weight = network.encoder.weight             # right: one weight under two names\n"
            )


def _extent(tensor: Tensor) -> int:
    return 1 + sum((size - 1) * abs(stride) for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
