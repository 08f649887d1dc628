"""A module's plain attribute isn't in its state dict, so the first forward pass initialises again and overwrites what was
loaded."""

import torch
from torch import nn


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.ready = False
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, x):
        if not self.ready:
            self.scale.data = 1 / x.std(0)
            self.ready = True
        return x * self.scale


class CuredScale(Scale):
    def __init__(self):
        super().__init__()
        del self.ready
        self.register_buffer("ready", torch.tensor(False))

    def forward(self, x):
        if not self.ready:
            self.scale.data = 1 / x.std(0)
            self.ready.fill_(True)
        return x * self.scale


def setup():
    torch.manual_seed(0)
    return dict(saved={"scale": torch.full((8,), 2.0)}, feature=torch.randn(64, 8))


def bug(saved, feature):
    model = Scale()
    model.load_state_dict(saved)
    for _ in range(3):
        model(feature).square().mean()
    return model


def cure(saved, feature):
    model = CuredScale()
    model.load_state_dict({**saved, "ready": torch.tensor(True)})   # as a CuredScale saves it
    for _ in range(3):
        model(feature).square().mean()
    return model


def harm(run):
    """How many of the 8 loaded scales are overwritten?"""
    return int((run(**setup()).scale != 2).sum())


if __name__ == "__main__":
    bug(**setup())
