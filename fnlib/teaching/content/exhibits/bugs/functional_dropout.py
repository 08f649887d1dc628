"""The default is `training=True`, so a mask is drawn in evaluation mode, too."""

import torch
from torch import nn


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 32), nn.Linear(32, 1)

    def forward(self, x):
        x = nn.functional.dropout(self.first(x), 0.5)
        return self.second(x)


class CuredNetwork(Network):
    def forward(self, x):
        x = nn.functional.dropout(self.first(x), 0.5, training=self.training)
        return self.second(x)


def setup():
    torch.manual_seed(0)
    return dict(feature=torch.randn(16, 8))


def bug(feature):
    model = Network()
    model.eval()
    with torch.no_grad():
        once = model(feature)
        again = model(feature)
    return once, again


def cure(feature):
    model = CuredNetwork()
    model.eval()
    with torch.no_grad():
        once = model(feature)
        again = model(feature)
    return once, again


def harm(run):
    """How many of the 16 predictions differ between two evaluations?"""
    once, again = run(**setup())
    return int((once != again).sum())


if __name__ == "__main__":
    bug(**setup())
