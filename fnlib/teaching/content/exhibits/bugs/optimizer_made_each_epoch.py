"""Each of them starts with empty moments."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    batches = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(3)]
    return dict(model=model, batches=batches)


def bug(model, batches, epochs=4):
    for epoch in range(epochs):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for feature, label in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(feature), label)
            loss.backward()
            optimizer.step()
    return optimizer


def cure(model, batches, epochs=4):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(epochs):
        for feature, label in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(feature), label)
            loss.backward()
            optimizer.step()
    return optimizer


def harm(run):
    """Adam's step count at the end (12 steps were taken)."""
    things = setup()
    optimizer = run(**things)
    return optimizer.state[things["model"][0].weight]["step"].item()


if __name__ == "__main__":
    bug(**setup())
