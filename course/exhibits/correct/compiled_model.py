"""A compiled model (the eager backend, which needs no C++ compiler)."""

import torch
from torch import nn


def main():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    model = torch.compile(network, backend="eager")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(4):
        feature, label = torch.randn(32, 8), torch.randint(0, 3, (32,))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()
    print(f"loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
