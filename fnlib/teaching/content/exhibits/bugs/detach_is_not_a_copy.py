"""It's meant to keep the old weight, but it uses the same memory."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [(torch.randn(32, 8), torch.randn(32, 1)) for _ in range(3)]
    return dict(model=model, optimizer=optimizer, batches=batches)


def bug(model, optimizer, batches):
    before = model.weight.detach()
    for feature, target in batches:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()
    moved = (model.weight - before).norm()
    return moved.item()


def cure(model, optimizer, batches):
    before = model.weight.detach().clone()
    for feature, target in batches:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()
    moved = (model.weight - before).norm()
    return moved.item()


def harm(run):
    """Does the loop report that the weight moved? (1 yes, 0 no)"""
    return float(run(**setup()) > 0)


if __name__ == "__main__":
    bug(**setup())
