"""The scheduler counts each batch as an epoch, so soon the rate is too small to change a weight."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.1)
    batches = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(8)]
    return dict(model=model, optimizer=optimizer, scheduler=scheduler, batches=batches)


def bug(model, optimizer, scheduler, batches, epochs=4):
    for epoch in range(epochs):
        for feature, label in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(feature), label)
            loss.backward()
            optimizer.step()
            scheduler.step()


def cure(model, optimizer, scheduler, batches, epochs=4):
    for epoch in range(epochs):
        for feature, label in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(feature), label)
            loss.backward()
            optimizer.step()
        scheduler.step()


def harm(run):
    """How many of the 32 steps move a weight?"""
    things, seen = setup(), []

    def look(*_):
        seen.append([weight.detach().clone() for weight in things["model"].parameters()])

    look()
    things["optimizer"].register_step_post_hook(look)
    run(**things)
    return sum(not all(map(torch.equal, old, new)) for old, new in zip(seen, seen[1:]))


if __name__ == "__main__":
    bug(**setup())
