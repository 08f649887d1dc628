"""`autocast` keeps its casts of the weights until it ends or its cache is cleared, so every forward pass here uses the
first ones."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = torch.randn(32, 8), torch.randint(0, 3, (32,))
    return dict(model=model, optimizer=optimizer, batches=[batch] * 4)      # one batch, four times


def bug(model, optimizer, batches):
    losses = []
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for feature, label in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(feature), label)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def cure(model, optimizer, batches):
    losses = []
    for feature, label in batches:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def harm(run):
    """How many different losses are there in four steps on one batch?"""
    return len(set(run(**setup())))


if __name__ == "__main__":
    bug(**setup())
