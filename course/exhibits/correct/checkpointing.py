"""Checkpoints in a file, the best one kept, training resumed from it; a copy of the best weights in memory."""

import copy
import os
import tempfile

import torch
from torch import nn


def main():
    torch.manual_seed(0)
    path = os.path.join(tempfile.mkdtemp(), "checkpoint.pt")
    data, target = torch.randn(64, 8), torch.randn(64, 1)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    best, best_loss = None, float("inf")
    for epoch in range(4):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(data), target)
        loss.backward()
        optimizer.step()
        scheduler.step()
        if loss.item() < best_loss:
            best_loss, best = loss.item(), copy.deepcopy(model.state_dict())
            torch.save({"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict(),
                        "scheduler": scheduler.state_dict()}, path)
    model.load_state_dict(best)

    resumed = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(resumed.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    checkpoint = torch.load(path)
    resumed.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    scheduler.load_state_dict(checkpoint["scheduler"])
    for epoch in range(checkpoint["epoch"] + 1, 6):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(resumed(data), target)
        loss.backward()
        optimizer.step()
        scheduler.step()
    print(f"loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
