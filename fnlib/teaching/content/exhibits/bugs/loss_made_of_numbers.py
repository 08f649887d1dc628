"""`.item()` returns a Python number, so no weight is in the loss's graph, and none gets a gradient."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    data = torch.randn(32, 8), torch.randn(32)
    return dict(model=model, optimizer=optimizer, data=data)


def bug(model, optimizer, data, epochs=5):
    states, gains = data
    for epoch in range(epochs):
        loss = torch.zeros(1, requires_grad=True)
        for state, gain in zip(states.split(8), gains.split(8), strict=True):
            log_probs = model(state).log_softmax(1)
            loss = loss - (log_probs[:, 0] * gain).sum().item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def cure(model, optimizer, data, epochs=5):
    states, gains = data
    for epoch in range(epochs):
        loss = torch.zeros(1)
        for state, gain in zip(states.split(8), gains.split(8), strict=True):
            log_probs = model(state).log_softmax(1)
            loss = loss - (log_probs[:, 0] * gain).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def harm(run):
    """How many of the 4 weights did training move?"""
    things = setup()
    before = [weight.detach().clone() for weight in things["model"].parameters()]
    run(**things)
    after = things["model"].parameters()
    return sum(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


if __name__ == "__main__":
    bug(**setup())
