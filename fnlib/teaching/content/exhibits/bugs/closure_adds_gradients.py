"""LBFGS evaluates the closure several times a step, so the gradients of all these evaluations add up."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    data = torch.randn(32, 8), torch.randn(32, 1)
    return dict(model=model, data=data)


def bug(model, data, epochs=3, lr=0.1, **settings):
    optimizer = torch.optim.LBFGS(model.parameters(), lr=lr, max_iter=4, **settings)

    def closure():
        loss = nn.functional.mse_loss(model(data[0]), data[1])
        loss.backward()
        return loss

    for epoch in range(epochs):
        optimizer.zero_grad()
        optimizer.step(closure)


def cure(model, data, epochs=3, lr=0.1, **settings):
    optimizer = torch.optim.LBFGS(model.parameters(), lr=lr, max_iter=4, **settings)

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(data[0]), data[1])
        loss.backward()
        return loss

    for epoch in range(epochs):
        optimizer.step(closure)


def harm(run):
    """Length of the gradient left by four evaluations, as a multiple of one evaluation's (with lr=1e-6, so the weights hardly move)."""
    things = setup()
    model, (feature, target) = things["model"], things["data"]
    run(**things, epochs=1, lr=1e-6, tolerance_change=0)    # the weights stay
    loss = nn.functional.mse_loss(model(feature), target)
    right = torch.autograd.grad(loss, model.weight)[0]
    return (model.weight.grad.norm() / right.norm()).item()


if __name__ == "__main__":
    bug(**setup())
