"""What binding finds out about a value: a cache, never saved, compared or copied."""

from __future__ import annotations

from typing import NamedTuple

import torch

from fnlib.network.backward import Leaves
from fnlib.network.pool import Network
from fnlib.values.held import Held
from fnlib.values.protect import in_transform


class Bound(NamedTuple):
    """What is known of a value."""

    network: Network | None = None  # whose names and shapes were checked
    rule: object = None  # what the rule that the state was checked for reads of it
    leaves: Leaves | None = None  # where gradients of this value are taken

    def to(self, network: Network, held: Held) -> tuple[Held, Leaves, Bound]:
        """Check once that a record is one of a network.

        Returns it in the network's order, the leaves of the value's models, and what is known now.
        """
        known, rule, leaves = self
        if known is not network:
            ordered = network.fit(held)
            # A value in another order stays unknown, or a later bind would take its order as it is.
            held, known = (ordered, known) if ordered is not held else (held, known or network)
        if leaves is not None and leaves.network is network and not leaves.written(held.weights):
            return held, leaves, self
        leaves = Leaves(network, held.weights.values())
        # Inside a transform or inference mode the leaves belong to it and must not outlive it.
        outlives = not (in_transform() or torch.is_inference_mode_enabled())
        return held, leaves, Bound(known, rule, leaves if outlives else self.leaves)
