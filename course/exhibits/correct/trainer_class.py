"""The loop inside a class, as frameworks write it; L-BFGS with a closure at the end."""

import torch
from torch import nn


class Trainer:
    def __init__(self, model, lr):
        self.model = model
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    def training_step(self, batch):
        feature, target = batch
        return nn.functional.mse_loss(self.model(feature), target)

    def fit(self, batches, epochs):
        self.model.train()
        for _ in range(epochs):
            for batch in batches:
                self.optimizer.zero_grad()
                loss = self.training_step(batch)
                loss.backward()
                self.optimizer.step()
        return loss.item()


def main():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    batches = [(torch.randn(16, 4), torch.randn(16, 1)) for _ in range(3)]
    loss = Trainer(model, lr=1e-2).fit(batches, epochs=2)
    feature, target = batches[0]
    polish = torch.optim.LBFGS(model.parameters(), max_iter=4)

    def closure():
        polish.zero_grad()
        objective = nn.functional.mse_loss(model(feature), target)
        objective.backward()
        return objective

    polish.step(closure)
    print(f"loss {loss:.4f} -> {closure().item():.4f}")


if __name__ == "__main__":
    main()
