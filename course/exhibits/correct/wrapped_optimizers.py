"""Optimizers around an optimizer: Lookahead's slow weights, and sharpness-aware minimization in two steps."""

import torch
from torch import nn
from torch.optim import Optimizer


class Lookahead(Optimizer):
    def __init__(self, optimizer, k=3, alpha=0.5):
        super().__init__(optimizer.param_groups, {})
        self.optimizer, self.k, self.alpha, self.steps = optimizer, k, alpha, 0
        self.param_groups = optimizer.param_groups

    @torch.no_grad()
    def step(self):
        self.optimizer.step()
        self.steps += 1
        for group in self.param_groups if self.steps % self.k == 0 else ():
            for fast in group["params"]:
                slow = self.state[fast].setdefault("slow", fast.clone())
                slow.lerp_(fast, self.alpha)
                fast.copy_(slow)


class SAM(Optimizer):
    def __init__(self, params, base_optimizer, rho=0.05, **settings):
        super().__init__(params, dict(rho=rho, **settings))
        self.base_optimizer = base_optimizer(self.param_groups, **settings)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self):
        norm = torch.stack([p.grad.norm() for group in self.param_groups for p in group["params"]]).norm()
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["old"] = p.data.clone()
                p.add_(p.grad * group["rho"] / (norm + 1e-12))
        self.zero_grad()

    @torch.no_grad()
    def second_step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.data = self.state[p]["old"]
        self.base_optimizer.step()
        self.zero_grad()


def network():
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))


def main():
    torch.manual_seed(0)
    model = network()
    optimizer = Lookahead(torch.optim.RAdam(model.parameters(), lr=1e-2))
    for _ in range(7):
        loss = nn.functional.cross_entropy(model(torch.randn(16, 8)), torch.randint(0, 3, (16,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    flat = network()
    sam = SAM(flat.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9)
    for _ in range(4):
        feature, label = torch.randn(16, 8), torch.randint(0, 3, (16,))
        nn.functional.cross_entropy(flat(feature), label).backward()
        sam.first_step()
        nn.functional.cross_entropy(flat(feature), label).backward()
        sam.second_step()
    print(f"loss {loss.item():.3f}, {sum(weight.norm().item() for weight in flat.parameters()):.3f}")


if __name__ == "__main__":
    main()
