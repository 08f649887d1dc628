"""Each step has already used the unclipped gradient, and no later step uses the clipped one."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [(10 * torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(4)]
    return dict(model=model, optimizer=optimizer, batches=batches)


def bug(model, optimizer, batches):
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)


def cure(model, optimizer, batches):
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def harm(run):
    """How many of the 4 steps use a gradient whose norm is more than 1?"""
    things, long = setup(), []
    weights = list(things["model"].parameters())
    things["optimizer"].register_step_pre_hook(
        lambda *_: long.append(nn.utils.get_total_norm([weight.grad for weight in weights]) > 1.001))
    run(**things)
    return float(sum(long))


if __name__ == "__main__":
    bug(**setup())
