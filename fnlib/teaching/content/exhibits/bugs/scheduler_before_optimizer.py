"""Every rate comes one epoch early, and the first is never used."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.1)
    data = torch.randn(32, 8), torch.randn(32, 1)
    return dict(model=model, optimizer=optimizer, scheduler=scheduler, data=data)


def bug(model, optimizer, scheduler, data, epochs=3):
    feature, target = data
    for epoch in range(epochs):
        scheduler.step()
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()


def cure(model, optimizer, scheduler, data, epochs=3):
    feature, target = data
    for epoch in range(epochs):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()
        scheduler.step()


def harm(run):
    """Rate of the first step (0.1 was asked for)."""
    things = setup()
    rates = []
    optimizer = things["optimizer"]
    optimizer.register_step_pre_hook(lambda *_: rates.append(optimizer.param_groups[0]["lr"]))
    run(**things)
    return rates[0]


if __name__ == "__main__":
    bug(**setup())
