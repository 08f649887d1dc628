"""The tensors of a network by name, and copies of its module tree without their content."""

from __future__ import annotations

import copy
import itertools
import types
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fnlib import errors, torch_private
from fnlib.values.held import Held, Names, Target, moved

_BUILD = (
    "Pass a function that builds it:\n\n    ModelFactory = fnlib.Factory(lambda: Network(...))\n"
)


IN_TRANSFORM = (
    "A network can't be built inside a transform of torch.func, because the transform takes back its weights "
    "when it ends. Build it before, and draw its weights:\n\n"
    "    torch.vmap(lambda x: fnlib.Factory(Network)(fnlib.Parameters())(x))(X)   # wrong\n\n"
    "    model = fnlib.Factory(Network)(fnlib.Parameters())\n"
    "    torch.vmap(model)(X)   # right\n"
)


class NamedTensors(NamedTuple):
    """The tensors of a module, named as in ``named_parameters()`` and ``named_buffers()``."""

    weights: dict[str, Tensor]
    buffers: dict[str, Tensor]
    names: Names

    @property
    def all(self) -> dict[str, Tensor]:
        return {**self.weights, **self.buffers}


def named_tensors(module: nn.Module) -> NamedTensors:
    """Name the weights and buffers of a module; refuse what no value can hold."""
    _refuse_sharded(module)
    weights: dict[str, Tensor] = dict(module.named_parameters())
    buffers = dict(module.named_buffers())
    if any(map(torch_private.is_wrapped, (*weights.values(), *buffers.values()))):
        raise errors.UnsupportedModule(IN_TRANSFORM)
    lazy = [name for name, t in {**weights, **buffers}.items() if nn.parameter.is_lazy(t)]
    if lazy:
        raise errors.LazyModule(lazy)
    first = {id(tensor): name for name, tensor in {**weights, **buffers}.items()}
    every_name = itertools.chain(
        module.named_parameters(remove_duplicate=False),
        module.named_buffers(remove_duplicate=False),
    )
    ties = {name: first[id(tensor)] for name, tensor in every_name if first[id(tensor)] != name}
    parts = [
        (f"{path}." if path else "", part)
        for path, part in module.named_modules(remove_duplicate=False)
    ]
    unsaved = frozenset(
        path + name for path, part in parts for name in torch_private.unsaved_buffers(part)
    )
    extra = {
        path + _EXTRA: part.get_extra_state()
        for path, part in parts
        if type(part).get_extra_state is not nn.Module.get_extra_state
    }
    return NamedTensors(weights, buffers, Names(ties, unsaved, extra=extra))


_EXTRA = "_extra_state"  # as PyTorch calls it in a state dict
_SHARDED = frozenset({"FSDPModule", "FullyShardedDataParallel"})


def _refuse_sharded(module: nn.Module) -> None:
    for part in module.modules():
        if not _SHARDED.isdisjoint(kind.__name__ for kind in type(part).__mro__):
            raise errors.UnsupportedModule(
                "This network is wrapped by FSDP (fully_shard), which moves its weights between processes inside of forward "
                "and backward, so no value can hold them. Give the factory the network itself, and average gradients:\n\n"
                "    fully_shard(network)                        # wrong: FSDP owns the weights\n"
                "    ModelFactory = fnlib.Factory(lambda: Network(...))   # right: the plain network\n"
                "    # then all_reduce the tensors of model.backward(loss), one mean for each name\n"
            )


def held_by(module: nn.Module) -> Held:
    """Copy the weights and buffers of a stock module."""
    if not isinstance(module, nn.Module):
        right = "parameters = fnlib.Parameters.from_module(network)   # an nn.Module"
        what = "from_module copies a module"
        raise errors.WrongParameters(what, f"got {type(module).__name__}", right)
    return taken_from(named_tensors(module))


def taken_from(tensors: NamedTensors, *targets: Target | None) -> Held:
    """Copy named tensors into a record, moved to devices and dtypes, and let go of each at once."""
    refuse_hidden_ties(tensors)
    with torch.inference_mode(False):
        weights, buffers = (
            {name: _copied(some.pop(name).detach(), targets) for name in list(some)}
            for some in (tensors.weights, tensors.buffers)
        )
    return Held(weights, buffers, names=tensors.names)


def _copied(tensor: Tensor, targets: tuple[Target | None, ...]) -> Tensor:
    copied = tensor
    for target in targets:
        copied = copied if target is None else moved(copied, target)
    return tensor.clone() if copied is tensor else copied


def copy_structure(module: nn.Module) -> nn.Module:
    """Copy a module with its tensors on "meta": names, shapes and kinds without content."""
    tensors = named_tensors(module)
    refuse_hidden_ties(tensors)
    refuse_views(module, tensors)
    own = {id(part) for part in (*module.modules(), *tensors.all.values())}
    _refuse_closures(module, own)
    memo: dict[int, Any] = {id(b): b.detach().to("meta") for b in tensors.buffers.values()}
    for weight in tensors.weights.values():
        memo[id(weight)] = nn.Parameter(weight.detach().to("meta"), weight.requires_grad)
        torch_private.copy_hooks(weight, memo[id(weight)])
    try:
        return copy.deepcopy(module, memo)
    except Exception as error:
        raise errors.UnsupportedModule(
            f"This {type(module).__name__} can't be copied "
            f"({type(error).__name__}: {str(error).splitlines()[0]}). {_BUILD}"
        ) from error


def _refuse_closures(module: nn.Module, own: set[int]) -> None:
    """Refuse functions that hold parts of the network: in a copy they'd use the original's."""
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            for function in (value, *value.values()) if isinstance(value, dict) else (value,):
                cells = getattr(function, "__closure__", None) or ()
                held = [cell.cell_contents for cell in cells if is_filled(cell)]
                if any(id(getattr(inside, "__self__", inside)) in own for inside in held):
                    raise errors.UnsupportedModule(
                        f"'{path}.{name}'".replace("'.", "'")
                        + " of this network is a function that refers to a part of the network, so a copy "
                        f"would still use the weights of the original. {_BUILD}"
                    )


def is_filled(cell: types.CellType) -> bool:
    """Say whether a name of a closure has a value yet."""
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def refuse_hidden_ties(tensors: NamedTensors) -> None:
    """Refuse tensors that overlap in memory without being one: a write to one changes the other."""
    spans = sorted(
        (torch_private.memory_of(t), t.storage_offset(), t.storage_offset() + _extent(t), name)
        for name, t in tensors.all.items()
        if _has_memory(t)
    )
    for (memory, _, end, name), (following, start, _, other) in itertools.pairwise(spans):
        if memory == following and start < end:
            raise errors.UnsupportedModule(
                f"'{name}' and '{other}' are two tensors that share memory: training one changes the other, and parameters "
                "can't track that. Tie them by name:\n\n"
                "    network.decoder.weight.data = network.encoder.weight.data   # wrong: shares memory\n"
                "    network.decoder.weight = network.encoder.weight             # right: one weight under two names\n"
            )


def refuse_views(module: nn.Module, tensors: NamedTensors) -> None:
    """Refuse attributes that share memory with a weight: they cannot follow its new values."""
    own = tensors.all
    memory = {
        torch_private.memory_of(tensor): name for name, tensor in own.items() if _has_memory(tensor)
    }
    ours = {id(tensor) for tensor in own.values()}
    for path, part in module.named_modules():
        if torch_private.pre_hooks_of(part):  # may compute it anew, as the old spectral_norm does
            continue
        for name, value in vars(part).items():
            if name in torch_private.RNN_LISTS or name in torch_private.REGISTRIES:
                continue
            for tensor in torch_private.flat(value)[0]:
                if not isinstance(tensor, Tensor) or id(tensor) in ours or not _has_memory(tensor):
                    continue
                if torch_private.memory_of(tensor) in memory:
                    raise errors.UnsupportedModule(
                        f"'{path}.{name}'".replace("'.", "'")
                        + f" shares memory with '{memory[torch_private.memory_of(tensor)]}': training changes both in "
                        "stock PyTorch, but here the attribute would keep the old weights. Make the view in forward:\n\n"
                        f"    self.{name} = self.layer.weight.view(-1)   # wrong in __init__\n"
                        f"    {name} = self.layer.weight.view(-1)        # right in forward\n"
                    )


def _has_memory(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_meta and tensor.numel() > 0


def _extent(tensor: Tensor) -> int:
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return 1 + sum((size - 1) * abs(stride) for size, stride in steps)
