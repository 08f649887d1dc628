"""Averaged weights are loaded for validation, and training continues from them."""

import copy

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = torch.randn(32, 8), torch.randn(32, 1)
    average = torch.optim.swa_utils.AveragedModel(model)
    return dict(model=model, optimizer=optimizer, average=average, data=data)


def bug(model, optimizer, average, data, epochs=3):
    feature, target = data
    for epoch in range(epochs):
        for _ in range(2):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(feature), target)
            loss.backward()
            optimizer.step()
            average.update_parameters(model)
        model.load_state_dict(average.module.state_dict())
        with torch.no_grad():
            nn.functional.mse_loss(model(feature), target)


def cure(model, optimizer, average, data, epochs=3):
    feature, target = data
    for epoch in range(epochs):
        for _ in range(2):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(feature), target)
            loss.backward()
            optimizer.step()
            average.update_parameters(model)
        shown = copy.deepcopy(average.module)
        with torch.no_grad():
            nn.functional.mse_loss(shown(feature), target)


def harm(run):
    """How many of the 2 weights are the average's when the next epoch begins?"""
    things = setup()
    run(**things)
    pairs = zip(things["model"].parameters(), things["average"].module.parameters())
    return sum(torch.equal(one, other) for one, other in pairs)


if __name__ == "__main__":
    bug(**setup())
