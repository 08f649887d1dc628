"""A variational autoencoder with the reparametrisation trick."""

import torch
from torch import nn
from torch.nn import functional as F


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 32)
        self.mean, self.log_variance = nn.Linear(32, 4), nn.Linear(32, 4)
        self.fc3, self.fc4 = nn.Linear(4, 32), nn.Linear(32, 64)

    def encode(self, x):
        hidden = F.relu(self.fc1(x))
        return self.mean(hidden), self.log_variance(hidden)

    def decode(self, z):
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))

    def forward(self, x):
        mean, log_variance = self.encode(x)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        return self.decode(z), mean, log_variance


def loss_function(reconstruction, x, mean, log_variance):
    likelihood = F.binary_cross_entropy(reconstruction, x, reduction="sum")
    divergence = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
    return likelihood + divergence


def main():
    torch.manual_seed(0)
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    data = torch.rand(128, 64)
    for epoch in range(3):
        model.train()
        train_loss = 0
        for batch in data.split(32):
            optimizer.zero_grad()
            reconstruction, mean, log_variance = model(batch)
            loss = loss_function(reconstruction, batch, mean, log_variance)
            loss.backward()
            train_loss += loss.item()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            reconstruction, mean, log_variance = model(data[:32])
            test_loss = loss_function(reconstruction, data[:32], mean, log_variance).item()
            sample = model.decode(torch.randn(4, 4))
        print(f"epoch {epoch}: {train_loss / len(data):.3f} {test_loss / 32:.3f} {tuple(sample.shape)}")


if __name__ == "__main__":
    main()
