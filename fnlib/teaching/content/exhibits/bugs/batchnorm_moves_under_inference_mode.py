"""`inference_mode` stops gradients, not running statistics: in training mode, every validation batch moves them."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(8, 16, bias=False),  # BatchNorm would subtract a bias again
        nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train_data = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(3)]
    test_feature = torch.randn(32, 8) * 4 + 2
    return dict(model=model, optimizer=optimizer, train_data=train_data, test_feature=test_feature)


def bug(model, optimizer, train_data, test_feature):
    for feature, label in train_data:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()
        with torch.inference_mode():
            model(test_feature)


def cure(model, optimizer, train_data, test_feature):
    for feature, label in train_data:
        model.train()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()
        model.eval()
        with torch.inference_mode():
            model(test_feature)


def harm(run):
    """Number of batches in the running statistics (3 were training batches)."""
    things = setup()
    run(**things)
    return things["model"][1].num_batches_tracked.item()


if __name__ == "__main__":
    bug(**setup())
