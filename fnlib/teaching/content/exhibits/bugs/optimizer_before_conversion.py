"""On the `meta` device, weights have no memory. When the model gets its memory, it gets new tensors, which the optimizer doesn't hold."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    batches = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(3)]
    return dict(batches=batches)


def initialise(model):
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()


def bug(batches):
    with torch.device("meta"):                      # a large model is described first ...
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.to_empty(device="cpu")                    # ... and gets its memory here
    initialise(model)
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()
    return model


def cure(batches):
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    model.to_empty(device="cpu")
    initialise(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()
    return model


def harm(run):
    """How many of the 4 weights did training move?"""
    things = setup()
    torch.manual_seed(1)
    trained = run(**things)
    torch.manual_seed(1)
    fresh = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    return sum(not torch.equal(a, b) for a, b in zip(fresh.parameters(), trained.parameters()))


if __name__ == "__main__":
    bug(**setup())
