"""The generator's `backward` needs the discriminator's weights from the forward pass, and the discriminator's step has overwritten them."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    discriminator = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=1e-3)
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=1e-3)
    batches = [(torch.randn(32, 2) + 2, torch.randn(32, 4)) for _ in range(2)]
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
        fake = generator(noise)
        loss_d = discriminator(fake.detach()).mean() - discriminator(real).mean()
        optimizer_d.zero_grad()
        loss_d.backward()
        optimizer_d.step()

        loss_g = -discriminator(fake).mean()
        optimizer_g.zero_grad()
        loss_g.backward()
        optimizer_g.step()


if __name__ == "__main__":
    bug(**setup())
