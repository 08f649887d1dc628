"""A home-made optimizer keeps `weight.grad` itself as its first average: the next `zero_grad` wipes it."""

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
                if "average" not in state:
                    state["average"] = weight.grad.clone() if group["copy"] else weight.grad
                else:
                    state["average"].mul_(group["beta"]).add_(weight.grad)
                weight.sub_(state["average"], alpha=group["lr"])


def setup():
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    batches = [(torch.randn(32, 8), torch.randn(32, 1)) for _ in range(3)]
    return dict(model=model, batches=batches)


def bug(model, batches):
    optimizer = Momentum(model.parameters(), lr=1e-6)
    for feature, target in batches:
        optimizer.zero_grad(set_to_none=False)
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()
    return optimizer


def cure(model, batches):
    optimizer = Momentum(model.parameters(), lr=1e-6, copy=True)
    for feature, target in batches:
        optimizer.zero_grad(set_to_none=False)
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()
    return optimizer


def harm(run):
    """Places, of 2, that hold the average and the gradient apart from each other."""
    things = setup()
    model = things["model"]
    optimizer = run(**things)
    return sum(optimizer.state[w]["average"].data_ptr() != w.grad.data_ptr() for w in model.parameters())


if __name__ == "__main__":
    bug(**setup())
