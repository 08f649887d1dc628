"""The same loop with `fused=True` raises no error, and the generator gets a wrong gradient."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    discriminator = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=1e-3, fused=True)
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=1e-1, fused=True)
    batches = [(torch.randn(32, 2) + 2, torch.randn(32, 4))]
    return dict(generator=generator, discriminator=discriminator,
                optimizer_g=optimizer_g, optimizer_d=optimizer_d, batches=batches)


def bug(generator, discriminator, optimizer_g, optimizer_d, batches):
    for real, noise in batches:
        score_real, score_fake = discriminator(real), discriminator(generator(noise))
        loss_d = score_fake.mean() - score_real.mean()
        loss_g = -score_fake.mean()

        optimizer_d.zero_grad()
        loss_d.backward(retain_graph=True)
        optimizer_d.step()

        optimizer_g.zero_grad()
        loss_g.backward()
        optimizer_g.step()


def cure(generator, discriminator, optimizer_g, optimizer_d, batches):
    for real, noise in batches:
        score_real, score_fake = discriminator(real), discriminator(generator(noise))
        loss_d = score_fake.mean() - score_real.mean()
        loss_g = -score_fake.mean()

        optimizer_g.zero_grad()
        loss_g.backward(retain_graph=True)
        optimizer_d.zero_grad()
        loss_d.backward(inputs=list(discriminator.parameters()))
        optimizer_d.step()
        optimizer_g.step()


def harm(run):
    """Is the generator's gradient correct? (1 yes, 0 no)"""
    things = setup()
    (real, noise), = things["batches"]
    generator, discriminator = things["generator"], things["discriminator"]
    right = torch.autograd.grad(-discriminator(generator(noise)).mean(), generator[0].weight)[0]
    run(**things)
    return float(torch.allclose(generator[0].weight.grad, right, rtol=1e-4))


if __name__ == "__main__":
    bug(**setup())
