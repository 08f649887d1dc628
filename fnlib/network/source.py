"""Where a factory's networks come from, and their initial weights."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fnlib import errors
from fnlib.network.names import IN_TRANSFORM, copy_structure, named_tensors, taken_from
from fnlib.network.ownership import held_elsewhere
from fnlib.network.pool import Network
from fnlib.network.randomness import one_at_a_time, preserved
from fnlib.show.table import Table
from fnlib.show.tensors import tensor_table
from fnlib.torch_private import forward_hooks_of, outside_transforms, registries
from fnlib.values.held import Empty, Held
from fnlib.values.protect import in_transform


class Source:
    """Makes the module trees that forward passes run on, and initial weights."""

    def __init__(self, build: Callable[[], nn.Module] | nn.Module) -> None:
        self.instance: nn.Module | None = None
        self.known: Network | None = None
        if isinstance(build, nn.Module):
            with outside_transforms():  # a rate that is learned is given to a rule inside of one
                self.instance = copy_structure(build)
            self.build: Callable[[], nn.Module] = functools.partial(copy_structure, self.instance)
        elif callable(build):
            self.build = build
        else:
            raise errors.UnsupportedModule(
                f"A factory takes a module or a function that builds one, got {type(build).__name__}."
                "\n\n    ModelFactory = fnlib.Factory(lambda: Network(...))"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "known": None}  # made again where the copy is used

    @property
    def network(self) -> Network:
        """Names, shapes and module trees, made when they are first needed."""
        if self.known is not None:
            return self.known
        with preserved(), outside_transforms():
            box = [self._built()]
        return self._publish(self._taken_apart(box))

    def table(self) -> Table:
        """Show names and shapes, or what builds the network: it isn't built only to be shown."""
        if self.known is None and self.instance is None:
            build = getattr(self.build, "__qualname__", type(self.build).__name__)
            return Table(f"Factory of {build}, built when parameters are first bound")
        weights: Mapping[str, Tensor] = self.network.weights
        table = tensor_table("Factory", {"weights": weights, "buffers": self.network.buffers})
        table.detail = self.network.describe()
        return table

    def initial(self, empty: Empty) -> Held:
        """Draw initial weights as building the network would."""
        if in_transform() and self.network.weights:
            raise errors.UnsupportedModule(IN_TRANSFORM)
        if empty.seed is None:
            return self._initial(empty)
        with preserved():
            torch.manual_seed(empty.seed)
            return self._initial(empty)

    def _initial(self, empty: Empty) -> Held:
        """Draw initial weights, with no more in memory than them and one layer."""
        box = [self._built() if self.instance is None else redraw(self.instance)]
        # Before anything here refers to the tensors.
        elsewhere = self.known is None and held_elsewhere(box)
        tensors = named_tensors(box[0])
        if self.known is None:
            self._publish(self._taken_apart(box, elsewhere))
        box.clear()
        return taken_from(tensors, empty.device, empty.dtype)

    def _built(self) -> nn.Module:
        module = self.build()
        if not isinstance(module, nn.Module):
            raise errors.UnsupportedModule(
                f"The function that builds the network returned {type(module).__name__}, expected an nn.Module."
                "\n\n    ModelFactory = fnlib.Factory(lambda: Network(...))"
            )
        return module

    def _taken_apart(self, box: list[nn.Module], elsewhere: bool | None = None) -> Network:
        """Take the module in a box apart, or copies where the build keeps what it returns."""
        if held_elsewhere(box) if elsewhere is None else elsewhere:
            with preserved(), outside_transforms():
                another = self._built()
            if _parts(box[0]) & _parts(another):
                return Network(copy_structure(box.pop()), lambda: copy_structure(self._built()))
        return Network(box.pop(), self._built)

    def _publish(self, network: Network) -> Network:
        """Keep a network, unless another thread was first: all threads share one."""
        with one_at_a_time:
            if self.known is None:
                self.known = network
            return self.known


def _parts(module: nn.Module) -> set[int]:
    every = (module.modules(), module.parameters(), module.buffers())
    return {id(part) for parts in every for part in parts}


# Layers whose reset_parameters draws what their constructor draws, in the same order.
# tests/core/test_initial.py holds every one of them to the bits of a freshly built layer.
_DRAWN = (
    nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag,
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell, nn.GRUCell,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
    nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.PReLU,
)  # fmt: skip
REDRAWABLE: frozenset[type] = frozenset(_DRAWN)
_CONTAINERS = (nn.Sequential, nn.ModuleList)


def redraw(module: nn.Module) -> nn.Module:
    """Copy a module instance with the initial weights that building it anew would give.

    It has to be one layer of ``torch.nn``, or an ``nn.Sequential`` or ``nn.ModuleList`` of them.
    """
    shared: set[int] = set()
    for path, part in module.named_modules(remove_duplicate=False):
        own = {id(tensor) for tensor in registries(part)[0].values() if tensor is not None}
        reason = _cannot_redraw(part, bool(own), bool(shared & own))
        if reason:
            what = f"'{path}' ({type(part).__name__})" if path else f"This {type(part).__name__}"
            raise errors.CannotRedraw(f"{what} {reason}")
        shared |= own
    drawn = copy_structure(module).to_empty(device="cpu")
    for part in drawn.modules():
        if type(part) in REDRAWABLE:
            part.reset_parameters()  # type: ignore[operator]
    return drawn


def _cannot_redraw(part: nn.Module, has_weights: bool, has_shared: bool) -> str | None:
    """Say why a part could come out different from a new one; None if it cannot."""
    if type(part) not in REDRAWABLE:
        if has_weights:
            return "is not a layer that fnlib can redraw exactly"
        of_torch = type(part).__module__.startswith("torch.nn.modules.")
        if type(part) not in _CONTAINERS and (not of_torch or any(registries(part)[:2])):
            return "is not a container or layer of torch.nn"
    if forward_hooks_of(part):
        return "has hooks that may change its weights"
    if isinstance(part, (nn.Embedding, nn.EmbeddingBag)) and not part.weight.requires_grad:
        return "is frozen, like an embedding made from given weights"
    return "shares weights with another layer" if has_shared else None
