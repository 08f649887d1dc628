"""Its gradient is there already, and the step uses it."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(3)]
    return dict(model=model, optimizer=optimizer, batches=batches)


def bug(model, optimizer, batches):
    for index, (feature, label) in enumerate(batches):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        if index == 1:
            model[0].requires_grad_(False)          # from this batch on?
        optimizer.step()


def cure(model, optimizer, batches):
    for index, (feature, label) in enumerate(batches):
        if index == 1:
            model[0].requires_grad_(False)          # from this batch on
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()


def harm(run):
    """Steps that moved the layer (1 should have)."""
    things = setup()
    model, optimizer, moved = things["model"], things["optimizer"], []
    before = [None]
    optimizer.register_step_pre_hook(lambda *_: before.__setitem__(0, model[0].weight.detach().clone()))
    optimizer.register_step_post_hook(lambda *_: moved.append(not torch.equal(before[0], model[0].weight)))
    run(**things)
    return sum(moved)


if __name__ == "__main__":
    bug(**setup())
