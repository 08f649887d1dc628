"""The forward pass returns new statistics along with its output, and the loop keeps only the output. (In training mode
BatchNorm uses the batch's own statistics, so the losses don't show it.)"""

import torch
from torch import nn
from torch.func import functional_call


def forward(network, weights, buffers, feature):
    new_buffers = {name: buffer.clone() for name, buffer in buffers.items()}
    output = functional_call(network, (weights, new_buffers), (feature,))
    return output, new_buffers


def setup():
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 1))
    weights = {name: weight.detach().clone().requires_grad_()
               for name, weight in network.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    batches = [(torch.randn(64, 8) + 5, torch.randn(64, 1)) for _ in range(10)]
    return dict(network=network, weights=weights, buffers=buffers, batches=batches)


def step(weights, loss, lr=0.1):
    gradient = torch.autograd.grad(loss, list(weights.values()))
    return {name: (weight - lr * part).detach().requires_grad_()
            for (name, weight), part in zip(weights.items(), gradient)}


def bug(network, weights, buffers, batches):
    for feature, target in batches:
        output = forward(network, weights, buffers, feature)[0]
        weights = step(weights, nn.functional.mse_loss(output, target))
    return buffers


def cure(network, weights, buffers, batches):
    for feature, target in batches:
        output, buffers = forward(network, weights, buffers, feature)
        weights = step(weights, nn.functional.mse_loss(output, target))
    return buffers


def in_fnlib(network, weights, buffers, batches):
    """Refused: `model(feature)` raises and shows the two lines to write."""
    import fnlib
    ModelFactory = fnlib.Factory(lambda: nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 1)))
    model = ModelFactory(fnlib.Parameters.from_module(network))
    feature, target = batches[0]
    return model(feature)


def harm(run):
    """Running mean, rounded (the data's mean is 5, and ten batches get it to about 3.2)."""
    return round(run(**setup())["0.running_mean"].mean().item(), 1)


if __name__ == "__main__":
    bug(**setup())
