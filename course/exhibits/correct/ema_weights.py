"""An exponential moving average of the weights, by hand and with torch's own class."""

import copy

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


@torch.no_grad()
def update(average, model, decay=0.9):
    for slow, fast in zip(average.parameters(), model.parameters()):
        slow.mul_(decay).add_(fast, alpha=1 - decay)
    for slow, fast in zip(average.buffers(), model.buffers()):
        slow.copy_(fast)


def main():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    by_hand = copy.deepcopy(model).eval().requires_grad_(False)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(6):
        feature, label = torch.randn(32, 8), torch.randint(0, 3, (32,))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()
        update(by_hand, model)
        averaged.update_parameters(model)
    averaged.eval()
    with torch.no_grad():
        gap = (by_hand(feature) - averaged(feature)).abs().max()
    print(f"loss {loss.item():.3f}, gap {gap.item():.3f}")


if __name__ == "__main__":
    main()
