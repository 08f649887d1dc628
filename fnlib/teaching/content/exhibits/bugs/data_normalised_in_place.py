"""`feature` is a view of the stored data, so each epoch finds data that the last one has already normalised."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    data = 4 * torch.randn(32, 8) + 5, torch.randn(32, 1)
    return dict(model=model, optimizer=optimizer, data=data)


def bug(model, optimizer, data, epochs=3):
    features, targets = data
    for epoch in range(epochs):
        for start in range(0, 32, 16):
            feature = features[start : start + 16]
            feature -= 5
            feature /= 4
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(feature), targets[start : start + 16])
            loss.backward()
            optimizer.step()


def cure(model, optimizer, data, epochs=3):
    features, targets = data
    for epoch in range(epochs):
        for start in range(0, 32, 16):
            feature = features[start : start + 16]
            feature = feature - 5
            feature = feature / 4
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(feature), targets[start : start + 16])
            loss.backward()
            optimizer.step()


def harm(run):
    """Standard deviation of the data after three epochs (3.865 at first)."""
    things = setup()
    run(**things)
    return things["data"][0].std().item()


if __name__ == "__main__":
    bug(**setup())
