"""mmpretrain-702: the first stage is frozen by `train()`, and nobody calls it.

A model is in training mode when it is built, so that the loop runs without `train()`.
"""

import sys

import torch
from torch import nn


class Backbone(nn.Module):
    """Two stages; the first `frozen_stages` of them are meant to stay as they are."""

    def __init__(self, frozen_stages: int):
        super().__init__()
        self.frozen_stages = frozen_stages
        self.stages = nn.ModuleList([nn.Linear(8, 16), nn.Linear(16, 16)])

    def freeze(self) -> None:
        for stage in self.stages[: self.frozen_stages]:
            stage.eval()
            for weight in stage.parameters():
                weight.requires_grad = False

    def train(self, mode: bool = True) -> "Backbone":
        super().train(mode)
        self.freeze()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for stage in self.stages:
            x = torch.relu(stage(x))
        return x


torch.manual_seed(0)
x, y = torch.randn(64, 8), torch.randint(0, 4, (64,))
model = nn.Sequential(Backbone(frozen_stages=1), nn.Linear(16, 4))
if "fixed" in sys.argv:
    model.train()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
start = model[0].stages[0].weight.detach().clone()
for _epoch in range(3):
    for inputs, targets in zip(x.split(16), y.split(16), strict=True):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
print(f"the frozen stage moved by {(model[0].stages[0].weight - start).norm():.3f}")
