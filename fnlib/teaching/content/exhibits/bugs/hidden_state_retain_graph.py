"""The first error is gone, but the step has overwritten weights that the old graph needs."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    rnn, head = nn.RNN(4, 8, batch_first=True), nn.Linear(8, 4)
    optimizer = torch.optim.SGD([*rnn.parameters(), *head.parameters()], lr=0.1)
    stream = [(torch.randn(2, 5, 4), torch.randn(2, 5, 4)) for _ in range(3)]
    return dict(rnn=rnn, head=head, optimizer=optimizer, stream=stream)


def bug(rnn, head, optimizer, stream):
    hidden = None
    for feature, target in stream:
        output, hidden = rnn(feature, hidden)
        loss = nn.functional.mse_loss(head(output), target)
        optimizer.zero_grad()
        loss.backward(retain_graph=True)
        optimizer.step()


def cure(rnn, head, optimizer, stream):
    hidden = None
    for feature, target in stream:
        output, hidden = rnn(feature, hidden)
        hidden = hidden.detach()
        loss = nn.functional.mse_loss(head(output), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    bug(**setup())
