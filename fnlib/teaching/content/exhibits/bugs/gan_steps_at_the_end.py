"""The generator's `backward` also adds to the discriminator's gradients, and the discriminator steps after it."""

import torch
from torch import nn


def setup():
    torch.manual_seed(1)
    generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    discriminator = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    optimizer_g = torch.optim.SGD(generator.parameters(), lr=0.05)
    optimizer_d = torch.optim.SGD(discriminator.parameters(), lr=0.05)
    batches = [(torch.randn(32, 2) + 2, torch.randn(32, 4)) for _ in range(3)]
    return dict(generator=generator, discriminator=discriminator,
                optimizer_g=optimizer_g, optimizer_d=optimizer_d, batches=batches)


def bug(generator, discriminator, optimizer_g, optimizer_d, batches):
    bce = nn.BCEWithLogitsLoss()
    for real, noise in batches:
        ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)
        optimizer_d.zero_grad()
        optimizer_g.zero_grad()
        fake = generator(noise)
        loss_d = bce(discriminator(real), ones) + bce(discriminator(fake.detach()), zeros)
        loss_d.backward()
        loss_g = bce(discriminator(fake), ones)
        loss_g.backward()
        optimizer_d.step()
        optimizer_g.step()


def cure(generator, discriminator, optimizer_g, optimizer_d, batches):
    bce = nn.BCEWithLogitsLoss()
    for real, noise in batches:
        ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)
        optimizer_d.zero_grad()
        fake = generator(noise)
        loss_d = bce(discriminator(real), ones) + bce(discriminator(fake.detach()), zeros)
        loss_d.backward()
        optimizer_d.step()
        optimizer_g.zero_grad()
        loss_g = bce(discriminator(fake), ones)
        loss_g.backward()
        optimizer_g.step()


def harm(run):
    """How many of the 2 losses are in the gradient of the discriminator's last step?"""
    things = setup()
    for name in ("optimizer_g", "optimizer_d"):
        things[name].param_groups[0]["lr"] = 1e-6       # the weights stay where they are
    used = []
    discriminator, optimizer = things["discriminator"], things["optimizer_d"]
    weight = discriminator[0].weight
    optimizer.register_step_pre_hook(lambda *_: used.append(weight.grad.clone()))
    run(**things)
    real, noise = things["batches"][-1]
    bce, fake = nn.BCEWithLogitsLoss(), things["generator"](noise)
    ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)
    own = bce(discriminator(real), ones) + bce(discriminator(fake.detach()), zeros)
    own = torch.autograd.grad(own, weight)[0]
    generators = torch.autograd.grad(bce(discriminator(fake), ones), weight)[0]
    share = ((used[-1] - own) * generators).sum() / generators.pow(2).sum()
    return 1 + share.item()


if __name__ == "__main__":
    bug(**setup())
