"""Two optimizers on disjoint weights: Adam for the embedding, SGD for the rest; one backward, two steps."""

import torch
from torch import nn


def main():
    torch.manual_seed(0)
    embedding, body = nn.Embedding(20, 8), nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    adam = torch.optim.Adam(embedding.parameters(), lr=1e-2)
    sgd = torch.optim.SGD(body.parameters(), lr=0.1)
    losses = []
    for step in range(5):
        tokens, label = torch.randint(0, 20, (32,)), torch.randint(0, 2, (32,))
        loss = nn.functional.cross_entropy(body(embedding(tokens)), label)
        loss.backward()
        adam.step()
        sgd.step()
        adam.zero_grad()
        sgd.zero_grad()
        losses.append(loss.detach())
    print(f"loss {torch.stack(losses).mean().item():.3f}")


if __name__ == "__main__":
    main()
