"""Each batch takes a step, with the gradients of all batches since the epoch began."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    batch = torch.randn(16, 8), torch.randn(16, 1)
    return dict(model=model, optimizer=optimizer, loader=[batch] * 4)


def bug(model, optimizer, loader, epochs=2):
    for epoch in range(epochs):
        optimizer.zero_grad()
        for feature, target in loader:
            loss = nn.functional.mse_loss(model(feature), target)
            loss.backward()
            optimizer.step()


def cure(model, optimizer, loader, epochs=2):
    for epoch in range(epochs):
        for feature, target in loader:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(feature), target)
            loss.backward()
            optimizer.step()


def harm(run):
    """Length of the last step's gradient, as a multiple of one batch's gradient (measured with lr=1e-6: the weights hardly move)."""
    things = setup()
    things["optimizer"].param_groups[0]["lr"] = 1e-6    # the weights stay, and each batch has the same gradient
    run(**things)
    model, (feature, target) = things["model"], things["loader"][0]
    loss = nn.functional.mse_loss(model(feature), target)
    right = torch.autograd.grad(loss, model[0].weight)[0]
    return (model[0].weight.grad.norm() / right.norm()).item()


if __name__ == "__main__":
    bug(**setup())
