"""The embedding and the decoder share a weight. If you copy the two one by one, each gets its own."""

import copy

import torch
from torch import nn


class Tied(nn.Module):
    def __init__(self, embed, decode):
        super().__init__()
        self.embed, self.decode = embed, decode

    def forward(self, tokens):
        return self.decode(torch.tanh(self.embed(tokens)))


def setup():
    torch.manual_seed(0)
    embed, decode = nn.Embedding(10, 8), nn.Linear(8, 10, bias=False)
    decode.weight = embed.weight
    batches = [(torch.randint(0, 10, (16,)), torch.randint(0, 10, (16,))) for _ in range(3)]
    return dict(teacher=Tied(embed, decode), batches=batches)


def bug(teacher, batches):
    student = Tied(copy.deepcopy(teacher.embed), copy.deepcopy(teacher.decode))
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for tokens, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(student(tokens), label)
        loss.backward()
        optimizer.step()
    return student


def cure(teacher, batches):
    student = copy.deepcopy(teacher)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for tokens, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(student(tokens), label)
        loss.backward()
        optimizer.step()
    return student


def harm(run):
    """Number of weights that the student trains (the teacher has 1)."""
    return len(list(run(**setup()).parameters()))


if __name__ == "__main__":
    bug(**setup())
