"""`requires_grad_(False)` freezes its weights, but its running statistics change in every forward pass in training mode."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU())
    head = nn.Linear(16, 3)
    batches = [(torch.randn(32, 8) + 1, torch.randint(0, 3, (32,))) for _ in range(3)]
    return dict(backbone=backbone, head=head, batches=batches)


def bug(backbone, head, batches):
    model = nn.Sequential(backbone, head)
    backbone.requires_grad_(False)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    model.train()
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()


def cure(backbone, head, batches):
    model = nn.Sequential(backbone, head)
    backbone.requires_grad_(False)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    model.train()
    backbone.eval()                                 # after model.train(), which would undo it
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()


def harm(run):
    """How many of the frozen backbone's 7 tensors stayed as they were?"""
    things = setup()
    before = {name: value.clone() for name, value in things["backbone"].state_dict().items()}
    run(**things)
    after = things["backbone"].state_dict()
    return sum(torch.equal(before[name], after[name]) for name in before)


if __name__ == "__main__":
    bug(**setup())
