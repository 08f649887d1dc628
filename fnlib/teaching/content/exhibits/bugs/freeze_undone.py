"""A layer is frozen, and the next line makes the whole model trainable again. (The cured loop trains one layer instead of
two, so its loss ends higher.)"""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = torch.randn(32, 8), torch.randn(32, 1)
    return dict(model=model, optimizer=optimizer, data=data)


def bug(model, optimizer, data, epochs=3):
    feature, target = data
    model[0].requires_grad_(False)
    model.requires_grad_(True)
    for epoch in range(epochs):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()


def cure(model, optimizer, data, epochs=3):
    feature, target = data
    model.requires_grad_(True)
    model[0].requires_grad_(False)
    for epoch in range(epochs):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()


def harm(run):
    """How many of the 2 weights that should be frozen move?"""
    things = setup()
    before = [weight.detach().clone() for weight in things["model"][0].parameters()]
    run(**things)
    after = things["model"][0].parameters()
    return sum(not torch.equal(old, new) for old, new in zip(before, after))


if __name__ == "__main__":
    bug(**setup())
