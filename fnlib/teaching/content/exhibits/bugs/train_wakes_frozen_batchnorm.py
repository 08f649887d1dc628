"""It's put into evaluation mode once, and `train()` at the start of each epoch puts every layer into training mode."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model[3].parameters(), lr=0.1)
    batches = [(torch.randn(32, 8) + 1, torch.randint(0, 3, (32,))) for _ in range(2)]
    return dict(model=model, optimizer=optimizer, batches=batches)


def bug(model, optimizer, batches, epochs=2):
    model[:3].requires_grad_(False)
    model[1].eval()
    for epoch in range(epochs):
        model.train()
        for feature, label in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(feature), label)
            loss.backward()
            optimizer.step()


def cure(model, optimizer, batches, epochs=2):
    model[:3].requires_grad_(False)
    for epoch in range(epochs):
        model.train()
        model[1].eval()
        for feature, label in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(feature), label)
            loss.backward()
            optimizer.step()


def harm(run):
    """How many batches moved the frozen statistics?"""
    things = setup()
    run(**things)
    return things["model"][1].num_batches_tracked.item()


if __name__ == "__main__":
    bug(**setup())
