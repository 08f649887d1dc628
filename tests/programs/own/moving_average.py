"""Teach a student by a teacher that is the moving average of its weights (mean teacher)."""

import copy

import torch
from torch import nn

if __name__ == "__main__":
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    y = (x[:, 0] > 0).long()
    student = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
    teacher = copy.deepcopy(student).requires_grad_(False)
    teacher.eval()
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
    for epoch in range(4):
        student.train()
        for inputs, targets in zip(x.split(16), y.split(16), strict=True):
            logits = student(inputs)
            with torch.no_grad():
                wanted = teacher(inputs)
            loss = nn.functional.cross_entropy(logits, targets)
            loss = loss + nn.functional.mse_loss(logits, wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                    slow.lerp_(fast, 0.1)
                for slow, fast in zip(teacher.buffers(), student.buffers(), strict=True):
                    slow.copy_(fast)
        print(f"{epoch}: {loss.item():.6f}")
