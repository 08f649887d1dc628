"""accelerate-2665: the optimizer holds the weights from before the model was wrapped.

Fully sharded training replaces each weight by a part of one flat weight; here the wrapper
makes new weights for the same layers.
"""

import sys

import torch
from torch import nn


def wrapped(model: nn.Module) -> nn.Module:
    """Replace each weight by a new one with the same numbers, as a sharding wrapper does."""
    for part in model.modules():
        for name, weight in list(part.named_parameters(recurse=False)):
            setattr(part, name, nn.Parameter(weight.detach().clone()))
    return model


torch.manual_seed(0)
x, y = torch.randn(64, 8), torch.randint(0, 4, (64,))
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
if "fixed" in sys.argv:
    model = wrapped(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
else:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model = wrapped(model)
start = model[0].weight.detach().clone()
for _epoch in range(3):
    for inputs, targets in zip(x.split(16), y.split(16), strict=True):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
print(f"the first weight moved by {(model[0].weight - start).norm():.3f}")
