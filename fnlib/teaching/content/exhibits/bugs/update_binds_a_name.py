"""The subtraction makes a new tensor, and the assignment binds the loop's own name to it; the model keeps the old one."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    batches = [(torch.randn(32, 8), torch.randn(32, 1)) for _ in range(4)]
    return dict(model=model, batches=batches)


def bug(model, batches, lr=0.1):
    for feature, target in batches:
        model.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        with torch.no_grad():
            for weight in model.parameters():
                weight = weight - lr * weight.grad


def cure(model, batches, lr=0.1):
    for feature, target in batches:
        model.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        with torch.no_grad():
            for weight in model.parameters():
                weight -= lr * weight.grad


def harm(run):
    """How many of the 2 weights did training move?"""
    things = setup()
    before = [weight.detach().clone() for weight in things["model"].parameters()]
    run(**things)
    return sum(not torch.equal(old, new) for old, new in zip(before, things["model"].parameters()))


if __name__ == "__main__":
    bug(**setup())
