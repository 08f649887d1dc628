"""The state dict has `state` and `param_groups` only, so it loses the averages, and a resumed run starts with zeros."""

import copy

import torch
from torch import nn


class Momentum(torch.optim.Optimizer):
    def __init__(self, params, lr=0.01):
        super().__init__(params, dict(lr=lr))
        self.averages = {}

    def average_of(self, weight):
        return self.averages.setdefault(weight, torch.zeros_like(weight))

    @torch.no_grad()
    def step(self):
        for weight in self.param_groups[0]["params"]:
            average = self.average_of(weight).mul_(0.9).add_(weight.grad)
            weight.sub_(average, alpha=self.param_groups[0]["lr"])


class CuredMomentum(Momentum):
    def average_of(self, weight):
        return self.state[weight].setdefault("average", torch.zeros_like(weight))


def setup():
    torch.manual_seed(0)
    batches = [(torch.randn(32, 8), torch.randn(32, 1)) for _ in range(5)]
    return dict(model=nn.Linear(8, 1), batches=batches)


def train(model, optimizer, batches):
    for feature, target in batches:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()
    return model


def bug(model, batches):
    optimizer = Momentum(model.parameters())
    train(model, optimizer, batches)
    checkpoint = copy.deepcopy([model.state_dict(), optimizer.state_dict()])
    resumed = nn.Linear(8, 1)
    optimizer = Momentum(resumed.parameters())
    resumed.load_state_dict(checkpoint[0])
    optimizer.load_state_dict(checkpoint[1])
    return train(resumed, optimizer, batches)


def cure(model, batches):
    optimizer = CuredMomentum(model.parameters())
    train(model, optimizer, batches)
    checkpoint = copy.deepcopy([model.state_dict(), optimizer.state_dict()])
    resumed = nn.Linear(8, 1)
    optimizer = CuredMomentum(resumed.parameters())
    resumed.load_state_dict(checkpoint[0])
    optimizer.load_state_dict(checkpoint[1])
    return train(resumed, optimizer, batches)


def harm(run):
    """How many of the 2 weights are bit for bit those of an uninterrupted run?"""
    things = setup()
    whole = copy.deepcopy(things["model"])
    train(whole, Momentum(whole.parameters()), 2 * things["batches"])
    resumed = run(**things)
    return sum(map(torch.equal, whole.parameters(), resumed.parameters()))


if __name__ == "__main__":
    bug(**setup())
