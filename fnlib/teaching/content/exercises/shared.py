"""What lessons 03, 04 and 06 practise on: a classifier that is trained in a moment, with the same batches each time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Batches = list[tuple[Tensor, Tensor]]

criterion = nn.NLLLoss()


def layers() -> list[nn.Module]:
    """Build the classifier's layers: feature (batch, 4) -> log-probabilities (batch, 3)."""
    return [nn.Linear(4, 3), nn.LogSoftmax(dim=1)]


def some_batches(count: int) -> Batches:
    """Draw batches for it: feature (8, 4), label (8,)."""
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(8, 4, generator=generator), torch.randint(3, (8,), generator=generator))
        for _ in range(count)
    ]
