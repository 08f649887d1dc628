"""Train with Lookahead round Adam (pytorch_optimizer): slow weights that follow the fast ones."""

import torch
from pytorch_optimizer import Lookahead
from torch import nn

if __name__ == "__main__":
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    y = x.sum(dim=1, keepdim=True)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = Lookahead(torch.optim.Adam(model.parameters(), lr=1e-2), k=5, alpha=0.5)
    for epoch in range(4):
        for inputs, targets in zip(x.split(8), y.split(8), strict=True):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(inputs), targets)
            loss.backward()
            optimizer.step()
        print(f"{epoch}: {loss.item():.6f}")
