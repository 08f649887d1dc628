"""The encoder runs and the optimizer has its weights, but `.data` cuts off its output, so it's never trained."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    encoder, head = nn.Linear(8, 16), nn.Linear(16, 3)
    batches = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(4)]
    return dict(encoder=encoder, head=head, batches=batches)


def bug(encoder, head, batches):
    weights = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    for feature, label in batches:
        code = encoder(feature)
        output = head(torch.relu(code.data))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(output, label)
        loss.backward()
        optimizer.step()


def cure(encoder, head, batches):
    weights = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    for feature, label in batches:
        code = encoder(feature)
        output = head(torch.relu(code))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(output, label)
        loss.backward()
        optimizer.step()


def harm(run):
    """How many of the encoder's 2 weights did training move?"""
    things = setup()
    before = [weight.detach().clone() for weight in things["encoder"].parameters()]
    run(**things)
    after = things["encoder"].parameters()
    return sum(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


if __name__ == "__main__":
    bug(**setup())
