"""`load_state_dict` skips names that the model doesn't have, so nothing is loaded."""

import torch
from torch import nn


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(8, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(torch.relu(self.encoder(x)))


def setup():
    torch.manual_seed(0)
    pretrained = nn.Linear(8, 8)
    feature = torch.randn(16, 8)
    return dict(model=Classifier(), pretrained=pretrained, feature=feature)


def bug(model, pretrained, feature):
    saved = pretrained.state_dict()
    model.load_state_dict(saved, strict=False)
    return model(feature)


def cure(model, pretrained, feature):
    saved = {f"encoder.{name}": value for name, value in pretrained.state_dict().items()}
    model.load_state_dict(saved, strict=False)
    return model(feature)


def harm(run):
    """How many of the encoder's 2 weights were loaded?"""
    things = setup()
    run(**things)
    pairs = zip(things["model"].encoder.parameters(), things["pretrained"].parameters())
    return sum(torch.equal(one, other) for one, other in pairs)


if __name__ == "__main__":
    bug(**setup())
