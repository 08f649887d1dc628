"""The first average is `weight.grad` itself, so the next `zero_grad(set_to_none=False)` sets it to zero, and `backward` then writes the new
gradient into it. After that, `mul_` scales this one tensor by 0.9 and `add_` adds it to itself, which makes 1.8 gradients."""

import torch
from torch import nn


class Momentum(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, beta=0.9):
        super().__init__(params, dict(lr=lr, beta=beta))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                if "average" not in state:
                    state["average"] = weight.grad
                else:
                    state["average"].mul_(group["beta"]).add_(weight.grad)
                weight.sub_(state["average"], alpha=group["lr"])


class CuredMomentum(Momentum):
    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                if "average" not in state:
                    state["average"] = weight.grad.clone()
                else:
                    state["average"].mul_(group["beta"]).add_(weight.grad)
                weight.sub_(state["average"], alpha=group["lr"])


def setup():
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    batches = [(torch.randn(32, 8), torch.randn(32, 1)) for _ in range(3)]
    return dict(model=model, batches=batches)


def bug(model, batches, lr=0.1):
    optimizer = Momentum(model.parameters(), lr=lr)
    for feature, target in batches:
        optimizer.zero_grad(set_to_none=False)
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()
    return optimizer


def cure(model, batches, lr=0.1):
    optimizer = CuredMomentum(model.parameters(), lr=lr)
    for feature, target in batches:
        optimizer.zero_grad(set_to_none=False)
        loss = nn.functional.mse_loss(model(feature), target)
        loss.backward()
        optimizer.step()
    return optimizer


def harm(run):
    """Length of the third average, as a multiple of the gradient, on one batch with lr=1e-6 (1 + 0.9 + 0.81 is right)."""
    things = setup()
    model, (feature, target) = things["model"], things["batches"][0]
    things["batches"] = [(feature, target)] * 3
    optimizer = run(**things, lr=1e-6)                  # the weights stay, and each batch has the same gradient
    loss = nn.functional.mse_loss(model(feature), target)
    right = torch.autograd.grad(loss, model.weight)[0]
    return (optimizer.state[model.weight]["average"].norm() / right.norm()).item()


if __name__ == "__main__":
    bug(**setup())
