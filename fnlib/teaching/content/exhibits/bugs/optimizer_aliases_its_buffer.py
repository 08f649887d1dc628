"""The optimizer scales its update in place, and the update is the momentum buffer itself."""

import torch
from torch import nn


class Momentum(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, beta=0.9, copy=False):
        super().__init__(params, dict(lr=lr, beta=beta, copy=copy))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                average = state.setdefault("average", torch.zeros_like(weight))
                average.mul_(group["beta"]).add_(weight.grad)
                update = average.clone() if group["copy"] else average
                update.mul_(group["lr"])            # without the copy, this scales the average too
                weight.sub_(update)


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
    optimizer = Momentum(model.parameters(), lr=0.1, copy=True)
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
