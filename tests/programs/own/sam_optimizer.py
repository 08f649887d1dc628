"""Train with sharpness-aware minimisation (pytorch_optimizer): two passes, one update."""

import torch
from pytorch_optimizer import SAM
from torch import nn

if __name__ == "__main__":
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    y = x.sum(dim=1, keepdim=True)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.01, momentum=0.9)
    for epoch in range(4):
        for inputs, targets in zip(x.split(8), y.split(8), strict=True):
            loss = nn.functional.mse_loss(model(inputs), targets)
            loss.backward()
            optimizer.first_step(zero_grad=True)
            nn.functional.mse_loss(model(inputs), targets).backward()
            optimizer.second_step(zero_grad=True)
        print(f"{epoch}: {loss.item():.6f}")
