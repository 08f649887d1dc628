"""The weight is replaced by the lengths of its rows (`original0`) and a tensor that gives their
directions (`original1`), and the optimizer still holds the old one."""

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    batches = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(3)]
    return dict(model=model, batches=batches)


def bug(model, batches):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    weight_norm(model[0])
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()


def cure(model, batches):
    weight_norm(model[0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()


def harm(run):
    """Does training move the first layer's weight? (1 yes, 0 no)"""
    things = setup()
    before = things["model"][0].weight.detach().clone()
    run(**things)
    return float(not torch.allclose(before, things["model"][0].weight, atol=1e-5))


if __name__ == "__main__":
    bug(**setup())
