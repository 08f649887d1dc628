"""A generative adversarial network: real batch, fake batch (two backwards, one step), then the generator."""

import torch
from torch import nn


def main():
    torch.manual_seed(0)
    netG = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))
    netD = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
    criterion = nn.BCEWithLogitsLoss()
    optimizerD = torch.optim.Adam(netD.parameters(), lr=2e-4, betas=(0.5, 0.999))
    optimizerG = torch.optim.Adam(netG.parameters(), lr=2e-4, betas=(0.5, 0.999))
    fixed_noise = torch.randn(16, 8)
    G_losses, D_losses, pictures = [], [], []
    for iteration in range(6):
        # the discriminator: real as real, fake as fake
        netD.zero_grad()
        real = torch.randn(32, 2) * 0.5 + 2
        label = torch.ones(32, 1)
        errD_real = criterion(netD(real), label)
        errD_real.backward()
        fake = netG(torch.randn(32, 8))
        errD_fake = criterion(netD(fake.detach()), torch.zeros(32, 1))
        errD_fake.backward()
        optimizerD.step()
        # the generator: fake as real
        netG.zero_grad()
        errG = criterion(netD(fake), label)
        errG.backward()
        optimizerG.step()
        G_losses.append(errG.item())
        D_losses.append((errD_real + errD_fake).item())
        if iteration % 3 == 2:
            netG.eval()
            with torch.no_grad():
                pictures.append(netG(fixed_noise).clone())
            netG.train()
    print(f"discriminator {D_losses[-1]:.3f}, generator {G_losses[-1]:.3f}, {len(pictures)} pictures")


if __name__ == "__main__":
    main()
