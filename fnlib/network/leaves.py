"""Leaves: the tensors at which the gradients of a value are taken."""

from __future__ import annotations

import torch
from torch import Tensor

from fnlib.network.pool import Structure
from fnlib.parameters import Parameters
from fnlib.values.protect import _in_transform as is_wrapped
from fnlib.values.protect import in_transform, outside_transforms, share_all


class Leaves:
    """The weights of a value as leaves of autograd's graph: copy-on-write, one set for all models of the value.

    Args:
        structure: whose weights they are, and which of them are trained.
        weights: the value's own tensors.
    """

    __slots__ = ("all", "contiguous", "structure", "trained")

    def __init__(self, structure: Structure, weights: dict[str, Tensor]) -> None:
        self.structure = structure
        self.all = share_all([weights[name] for name in structure.weights])
        self.trained = (
            tuple(self.all)
            if structure.trains_all
            else tuple(self.all[i] for i in structure.trained)
        )
        if in_transform():  # it follows its own tensors; ours are marked outside
            with outside_transforms():
                for leaf in self.trained:
                    if not is_wrapped(leaf):
                        leaf.requires_grad_()
        else:
            for leaf in self.trained:
                leaf.requires_grad_()
        self.contiguous = all(map(Tensor.is_contiguous, self.trained))
        if structure.hooks:
            for name, leaf in zip(structure.weights, self.all, strict=True):
                for hook in structure.hooks.get(name, ()):
                    leaf.register_hook(hook)

    @classmethod
    def of(cls, parameters: Parameters, structure: Structure) -> Leaves:
        """Return the leaves of a value, made when it is first bound."""
        kept: Leaves | None = parameters._leaves
        if kept is not None and kept.structure is structure:
            return kept
        leaves = cls(structure, parameters._alive("be bound"))
        # Inside a transform or inference mode the tensors belong to that context and must not outlive it.
        if not in_transform() and not torch.is_inference_mode_enabled():
            parameters._leaves = leaves
        return leaves
