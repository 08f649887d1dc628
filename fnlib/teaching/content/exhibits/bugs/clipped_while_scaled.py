"""The scaled gradient's norm is 1024 times too large when it's clipped, so the steps are far too small. (There's no
`autocast` here, so all numbers are float32. The losses shown are the scaled ones.)"""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    batches = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(4)]
    return dict(model=model, optimizer=optimizer, scaler=scaler, batches=batches)


def bug(model, optimizer, scaler, batches):
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        scaler.scale(loss).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()


def cure(model, optimizer, scaler, batches):
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()


def harm(run):
    """How many of the 4 steps use a gradient whose norm is less than 0.001?"""
    things, short = setup(), []
    weights = list(things["model"].parameters())
    things["optimizer"].register_step_pre_hook(
        lambda *_: short.append(nn.utils.get_total_norm([weight.grad for weight in weights]) < 0.001))
    run(**things)
    return float(sum(short))


if __name__ == "__main__":
    bug(**setup())
