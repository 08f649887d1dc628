"""An assignment makes no copy, so the best model is always the last one."""

import copy

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = torch.randn(32, 8), torch.randn(32, 1)
    return dict(model=model, optimizer=optimizer, data=data)


def bug(model, optimizer, data, epochs=4):
    feature, target = data
    for epoch in range(epochs):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()
        if epoch == 1:      # say, the best on validation data
            best_model = model
    with torch.no_grad():
        best_model(feature)
    return best_model


def cure(model, optimizer, data, epochs=4):
    feature, target = data
    for epoch in range(epochs):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()
        if epoch == 1:      # say, the best on validation data
            best_model = copy.deepcopy(model)
    with torch.no_grad():
        best_model(feature)
    return best_model


def harm(run):
    """How many of the kept model's 2 weights equal the final ones?"""
    things = setup()
    kept = run(**things)
    pairs = zip(kept.parameters(), things["model"].parameters())
    return sum(torch.equal(one, other) for one, other in pairs)


if __name__ == "__main__":
    bug(**setup())
