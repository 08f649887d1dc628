"""The structure of a network: names and shapes of its tensors, and module trees for forward passes that run at the same time."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fnlib import errors
from fnlib.network.names import Layout, refuse_views
from fnlib.network.randomness import preserved
from fnlib.network.skeleton import Mode, Skeleton
from fnlib.values.protect import outside_transforms, share_all, unchanged

__all__ = ["Mode", "Skeleton", "Structure"]


class Structure:
    """What a factory knows of its network: everything but the values of its tensors.

    Args:
        module: a module that is ours to take apart.
        another: makes another module of the same structure, for forward passes that run at the same time.
    """

    def __init__(self, module: nn.Module, another: Callable[[], nn.Module]) -> None:
        if isinstance(module, torch.jit.ScriptModule):
            raise errors.UnsupportedModule(
                "A scripted module keeps its weights where Python can't replace them. Pass the nn.Module that you scripted."
            )
        layout = Layout.of(module)
        refuse_views(module, layout)
        self.aliases, self.transient = layout.aliases, layout.transient
        for name, weight in layout.weights.items():
            if getattr(weight, "_post_accumulate_grad_hooks", None):
                raise errors.UnsupportedModule(
                    f"'{name}' has a hook that waits for its .grad (register_post_accumulate_grad_hook), but model.backward "
                    "never fills .grad, so nothing would call it. Use the gradient that model.backward(loss) returns."
                )
        self.hooks = {
            name: list(weight._backward_hooks.values())
            for name, weight in layout.weights.items()
            if weight._backward_hooks
        }
        # Tensors on "meta" have names, shapes and kinds, and no content.
        self.weights = {
            name: nn.Parameter(weight.detach().to("meta"), weight.requires_grad)
            for name, weight in layout.weights.items()
        }
        self.buffers = {name: buffer.detach().to("meta") for name, buffer in layout.buffers.items()}
        self.empty = list[Tensor](self.weights.values()), list(self.buffers.values())
        self.trained = [i for i, weight in enumerate(self.weights.values()) if weight.requires_grad]
        self.trained_names = [name for name, weight in self.weights.items() if weight.requires_grad]
        self.trains_all = len(self.trained) == len(self.weights)
        self.has_run = False
        # Whether forward passes write to weights; for other layers this is learnt from the first pass that does.
        self.writes_weights = any(
            getattr(part, "max_norm", None) is not None for part in module.modules()
        )
        self._another = another
        self._idle: dict[Mode, list[Skeleton]] = {}
        self._idle.setdefault(True, []).append(Skeleton(self, module, True))
        self.left: deque[Skeleton] = deque(
            maxlen=8
        )  # to a graph or an output that will run parts of them again

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
            skeleton.fill(skeleton.given[0], share_all(buffers))
            self.left.append(skeleton)
        else:
            skeleton.clear()
            self._idle.setdefault(skeleton.mode, []).append(skeleton)

    def check_left(self) -> None:
        """Refuse a backward pass that changed buffers: it came after the pass that returned them."""
        for skeleton in list(self.left):
            names = [
                name
                for name, new, old in zip(
                    self.buffers, skeleton.found_buffers(), skeleton.after, strict=True
                )
                if not unchanged(new, old)
            ]
            if names:
                with contextlib.suppress(ValueError):
                    self.left.remove(skeleton)
                raise errors.UnsupportedModule(
                    f"A part of this network runs again in backward (torch.utils.checkpoint) and changes {errors._names(names)} a second "
                    "time. Stock PyTorch counts both runs, but with_buffers has already returned the buffers of the first. "
                    "Leave this layer out of the checkpoint, or bind it with training=False."
                )
