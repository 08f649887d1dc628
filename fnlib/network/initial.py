"""Initial weights: drawn as building the network would draw them."""

from __future__ import annotations

from torch import nn

from fnlib import errors
from fnlib.network.names import copy_structure

# Layers without weights, and layers whose reset_parameters draws what their constructor draws, in the same order.
# tests/test_initial.py holds every one of them to the bits of a freshly built layer.
_CONTAINERS = (nn.Sequential, nn.ModuleList)
_DRAWN = (
    nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag,
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell, nn.GRUCell,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
    nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.PReLU,
)  # fmt: skip
REDRAWABLE: frozenset[type] = frozenset(_DRAWN)


def redraw(module: nn.Module) -> nn.Module:
    """Copy a module instance with initial weights drawn afresh from PyTorch's generator.

    Args:
        module: ``nn.Sequential`` or ``nn.ModuleList`` of layers of ``torch.nn``, or one such layer.

    Returns:
        A module with the weights that building it anew would give.

    Raises:
        CannotRedraw: it is made of something else, and could come out different.
    """
    shared: set[int] = set()
    for path, part in module.named_modules(remove_duplicate=False):
        where = f"'{path}' ({type(part).__name__})" if path else f"This {type(part).__name__}"
        own = [tensor for tensor in part._parameters.values() if tensor is not None]
        if own and type(part) not in REDRAWABLE:
            raise errors.CannotRedraw(f"{where} is not a layer that fnlib can redraw exactly")
        if (
            not own
            and type(part) not in _CONTAINERS
            and type(part) not in REDRAWABLE
            and not _plain(part)
        ):
            raise errors.CannotRedraw(f"{where} is not a container or layer of torch.nn")
        if part._forward_pre_hooks or part._forward_hooks:
            raise errors.CannotRedraw(f"{where} has hooks that may change its weights")
        if isinstance(part, (nn.Embedding, nn.EmbeddingBag)) and not part.weight.requires_grad:
            raise errors.CannotRedraw(
                f"{where} is frozen, like an embedding made from given weights"
            )
        if shared & {id(tensor) for tensor in own}:
            raise errors.CannotRedraw(f"{where} shares weights with another layer")
        shared |= {id(tensor) for tensor in own}
    drawn = copy_structure(module).to_empty(device="cpu")
    for part in drawn.modules():
        if type(part) in REDRAWABLE:
            part.reset_parameters()  # type: ignore[operator]
    return drawn


def _plain(part: nn.Module) -> bool:
    """Say whether a layer is PyTorch's own and holds no tensors at all."""
    return (
        type(part).__module__.startswith("torch.nn.modules.")
        and not part._buffers
        and not part._parameters
    )
