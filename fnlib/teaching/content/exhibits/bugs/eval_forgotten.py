"""Dropout is on during the prediction, so the same input gets a different answer each time."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    train_data = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(3)]
    return dict(model=model, optimizer=optimizer, train_data=train_data,
                test_feature=torch.randn(32, 8))


def bug(model, optimizer, train_data, test_feature):
    for feature, label in train_data:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        first = model(test_feature)
        second = model(test_feature)
    return first, second


def cure(model, optimizer, train_data, test_feature):
    for feature, label in train_data:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        first = model(test_feature)
        second = model(test_feature)
    model.train()
    return first, second


def harm(run):
    """Do two predictions for the same input agree? (1 yes, 0 no)"""
    return float(torch.equal(*run(**setup())))


if __name__ == "__main__":
    bug(**setup())
