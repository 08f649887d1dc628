"""The first layer's gradients are set to zero to keep it as it is. But zeros aren't None, so the step still shrinks the layer."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    batches = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(3)]
    return dict(model=model, optimizer=optimizer, batches=batches)


def bug(model, optimizer, batches):
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        for weight in model[0].parameters():
            weight.grad.zero_()
        optimizer.step()


def cure(model, optimizer, batches):
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        for weight in model[0].parameters():
            weight.grad = None
        optimizer.step()


def harm(run):
    """How many of the first layer's 2 weights stayed as they were?"""
    things = setup()
    before = [weight.clone() for weight in things["model"][0].parameters()]
    run(**things)
    return sum(torch.equal(old, new) for old, new in zip(before, things["model"][0].parameters()))


if __name__ == "__main__":
    bug(**setup())
