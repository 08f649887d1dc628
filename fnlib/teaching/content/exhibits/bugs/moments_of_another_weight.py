"""An optimizer's state dict is matched by position, so moments land on another weight of the same shape."""

import copy

import torch
from torch import nn


def build(names):
    model = nn.ModuleDict({name: nn.Linear(8, 1, bias=False) for name in names})
    return model, torch.optim.Adam(model.parameters(), lr=0.1)


def train(model, optimizer, feature):
    optimizer.zero_grad()
    loss = model["small"](feature).mean() + 1000 * model["large"](feature).mean()
    loss.backward()
    optimizer.step()


def setup():
    torch.manual_seed(0)
    return dict(feature=torch.randn(16, 8))


def bug(feature):
    model, optimizer = build(["small", "large"])
    train(model, optimizer, feature)
    saved = copy.deepcopy([model.state_dict(), optimizer.state_dict()])
    model, optimizer = build(["large", "small"])
    model.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    return model, optimizer


def cure(feature):
    model, optimizer = build(["small", "large"])
    train(model, optimizer, feature)
    saved = copy.deepcopy([model.state_dict(), optimizer.state_dict()])
    model, optimizer = build(["small", "large"])
    model.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    return model, optimizer


def harm(run):
    """How many of the 2 weights have the other one's moments?"""
    model, optimizer = run(**setup())
    moments = {
        name: optimizer.state[layer.weight]["exp_avg"].norm() for name, layer in model.items()
    }
    return 2 * int(moments["small"] > moments["large"])


if __name__ == "__main__":
    bug(**setup())
