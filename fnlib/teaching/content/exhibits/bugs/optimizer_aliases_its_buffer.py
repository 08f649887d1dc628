"""The update is the momentum buffer itself, so scaling the update in place scales the buffer too."""

import torch
from torch import nn


class Momentum(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, beta=0.9):
        super().__init__(params, dict(lr=lr, beta=beta))

    def update_of(self, average):
        return average                              # plain momentum

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                average = self.state[weight].setdefault("average", torch.zeros_like(weight))
                average.mul_(group["beta"]).add_(weight.grad)
                update = self.update_of(average)
                weight.sub_(update.mul_(group["lr"]))


class CuredMomentum(Momentum):
    def update_of(self, average):
        return average.clone()


def setup():
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    batches = [(torch.randn(32, 8), torch.randn(32, 1)) for _ in range(3)]
    return dict(model=model, batches=batches)


def bug(model, batches):
    optimizer = Momentum(model.parameters(), lr=0.1)
    for feature, target in batches:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()
    return optimizer


def cure(model, batches):
    optimizer = CuredMomentum(model.parameters(), lr=0.1)
    for feature, target in batches:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()
    return optimizer


def harm(run):
    """Length of the average after one step, as a multiple of the first gradient."""
    things = setup()
    model = things["model"]
    optimizer = run(model, things["batches"][:1])
    return (optimizer.state[model.weight]["average"].norm() / model.weight.grad.norm()).item()


if __name__ == "__main__":
    bug(**setup())
