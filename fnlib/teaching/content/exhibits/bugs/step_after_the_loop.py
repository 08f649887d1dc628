"""`optimizer.step()` isn't indented far enough: it uses the gradient of each epoch's last batch, and the others are cleared."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(4)]
    return dict(model=model, optimizer=optimizer, batches=batches)


def bug(model, optimizer, batches, epochs=3):
    for epoch in range(epochs):
        for feature, label in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(feature), label)
            loss.backward()
        optimizer.step()


def cure(model, optimizer, batches, epochs=3):
    for epoch in range(epochs):
        for feature, label in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(feature), label)
            loss.backward()
            optimizer.step()


def harm(run):
    """How many of the 12 batches have a gradient that a step uses?"""
    things, steps = setup(), []
    things["optimizer"].register_step_pre_hook(lambda *_: steps.append(1))
    run(**things)
    return len(steps)


if __name__ == "__main__":
    bug(**setup())
