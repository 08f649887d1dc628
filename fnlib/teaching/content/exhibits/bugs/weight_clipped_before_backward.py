"""`backward` then computes with the clipped weights, so the gradient is wrong."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    optimizer = torch.optim.RMSprop(critic.parameters(), lr=5e-5)
    batches = [(torch.randn(32, 2) + 1, torch.randn(32, 2)) for _ in range(2)]
    return dict(critic=critic, optimizer=optimizer, batches=batches)


def bug(critic, optimizer, batches):
    for real, fake in batches:
        optimizer.zero_grad()
        loss = critic(fake).mean() - critic(real).mean()
        for weight in critic.parameters():
            weight.data.clamp_(-0.1, 0.1)
        loss.backward()
        optimizer.step()


def cure(critic, optimizer, batches):
    for real, fake in batches:
        optimizer.zero_grad()
        loss = critic(fake).mean() - critic(real).mean()
        loss.backward()
        optimizer.step()
        for weight in critic.parameters():
            weight.data.clamp_(-0.1, 0.1)


def harm(run):
    """Is the first gradient correct? (1 yes, 0 no)"""
    things = setup()
    critic, (real, fake) = things["critic"], things["batches"][0]
    right = torch.autograd.grad(critic(fake).mean() - critic(real).mean(), critic[0].weight)[0]
    run(**{**things, "batches": things["batches"][:1]})
    return float(torch.allclose(critic[0].weight.grad, right, rtol=1e-4))


if __name__ == "__main__":
    bug(**setup())
