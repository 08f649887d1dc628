"""Multiplying a list copies references, so there's one layer in four places."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    return dict(feature=torch.randn(16, 8))


def bug(feature):
    layers = nn.ModuleList([nn.Linear(8, 8)] * 4)
    output = feature
    for layer in layers:
        output = torch.relu(layer(output))
    return layers


def cure(feature):
    layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(4)])
    output = feature
    for layer in layers:
        output = torch.relu(layer(output))
    return layers


def harm(run):
    """Weights and biases that can be trained (8 were intended)."""
    return len(list(run(**setup()).parameters()))


if __name__ == "__main__":
    bug(**setup())
