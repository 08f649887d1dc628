"""The loop sets the rate of group 0, and group 1 keeps its old one."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters()}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    batches = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(4)]
    return dict(model=model, optimizer=optimizer, batches=batches)


def bug(model, optimizer, batches):
    for step, (feature, label) in enumerate(batches):
        optimizer.param_groups[0]["lr"] = 0.1 * 0.5**step
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()


def cure(model, optimizer, batches):
    for step, (feature, label) in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * 0.5**step
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()


def harm(run):
    """Rate of the second group at the end."""
    things = setup()
    run(**things)
    return things["optimizer"].param_groups[1]["lr"]


if __name__ == "__main__":
    bug(**setup())
