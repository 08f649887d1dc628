"""The optimizer holds the old layer's weights, so no step trains the new layer."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 10))
    batches = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(3)]
    return dict(model=model, batches=batches)


def bug(model, batches):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model[2] = nn.Linear(16, 3)                     # three classes now
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()


def cure(model, batches):
    model[2] = nn.Linear(16, 3)                     # three classes now
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()


def harm(run):
    """How many of the new layer's 2 weights did training move?"""
    things = setup()
    torch.manual_seed(1)
    run(**things)
    torch.manual_seed(1)
    fresh = nn.Linear(16, 3)
    return sum(not torch.equal(a, b) for a, b in zip(fresh.parameters(), things["model"][2].parameters()))


if __name__ == "__main__":
    bug(**setup())
