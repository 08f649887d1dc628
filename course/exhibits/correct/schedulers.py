"""Schedulers in the right order: per batch, per epoch, on a plateau."""

import torch
from torch import nn
from torch.optim import lr_scheduler


def main():
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    batches = [(torch.randn(16, 8), torch.randn(16, 1)) for _ in range(3)]
    one_cycle = lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, epochs=2, steps_per_epoch=len(batches))
    for epoch in range(2):
        for feature, target in batches:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(feature), target)
            loss.backward()
            optimizer.step()
            one_cycle.step()

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    warm_up = lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=2)
    cosine = lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
    sequence = lr_scheduler.SequentialLR(optimizer, [warm_up, cosine], milestones=[2])
    for epoch in range(4):
        for feature, target in batches:
            optimizer.zero_grad()
            nn.functional.mse_loss(model(feature), target).backward()
            optimizer.step()
        sequence.step()

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    plateau = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    for epoch in range(3):
        for feature, target in batches:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(feature), target)
            loss.backward()
            optimizer.step()
        plateau.step(loss.item())
    print(f"loss {loss.item():.3f}, rate {optimizer.param_groups[0]['lr']:.3f}")


if __name__ == "__main__":
    main()
