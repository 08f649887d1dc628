"""The state dict contains the old rate, which replaces the one that the optimizer was built with."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    checkpoint = torch.optim.Adam(nn.Linear(8, 1).parameters(), lr=0.1).state_dict()
    data = torch.randn(32, 8), torch.randn(32, 1)
    return dict(model=model, checkpoint=checkpoint, data=data)


def bug(model, checkpoint, data, epochs=3):
    feature, target = data
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)      # smaller steps from here on
    optimizer.load_state_dict(checkpoint)
    for epoch in range(epochs):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()
    return optimizer


def cure(model, checkpoint, data, epochs=3):
    feature, target = data
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    optimizer.load_state_dict(checkpoint)
    for group in optimizer.param_groups:
        group["lr"] = 0.001                                         # smaller steps from here on
    for epoch in range(epochs):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()
    return optimizer


def harm(run):
    """The rate that is used (0.001 was asked for)."""
    return run(**setup()).param_groups[0]["lr"]


if __name__ == "__main__":
    bug(**setup())
