"""A siamese network: one embedding, two inputs, a contrastive loss."""

import torch
from torch import nn


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, left, right):
        return self.embed(left), self.embed(right)


def contrastive(left, right, same, margin=1.0):
    distance = nn.functional.pairwise_distance(left, right)
    return (same * distance.pow(2) + (1 - same) * torch.relu(margin - distance).pow(2)).mean()


def main():
    torch.manual_seed(0)
    model = Siamese()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    for epoch in range(2):
        model.train()
        for _ in range(3):
            left, right = torch.randn(16, 8), torch.randn(16, 8)
            same = torch.randint(0, 2, (16,)).float()
            optimizer.zero_grad()
            loss = contrastive(*model(left, right), same)
            loss.backward()
            optimizer.step()
        scheduler.step()
        model.eval()
        with torch.no_grad():
            score = contrastive(*model(left, right), same).item()
        print(f"epoch {epoch}: {loss.item():.4f} {score:.4f}")


if __name__ == "__main__":
    main()
