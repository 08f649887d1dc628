"""`parameters()` leaves out layers that a model keeps in a plain list, so an optimizer built from it never moves them."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = layers
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.head(x)


def setup():
    torch.manual_seed(0)
    batches = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(4)]
    return dict(batches=batches)


def bug(batches):
    model = Net([nn.Linear(8, 8), nn.Linear(8, 8)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()
    return model


def cure(batches):
    model = Net(nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()
    return model


def harm(run):
    """How many of the 6 weights did training move?"""
    things = setup()
    torch.manual_seed(1)
    start = run(things["batches"][:0])
    torch.manual_seed(1)
    end = run(things["batches"])
    layers = [[*model.layers, model.head] for model in (start, end)]
    pairs = zip(*([weight for layer in some for weight in layer.parameters()] for some in layers))
    return sum(not torch.equal(old, new) for old, new in pairs)


if __name__ == "__main__":
    bug(**setup())
