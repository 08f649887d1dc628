"""Each name gets a parameter of its own, so the two layers no longer share one."""

import torch
from torch import nn


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.decode = nn.Embedding(10, 8), nn.Linear(8, 10, bias=False)
        self.decode.weight = self.embed.weight

    def forward(self, tokens):
        return self.decode(torch.tanh(self.embed(tokens)))


def setup():
    torch.manual_seed(0)
    model = Tied()
    checkpoint = {name: weight.clone() for name, weight in Tied().state_dict().items()}
    batches = [(torch.randint(0, 10, (16,)), torch.randint(0, 10, (16,))) for _ in range(3)]
    return dict(model=model, checkpoint=checkpoint, batches=batches)


def bug(model, checkpoint, batches):
    model.load_state_dict(checkpoint, assign=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for tokens, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(tokens), label)
        loss.backward()
        optimizer.step()


def cure(model, checkpoint, batches):
    model.load_state_dict(checkpoint)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for tokens, label in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(tokens), label)
        loss.backward()
        optimizer.step()


def harm(run):
    """Number of weights that are trained (there was 1)."""
    things = setup()
    run(**things)
    return len(list(things["model"].parameters()))


if __name__ == "__main__":
    bug(**setup())
