"""Donation: a value hands its memory over for good, and says so to whoever uses it afterwards."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fnlib import errors
from fnlib.show.location import where
from fnlib.values.protect import map_tree, share, share_all

if TYPE_CHECKING:
    from fnlib.parameters import Parameters

_one_at_a_time = threading.Lock()


def give_away(value: Parameters) -> tuple[dict[str, Tensor], Any]:
    """Take weights and optimizer state out of a value, which is marked before anything else happens.

    Args:
        value: the parameters that end here.

    Returns:
        Weights and optimizer state that a step may write to.

    Raises:
        Donated: they have been given away before.
    """
    line = caller()
    with _one_at_a_time:  # of two threads one is told that it came too late
        weights, state = value._alive("be given away"), value._state
        value._donated = line
    for leaf in value._leaves.all if value._leaves else ():
        # Lets go of the memory (else it would be copied on the first write) and bumps the version, so that
        # a backward pass that still needs this weight fails instead of reading what the next step wrote.
        torch.autograd.graph.increment_version(leaf)
        leaf.data = torch.empty(0, dtype=leaf.dtype, device=leaf.device)
        leaf._donated = errors.Donated(value._describe(), line)
    # Shared, as another value may hold the same tensors (`replace` copies nothing): memory that nobody else holds is
    # reused all the same, because the originals end here.
    given = dict(zip(weights, share_all(weights.values()), strict=True)), map_tree(share, state)
    value._weights = value._leaves = value._state = None
    return given


def caller() -> str:
    """Say which line outside this package is being executed."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("fnlib"):
        frame = frame.f_back
    return where(frame.f_code.co_filename, frame.f_lineno)
