"""Each step uses the sum of all gradients so far."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = torch.randn(32, 8), torch.randint(0, 3, (32,))
    return dict(model=model, optimizer=optimizer, batches=[batch] * 3)


def bug(model, optimizer, batches):
    criterion = nn.CrossEntropyLoss()
    for feature, label in batches:
        output = model(feature)
        loss = criterion(output, label)
        loss.backward()
        optimizer.step()


def cure(model, optimizer, batches):
    criterion = nn.CrossEntropyLoss()
    for feature, label in batches:
        optimizer.zero_grad()
        output = model(feature)
        loss = criterion(output, label)
        loss.backward()
        optimizer.step()


def harm(run):
    """Length of the third step's gradient, as a multiple of one batch's gradient."""
    things = setup()
    things["optimizer"].param_groups[0]["lr"] = 1e-6    # the weights stay, and each batch has the same gradient
    run(**things)
    model, (feature, label) = things["model"], things["batches"][0]
    used = model[0].weight.grad
    right = torch.autograd.grad(nn.CrossEntropyLoss()(model(feature), label), model[0].weight)[0]
    return (used.norm() / right.norm()).item()


if __name__ == "__main__":
    bug(**setup())
