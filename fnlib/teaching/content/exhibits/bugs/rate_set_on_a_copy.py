"""`optimizer.state_dict()` makes new `param_groups` at each call, so the new rate never reaches the optimizer."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = torch.randn(32, 8), torch.randn(32, 1)
    return dict(model=model, optimizer=optimizer, data=data)


def bug(model, optimizer, data, epochs=3):
    feature, target = data
    for epoch in range(epochs):
        for group in optimizer.state_dict()["param_groups"]:
            group["lr"] = 0.1 * 0.5 ** epoch
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()


def cure(model, optimizer, data, epochs=3):
    feature, target = data
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * 0.5 ** epoch
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()


def harm(run):
    """Rate of the third step (0.025 was asked for)."""
    things = setup()
    run(**things)
    return things["optimizer"].param_groups[0]["lr"]


if __name__ == "__main__":
    bug(**setup())
