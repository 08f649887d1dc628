"""One module tree with empty places for tensors: what a forward pass runs on."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from fnlib import errors
from fnlib.network.hidden_state import Place, Survey
from fnlib.network.names import Layout

if TYPE_CHECKING:
    from fnlib.network.pool import Structure

_NONE: tuple[list[Tensor], list[Tensor]] = [], []
Mode = bool | tuple[tuple[str, bool], ...]  # of the whole network, or by submodule


class Skeleton:
    """One module tree with places for tensors: they are put in for one forward pass, and taken out again."""

    def __init__(self, structure: Structure, module: nn.Module, mode: Mode) -> None:
        self.module, self.mode, self.structure = module, mode, structure
        layout = Layout.of(module)
        if list(layout.weights) != list(structure.weights) or list(layout.buffers) != list(
            structure.buffers
        ):
            raise errors.UnsupportedModule(
                "Building this network twice gave different names of weights or buffers. Build the same network every time."
            )
        self.weight_places = _places(module, "_parameters", layout.weights)
        self.buffer_places = _places(module, "_buffers", layout.buffers)
        _set_mode(module, mode)
        self.survey = Survey(module, _indices(layout.weights), _indices(layout.buffers))
        self.aliases = self.survey.weight_aliases, self.survey.buffer_aliases
        self.clear()
        self.survey.remember()
        self.keeps_nothing = self.survey.keeps_nothing
        self.references: int | None = None

    def is_held(self) -> bool:
        """Say whether something refers to the module that did not before its forward passes."""
        return self.references is not None and self._count_references() > self.references

    def _count_references(self) -> int:
        return sum(map(sys.getrefcount, self.survey.parts))

    def call(
        self,
        weights: list[Tensor],
        buffers: list[Tensor],
        method: str | None,
        args: Any,
        kwargs: Any,
    ) -> Any:
        """Run a forward pass. What stands in the places afterwards is in `found`; an error leaves the skeleton to be thrown away."""
        if self.references is None:
            self.references = self._count_references()
        self.given = weights, buffers
        self.fill(weights, buffers)
        output = (
            self.module(*args, **kwargs)
            if method is None
            else getattr(self.module, method)(*args, **kwargs)
        )
        self.found = (
            self.read(self.weight_places, weights),
            self.read(self.buffer_places, buffers) if buffers else buffers,
        )
        return output

    def fill(self, weights: list[Tensor], buffers: list[Tensor]) -> None:
        """Put tensors into their places."""
        for container, key, i in self.weight_places:
            container[key] = weights[i]
        for container, key, i in self.buffer_places:
            container[key] = buffers[i]
        for container, key, i in self.aliases[0]:
            container[key] = weights[i]
        for container, key, i in self.aliases[1]:
            container[key] = buffers[i]

    def clear(self) -> None:
        """Take the tensors out again."""
        self.given = _NONE
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
        for places, found, given, empty in zip(
            self.aliases, self.found, self.given, self.structure.empty, strict=True
        ):
            for place in list(places):
                container, key, i = place
                with contextlib.suppress(LookupError):
                    if container[key] is found[i]:
                        container[key] = empty[i]
                        continue
                    if container[key] is given[i]:
                        raise errors.HiddenState(
                            [str(key)], "replaces one of two references to the same tensor"
                        )
                places.remove(
                    place
                )  # the pass put something else there, and a second run must find it there
        return self.survey.changed()


def _indices(tensors: Mapping[str, Tensor]) -> dict[int, int]:
    return {id(tensor): i for i, tensor in enumerate(tensors.values())}


def _places(module: nn.Module, registry: str, tensors: Mapping[str, Tensor]) -> list[Place]:
    """List where each tensor stands in the module tree, each name of a tied one."""
    indices = _indices(tensors)
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
    before = {
        path: {k: v for k, v in vars(part).items() if k != "training"}
        for path, part in module.named_modules()
    }
    for path in sorted(wanted, key=lambda path: path.count(".") + bool(path)):
        try:
            part = module.get_submodule(path)
        except AttributeError:
            known = ", ".join(f"'{name}'" for name, _ in module.named_modules() if name)
            raise errors.UnsupportedModule(
                f"training= names the submodule '{path}', but this network has {known or 'none'}."
            ) from None
        part.train(wanted[path])
    for path, part in module.named_modules():
        switched = [key for key in before[path] if vars(part).get(key) is not before[path][key]]
        if switched:
            raise errors.HiddenState(
                [f"{path}.{key}" if path else key for key in switched],
                "its train() or eval() is what changes it",
            )
