"""Train in mixed precision with a gradient scaler, clipping, and a checkpoint that is loaded again."""

import torch
from torch import nn

if __name__ == "__main__":
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    y = (x[:, 0] > 0).long()
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler("cpu")
    best, kept = float("inf"), {}
    for epoch in range(4):
        model.train()
        for inputs, targets in zip(x.split(16), y.split(16), strict=True):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = nn.functional.cross_entropy(model(inputs), targets)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
        model.eval()
        with torch.no_grad():
            validation = nn.functional.cross_entropy(model(x), y).item()
        if validation < best:
            best, kept = validation, {k: v.clone() for k, v in model.state_dict().items()}
            torch.save({"model": kept, "optimizer": optimizer.state_dict()}, "best.pt")
        print(f"{epoch}: {validation:.6f}")
    model.load_state_dict(torch.load("best.pt")["model"])
    model.eval()
    with torch.no_grad():
        print(f"best: {nn.functional.cross_entropy(model(x), y):.6f}")
