"""In evaluation mode a forward pass uses BatchNorm's running statistics, and its `backward` reads them again.
Autograd's check doesn't notice that another forward pass has changed them in between."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))
    clean, noisy = torch.randn(32, 8), torch.randn(32, 8) * 5 + 3
    return dict(model=model, clean=clean, noisy=noisy)


def bug(model, clean, noisy):
    model.eval()
    loss = model(clean).pow(2).mean()
    model.train()
    consistency = model(noisy)
    loss.backward()
    return consistency


def cure(model, clean, noisy):
    model.eval()
    loss = model(clean).pow(2).mean()
    loss.backward()
    model.train()
    consistency = model(noisy)
    return consistency


def harm(run):
    """Is the gradient correct? (1 yes, 0 no)"""
    things = setup()
    model = things["model"].eval()
    right = torch.autograd.grad(model(things["clean"]).pow(2).mean(), model[0].weight)[0]
    run(**things)
    return float(torch.allclose(model[0].weight.grad, right, rtol=1e-4))


if __name__ == "__main__":
    bug(**setup())
