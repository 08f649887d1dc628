"""`zero_grad(set_to_none=False)` leaves a gradient of zeros, not None, so the optimizer still moves the weight, with the
momentum it has kept."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    batches = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(4)]
    return dict(model=model, optimizer=optimizer, batches=batches)


def bug(model, optimizer, batches):
    for index, (feature, label) in enumerate(batches):
        optimizer.zero_grad(set_to_none=False)
        if index == 2:
            model[0].requires_grad_(False)
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()


def cure(model, optimizer, batches):
    for index, (feature, label) in enumerate(batches):
        optimizer.zero_grad()        # sets .grad to None, so the optimizer skips frozen weights
        if index == 2:
            model[0].requires_grad_(False)
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()


def harm(run):
    """How many steps moved the frozen layer?"""
    things = setup()
    model, optimizer, moved = things["model"], things["optimizer"], []
    before = [None]
    optimizer.register_step_pre_hook(lambda *_: before.__setitem__(0, model[0].weight.detach().clone()))
    optimizer.register_step_post_hook(lambda *_: moved.append(
        not model[0].weight.requires_grad and not torch.equal(before[0], model[0].weight)))
    run(**things)
    return sum(moved)


if __name__ == "__main__":
    bug(**setup())
