"""The tensors of a network by name, and copies of its module tree without their content."""

from __future__ import annotations

import copy
import itertools
import types
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from fnlib import errors

# Where weights stand, and the lists that RNNs make of theirs anew when they meet others.
_PLACES = frozenset({"_parameters", "_buffers", "_modules", "_flat_weights", "_flat_weight_refs"})


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
        lazy = [
            name for name, tensor in {**weights, **buffers}.items() if nn.parameter.is_lazy(tensor)
        ]
        if lazy:
            raise errors.LazyModule(lazy)
        first = {id(tensor): name for name, tensor in {**weights, **buffers}.items()}
        everywhere = [
            *module.named_parameters(remove_duplicate=False),
            *module.named_buffers(remove_duplicate=False),
        ]
        aliases = {
            name: first[id(tensor)] for name, tensor in everywhere if first[id(tensor)] != name
        }
        transient = frozenset(
            f"{path}.{name}" if path else name
            for path, part in module.named_modules(remove_duplicate=False)
            for name in part._non_persistent_buffers_set
        )
        return cls(weights, buffers, aliases, transient)


def copy_structure(module: nn.Module) -> nn.Module:
    """Copy a module instance with its weights and buffers on "meta": names, shapes and kinds without content."""
    layout = Layout.of(module)
    refuse_hidden_ties(layout)
    refuse_views(module, layout)
    _refuse_closures(
        module,
        {id(part) for part in module.modules()}
        | {id(t) for t in (*layout.weights.values(), *layout.buffers.values())},
    )
    memo: dict[int, Any] = {
        id(weight): nn.Parameter(weight.detach().to("meta"), weight.requires_grad)
        for weight in layout.weights.values()
    }
    memo |= {id(buffer): buffer.detach().to("meta") for buffer in layout.buffers.values()}
    for weight in layout.weights.values():
        memo[id(weight)]._backward_hooks = weight._backward_hooks
    try:
        return copy.deepcopy(module, memo)
    except Exception as error:
        raise errors.UnsupportedModule(
            f"This {type(module).__name__} can't be copied ({type(error).__name__}: {str(error).splitlines()[0]}). "
            "Pass a function that builds it:\n\n    ModelFactory = fnlib.Factory(lambda: Network(...))\n"
        ) from error


def _refuse_closures(module: nn.Module, own: set[int]) -> None:
    """Refuse to copy a network with functions that hold parts of it: the copies would go on using the original's weights."""
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            for function in (value, *value.values()) if isinstance(value, dict) else (value,):
                held = [
                    cell.cell_contents
                    for cell in getattr(function, "__closure__", None) or ()
                    if _is_filled(cell)
                ]
                if any(id(getattr(inside, "__self__", inside)) in own for inside in held):
                    where = f"{path}.{name}" if path else name
                    raise errors.UnsupportedModule(
                        f"'{where}' of this network is a function that refers to a part of the network, so a copy would "
                        "still use the weights of the original. Pass a function that builds it:\n\n"
                        "    ModelFactory = fnlib.Factory(lambda: Network(...))\n"
                    )


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def refuse_hidden_ties(layout: Layout) -> None:
    """Refuse weights and buffers that overlap in memory without being one tensor: a write to one changes the other."""
    spans = sorted(
        (_memory(tensor), tensor.storage_offset(), tensor.storage_offset() + _extent(tensor), name)
        for name, tensor in {**layout.weights, **layout.buffers}.items()
        if _has_memory(tensor)
    )
    for (memory, _, end, name), (following, start, _, other) in itertools.pairwise(spans):
        if memory == following and start < end:
            raise errors.UnsupportedModule(
                f"'{name}' and '{other}' are two tensors that share memory: training one changes the other, and parameters "
                "can't track that. Tie them by name:\n\n"
                "    network.decoder.weight.data = network.encoder.weight.data   # wrong: shares memory\n"
                "    network.decoder.weight = network.encoder.weight             # right: one weight under two names\n"
            )


def refuse_views(module: nn.Module, layout: Layout) -> None:
    """Refuse attributes that share memory with a weight or buffer: in place they follow it, and a value that is put there they cannot."""
    own = {**layout.weights, **layout.buffers}
    memory = {_memory(tensor): name for name, tensor in own.items() if _has_memory(tensor)}
    ours = {id(tensor) for tensor in own.values()}
    for path, part in module.named_modules():
        if (
            part._forward_pre_hooks
        ):  # may compute the attribute anew before it is read, as the old spectral_norm does
            continue
        for name, value in vars(part).items():
            for tensor in _pytree.tree_leaves(value) if name not in _PLACES else ():
                if (
                    isinstance(tensor, Tensor)
                    and id(tensor) not in ours
                    and _has_memory(tensor)
                    and _memory(tensor) in memory
                ):
                    raise errors.UnsupportedModule(
                        f"'{path}.{name}'".replace("'.", "'")
                        + f" shares memory with '{memory[_memory(tensor)]}': training changes both in "
                        "stock PyTorch, but here the attribute would keep the old weights. Make the view in forward:\n\n"
                        f"    self.{name} = self.layer.weight.view(-1)   # wrong in __init__\n"
                        f"    {name} = self.layer.weight.view(-1)        # right in forward\n"
                    )


def _has_memory(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_meta and tensor.numel() > 0


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _extent(tensor: Tensor) -> int:
    return 1 + sum(
        (size - 1) * abs(stride) for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
