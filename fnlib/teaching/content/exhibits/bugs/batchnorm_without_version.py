"""BatchNorm's statistics change between a forward pass and its `backward`, and autograd's check doesn't notice."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))
    clean, noisy = torch.randn(32, 8), torch.randn(32, 8) * 5 + 3
    return dict(model=model, clean=clean, noisy=noisy)


def bug(model, clean, noisy):
    model.eval()
    loss = model(clean).pow(2).mean()               # uses the running statistics
    model.train()
    consistency = model(noisy)                      # moves them
    loss.backward()                                 # reads the moved ones
    return consistency


def cure(model, clean, noisy):
    model.eval()
    loss = model(clean).pow(2).mean()
    loss.backward()
    model.train()
    consistency = model(noisy)
    return consistency


def harm(run):
    """Is the gradient the gradient of the loss? (1 yes, 0 no)"""
    things = setup()
    model = things["model"].eval()
    right = torch.autograd.grad(model(things["clean"]).pow(2).mean(), model[0].weight)[0]
    run(**things)
    return float(torch.allclose(model[0].weight.grad, right, rtol=1e-4))


if __name__ == "__main__":
    bug(**setup())
