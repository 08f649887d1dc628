"""The optimizer is restored first. A scheduler that is built afterwards sets the rate of its first step, the warm-up's smallest."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    earlier = torch.optim.SGD(nn.Linear(8, 1).parameters(), lr=0.1)
    warm_up = torch.optim.lr_scheduler.LinearLR(earlier, start_factor=0.01, total_iters=4)
    for _ in range(4):
        earlier.step()
        warm_up.step()
    checkpoint = dict(optimizer=earlier.state_dict(), scheduler=warm_up.state_dict())
    data = torch.randn(32, 8), torch.randn(32, 1)
    return dict(model=model, checkpoint=checkpoint, data=data)


def train(model, optimizer, scheduler, data, epochs):
    feature, target = data
    for epoch in range(epochs):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()
        scheduler.step()


def bug(model, checkpoint, data, epochs=3):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.load_state_dict(checkpoint["optimizer"])      # the warm-up is over: 0.1
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=4)
    scheduler.load_state_dict(checkpoint["scheduler"])
    train(model, optimizer, scheduler, data, epochs)
    return optimizer


def cure(model, checkpoint, data, epochs=3):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=4)
    scheduler.load_state_dict(checkpoint["scheduler"])
    optimizer.load_state_dict(checkpoint["optimizer"])      # last: the warm-up is over, 0.1
    train(model, optimizer, scheduler, data, epochs)
    return optimizer


def harm(run):
    """The rate that is used after resuming (0.1 was restored)."""
    return run(**setup()).param_groups[0]["lr"]


if __name__ == "__main__":
    bug(**setup())
