"""Validation rebinds the training batch's names. The next step trains on the validation batch, and the training batch is lost."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    train = zip(torch.randn(9, 16, 8), torch.randn(9, 16, 1))
    valid = zip(torch.ones(9, 16, 8), torch.randn(9, 16, 1))
    return dict(model=model, optimizer=optimizer, train=train, valid=valid)


def bug(model, optimizer, train, valid, steps=8):
    feature, target = next(train)
    for step in range(steps):
        if step % 2 == 0:
            with torch.no_grad():
                feature, target = next(valid)
                nn.functional.mse_loss(model(feature), target)
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()
        feature, target = next(train)


def cure(model, optimizer, train, valid, steps=8):
    feature, target = next(train)
    for step in range(steps):
        if step % 2 == 0:
            with torch.no_grad():
                valid_feature, valid_target = next(valid)
                nn.functional.mse_loss(model(valid_feature), valid_target)
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()
        feature, target = next(train)


def harm(run):
    """How many of the 8 steps train on a validation batch instead of a training batch?"""
    things, used = setup(), []

    def watch(model, arguments):
        used.append(torch.is_grad_enabled() and bool((arguments[0] == 1).all()))

    things["model"].register_forward_pre_hook(watch)
    run(**things)
    return sum(used)


if __name__ == "__main__":
    bug(**setup())
