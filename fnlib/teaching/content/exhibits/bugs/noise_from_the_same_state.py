"""Each round restores the same random state, so every step adds the same noise."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(4)]
    return dict(model=model, optimizer=optimizer, batches=batches)


def bug(model, optimizer, batches):
    state, noises = torch.get_rng_state(), set()
    for feature, label in batches:
        torch.set_rng_state(state)
        noise = torch.randn(32, 8)
        noises.add(noise.sum().item())
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature + noise), label)
        loss.backward()
        optimizer.step()
    return len(noises)


def cure(model, optimizer, batches):
    noises = set()
    for feature, label in batches:
        noise = torch.randn(32, 8)
        noises.add(noise.sum().item())
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature + noise), label)
        loss.backward()
        optimizer.step()
    return len(noises)


def harm(run):
    """How many different noises are there in four steps? (The loop returns this number.)"""
    return run(**setup())


if __name__ == "__main__":
    bug(**setup())
