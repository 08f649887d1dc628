"""Gradients are computed and cleared, and no weight moves."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(4)]
    return dict(model=model, optimizer=optimizer, batches=batches)


def bug(model, optimizer, batches):
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()


def cure(model, optimizer, batches):
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()


def harm(run):
    """How many of the 4 weights did training move?"""
    things = setup()
    before = [weight.detach().clone() for weight in things["model"].parameters()]
    run(**things)
    after = things["model"].parameters()
    return sum(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


if __name__ == "__main__":
    bug(**setup())
