"""Train without an optimizer object: weights in a dictionary, gradients from `torch.func`."""

import torch
from torch import nn
from torch.func import functional_call, grad_and_value

if __name__ == "__main__":
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    y = x.sum(dim=1, keepdim=True)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    weights = {name: weight.detach() for name, weight in model.named_parameters()}

    def loss_of(weights, inputs, targets):
        """Return the loss of a batch with these weights."""
        return nn.functional.mse_loss(functional_call(model, weights, (inputs,)), targets)

    for epoch in range(4):
        for inputs, targets in zip(x.split(8), y.split(8), strict=True):
            gradients, loss = grad_and_value(loss_of)(weights, inputs, targets)
            weights = {name: weights[name] - 0.05 * gradients[name] for name in weights}
        print(f"{epoch}: {loss.item():.6f}")
