"""transformers-17877: one weight is drawn again for each module around it, before training begins."""

import sys

import torch
from torch import nn

FIXED = "fixed" in sys.argv


class Model(nn.Module):
    """Layers whose projection has a scale of its own."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(3)))
        self.head = nn.Linear(8, 4)
        self.apply(self.draw)

    def draw(self, module: nn.Module) -> None:
        for name, weight in module.named_parameters(recurse=not FIXED):
            if name.endswith("weight"):
                nn.init.normal_(weight, 0.0, 0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(x))


torch.manual_seed(0)
x, y = torch.randn(64, 8), torch.randint(0, 4, (64,))
model = Model()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _epoch in range(2):
    for inputs, targets in zip(x.split(16), y.split(16), strict=True):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
print(f"{loss.item():.3f}")
