"""The load puts new tensors into the model, and the optimizer still holds the old ones."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    pretrained = {name: torch.randn_like(weight) for name, weight in model.state_dict().items()}
    batches = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(3)]
    return dict(model=model, pretrained=pretrained, batches=batches)


def bug(model, pretrained, batches):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.load_state_dict(pretrained, assign=True)
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()


def cure(model, pretrained, batches):
    model.load_state_dict(pretrained, assign=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()


def harm(run):
    """How many of the 4 weights did training move?"""
    things = setup()
    before = {name: weight.clone() for name, weight in things["pretrained"].items()}
    run(**things)
    return sum(not torch.equal(before[name], weight) for name, weight in things["model"].named_parameters())


if __name__ == "__main__":
    bug(**setup())
