"""Deliberate gradient accumulation: four small batches to one step."""

import torch
from torch import nn


def main():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    accumulation_steps = 4
    loader = [(torch.randn(8, 8), torch.randint(0, 3, (8,))) for _ in range(12)]
    optimizer.zero_grad()
    for index, (feature, label) in enumerate(loader):
        loss = nn.functional.cross_entropy(model(feature), label) / accumulation_steps
        loss.backward()
        if (index + 1) % accumulation_steps == 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
            optimizer.step()
            optimizer.zero_grad()
    print(f"loss {loss.item() * accumulation_steps:.3f}")


if __name__ == "__main__":
    main()
