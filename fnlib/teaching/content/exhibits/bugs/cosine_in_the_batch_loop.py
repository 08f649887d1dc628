"""The scheduler counts each batch as an epoch, so a cosine of four epochs falls and rises again and again."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
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
    """How many of the 32 steps have a larger rate than the step before?"""
    things, rates = setup(), []
    optimizer = things["optimizer"]
    optimizer.register_step_pre_hook(lambda *_: rates.append(optimizer.param_groups[0]["lr"]))
    run(**things)
    return sum(new > old for old, new in zip(rates, rates[1:]))


if __name__ == "__main__":
    bug(**setup())
