"""Validation switches to evaluation mode, so dropout is off from the second epoch on."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    train_data = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(2)]
    test_data = torch.randn(32, 8), torch.randint(0, 3, (32,))
    return dict(model=model, optimizer=optimizer, train_data=train_data, test_data=test_data)


def validate(model, test_data):
    feature, label = test_data
    model.eval()
    with torch.no_grad():
        return (model(feature).argmax(1) == label).float().mean().item()


def bug(model, optimizer, train_data, test_data, epochs=3):
    model.train()
    for epoch in range(epochs):
        for feature, label in train_data:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(feature), label)
            loss.backward()
            optimizer.step()
        validate(model, test_data)


def cure(model, optimizer, train_data, test_data, epochs=3):
    for epoch in range(epochs):
        model.train()
        for feature, label in train_data:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(feature), label)
            loss.backward()
            optimizer.step()
        validate(model, test_data)


def harm(run):
    """How many of 6 training batches saw dropout?"""
    things = setup()
    seen = []
    things["model"][2].register_forward_hook(
        lambda layer, inputs, output: seen.append(layer.training) if torch.is_grad_enabled() else None)
    run(**things)
    return sum(seen)


if __name__ == "__main__":
    bug(**setup())
