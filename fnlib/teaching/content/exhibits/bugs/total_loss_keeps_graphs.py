"""The total keeps the graph of every batch, for as long as you keep it or a mean computed from it."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(5)]
    return dict(model=model, optimizer=optimizer, batches=batches)


def bug(model, optimizer, batches):
    total_loss = 0
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()
        total_loss += loss
    return total_loss / len(batches)


def cure(model, optimizer, batches):
    total_loss = 0
    for feature, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(feature), label)
        loss.backward()
        optimizer.step()
        total_loss += loss.item()
    return total_loss / len(batches)


def harm(run):
    """For how many of the 5 batches does the mean loss still keep a graph?"""
    mean = run(**setup())
    found, queue = set(), [getattr(mean, "grad_fn", None)]
    while queue:
        node = queue.pop()
        if node is not None and node not in found:
            found.add(node)
            queue += [parent for parent, _ in node.next_functions]
    return sum(node.name().startswith("NllLoss") for node in found)


if __name__ == "__main__":
    bug(**setup())
