"""The shared encoder is in both, so each batch moves it twice."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    encoder = nn.Linear(8, 16)
    head_a, head_b = nn.Linear(16, 1), nn.Linear(16, 1)
    batches = [(torch.randn(32, 8), torch.randn(32, 1), torch.randn(32, 1)) for _ in range(2)]
    return dict(encoder=encoder, head_a=head_a, head_b=head_b, batches=batches)


def bug(encoder, head_a, head_b, batches):
    optimizer_a = torch.optim.SGD([*encoder.parameters(), *head_a.parameters()], lr=0.1)
    optimizer_b = torch.optim.SGD([*encoder.parameters(), *head_b.parameters()], lr=0.1)
    for feature, target_a, target_b in batches:
        hidden = torch.relu(encoder(feature))
        loss = (head_a(hidden) - target_a).pow(2).mean() + (head_b(hidden) - target_b).pow(2).mean()
        optimizer_a.zero_grad()
        optimizer_b.zero_grad()
        loss.backward()
        optimizer_a.step()
        optimizer_b.step()


def cure(encoder, head_a, head_b, batches):
    optimizer_a = torch.optim.SGD(head_a.parameters(), lr=0.1)
    optimizer_b = torch.optim.SGD([*encoder.parameters(), *head_b.parameters()], lr=0.1)
    for feature, target_a, target_b in batches:
        hidden = torch.relu(encoder(feature))
        loss = (head_a(hidden) - target_a).pow(2).mean() + (head_b(hidden) - target_b).pow(2).mean()
        optimizer_a.zero_grad()
        optimizer_b.zero_grad()
        loss.backward()
        optimizer_a.step()
        optimizer_b.step()


def harm(run):
    """Length of the encoder's first step, as a multiple of lr times gradient."""
    things = setup()
    encoder, batches = things["encoder"], things["batches"][:1]
    before = encoder.weight.detach().clone()
    run(**{**things, "batches": batches})
    return ((before - encoder.weight).norm() / (0.1 * encoder.weight.grad).norm()).item()


if __name__ == "__main__":
    bug(**setup())
