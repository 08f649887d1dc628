"""Layers in a Python list aren't part of the model: they get gradients, and no optimizer holds them."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = layers
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.head(x)


def setup():
    torch.manual_seed(0)
    batches = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(4)]
    return dict(batches=batches)


def bug(batches):
    model = Net([nn.Linear(8, 8), nn.Linear(8, 8)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()
    return model


def cure(batches):
    model = Net(nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()
    return model


def harm(run):
    """Weights that `parameters()` has, of six."""
    return len(list(run(**setup()).parameters()))


if __name__ == "__main__":
    bug(**setup())
