"""No gradient is left for the step to use."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    batches = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(3)]
    return dict(model=model, optimizer=optimizer, batches=batches)


def bug(model, optimizer, batches):
    for feature, label in batches:
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.zero_grad()
        optimizer.step()


def cure(model, optimizer, batches):
    for feature, label in batches:
        loss = nn.functional.cross_entropy(model(feature), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def harm(run):
    """How many of the 4 weights did the three steps move?"""
    things = setup()
    before = [weight.clone() for weight in things["model"].parameters()]
    run(**things)
    return sum(not torch.equal(old, new) for old, new in zip(before, things["model"].parameters()))


if __name__ == "__main__":
    bug(**setup())
