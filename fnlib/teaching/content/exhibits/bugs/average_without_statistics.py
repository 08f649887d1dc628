"""The averaged weights follow training, and BatchNorm's statistics keep their initial values. (The losses are those of the
trained model. The harm is in the average.)"""

import copy

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16, bias=False), nn.BatchNorm1d(16), nn.Linear(16, 3))
    average = copy.deepcopy(model).eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [(torch.randn(32, 8) + 3, torch.randint(0, 3, (32,))) for _ in range(4)]
    return dict(model=model, average=average, optimizer=optimizer, batches=batches)


def bug(model, average, optimizer, batches):
    for feature, label in batches:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(feature), label).backward()
        optimizer.step()
        with torch.no_grad():
            for mine, theirs in zip(average.parameters(), model.parameters(), strict=True):
                mine.lerp_(theirs, 0.5)
            average(feature)


def cure(model, average, optimizer, batches):
    for feature, label in batches:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(feature), label).backward()
        optimizer.step()
        with torch.no_grad():
            for mine, theirs in zip(average.parameters(), model.parameters(), strict=True):
                mine.lerp_(theirs, 0.5)
            for mine, theirs in zip(average.buffers(), model.buffers(), strict=True):
                mine.copy_(theirs)
            average(feature)


def harm(run):
    """Of the average's running mean and variance, how many equal the model's?"""
    things = setup()
    run(**things)
    mine, theirs = things["average"][1], things["model"][1]
    return float(sum(torch.equal(a, b) for a, b in zip(list(mine.buffers())[:2], list(theirs.buffers())[:2], strict=True)))


if __name__ == "__main__":
    bug(**setup())
