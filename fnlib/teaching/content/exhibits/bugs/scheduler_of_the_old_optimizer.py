"""`scheduler` sets the rate of the first optimizer, and only the second one steps."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    batches = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(4)]
    return dict(model=model, batches=batches)


def bug(model, batches, epochs=3):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(epochs):
        for feature, label in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(feature), label).backward()
            optimizer.step()
        scheduler.step()
    return optimizer


def cure(model, batches, epochs=3):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    for epoch in range(epochs):
        for feature, label in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(feature), label).backward()
            optimizer.step()
        scheduler.step()
    return optimizer


def harm(run):
    """Rate after three epochs (0.00125 was asked for)."""
    return run(**setup()).param_groups[0]["lr"]


if __name__ == "__main__":
    bug(**setup())
