"""A Wasserstein GAN: several critic steps for one generator step, weights clipped after each critic step."""

import torch
from torch import nn


def main():
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    critic = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    optimizer_g = torch.optim.RMSprop(generator.parameters(), lr=5e-4)
    optimizer_c = torch.optim.RMSprop(critic.parameters(), lr=5e-4)
    for iteration in range(3):
        for parameter in critic.parameters():
            parameter.requires_grad_(True)
        for _ in range(2):
            optimizer_c.zero_grad()
            fake = generator(torch.randn(32, 4)).detach()
            loss_c = critic(fake).mean() - critic(torch.randn(32, 2) + 1).mean()
            loss_c.backward()
            optimizer_c.step()
            for parameter in critic.parameters():
                parameter.data.clamp_(-0.1, 0.1)
        for parameter in critic.parameters():
            parameter.requires_grad_(False)          # no gradients for the critic here
        optimizer_g.zero_grad()
        loss_g = -critic(generator(torch.randn(32, 4))).mean()
        loss_g.backward()
        optimizer_g.step()
    print(f"critic {loss_c.item():.4f}, generator {loss_g.item():.4f}")


if __name__ == "__main__":
    main()
