"""It's meant to keep the best weights, and every later step overwrites it."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    data = torch.randn(64, 8), torch.randn(64, 1)
    return dict(model=model, optimizer=optimizer, data=data)


def bug(model, optimizer, data, epochs=4):
    feature, target = data
    best_loss = float("inf")
    for epoch in range(epochs):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        if loss.item() < best_loss:
            best_loss = loss.item()
            best = model.state_dict()
        loss.backward()
        optimizer.step()
    model.load_state_dict(best)
    return best_loss


def cure(model, optimizer, data, epochs=4):
    from copy import deepcopy
    feature, target = data
    best_loss = float("inf")
    for epoch in range(epochs):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        if loss.item() < best_loss:
            best_loss = loss.item()
            best = deepcopy(model.state_dict())
        loss.backward()
        optimizer.step()
    model.load_state_dict(best)
    return best_loss


def harm(run):
    """Does the restored model give the loss of the best epoch? (1 yes, 0 no)"""
    things = setup()
    best_loss = run(**things)
    feature, target = things["data"]
    return float(nn.functional.mse_loss(things["model"](feature), target).item() == best_loss)


if __name__ == "__main__":
    bug(**setup())
