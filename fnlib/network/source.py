"""Where a factory's networks come from: something that builds them, or an instance that is copied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from fnlib import errors
from fnlib.network.initial import redraw
from fnlib.network.names import copy_structure
from fnlib.network.pool import Structure
from fnlib.network.randomness import one_at_a_time, preserved
from fnlib.parameters import Parameters
from fnlib.values.protect import outside_transforms


class Blueprint:
    """Makes the structure that forward passes run on, and initial weights.

    Args:
        build: builds the network when called without arguments, or a module instance, which is only read.
    """

    def __init__(self, build: Callable[[], nn.Module] | nn.Module) -> None:
        self.instance: nn.Module | None = None
        self.known: Structure | None = None
        if isinstance(build, nn.Module):
            self.instance = copy_structure(build)
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
    def structure(self) -> Structure:
        """Names, shapes and module tree, made when they are first needed."""
        if self.known is not None:
            return self.known
        if self.instance is not None:
            instance = self.instance
            return self._publish(
                Structure(copy_structure(instance), lambda: copy_structure(instance))
            )
        with preserved(), outside_transforms():
            structure = self._taken_apart(self._built())
        return self._publish(structure)

    def draw(self, empty: Parameters) -> Parameters:
        """Draw initial weights as building the network would.

        Args:
            empty: parameters that say with which seed, and where to and to which dtype the weights go.
        """
        wanted = cast(dict[str, Any], empty._draw)
        if wanted["seed"] is None:
            module = self._drawn()
        else:
            with preserved():
                torch.manual_seed(wanted["seed"])
                module = self._drawn()
        parameters = Parameters.from_module(module)
        if self.known is None and self.instance is None:
            structure = self._taken_apart(module)
            del module  # a structure counts references to its modules from when others can see it
            self._publish(structure)
        for target in (wanted["device"], wanted["dtype"]):
            parameters = parameters if target is None else parameters.to(target)
        return parameters

    def _drawn(self) -> nn.Module:
        return self._built() if self.instance is None else redraw(self.instance)

    def _built(self) -> nn.Module:
        module = self.build()
        if not isinstance(module, nn.Module):
            raise errors.UnsupportedModule(
                f"The function that builds the network returned {type(module).__name__}, expected an nn.Module."
                "\n\n    ModelFactory = fnlib.Factory(lambda: Network(...))"
            )
        return module

    def _taken_apart(self, first: nn.Module) -> Structure:
        """Make the structure of a module that was built; of copies where the build hands out modules that it keeps."""
        with preserved(), outside_transforms():
            second = self._built()
        if _parts(first) & _parts(second):
            return Structure(copy_structure(first), lambda: copy_structure(self._built()))
        return Structure(first, self._built)

    def _publish(self, structure: Structure) -> Structure:
        """Keep a structure, unless another thread was first: all threads share one."""
        with one_at_a_time:
            if self.known is None:
                self.known = structure
            return self.known


def _parts(module: nn.Module) -> set[int]:
    return {
        id(part)
        for parts in (module.modules(), module.parameters(), module.buffers())
        for part in parts
    }
