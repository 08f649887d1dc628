"""The old weights are updated in place to save memory and then compared with the new ones, which are the same tensors."""

import torch
from torch import nn
from torch.func import functional_call, grad


def setup():
    torch.manual_seed(0)
    network = nn.Linear(8, 1)
    weights = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    batches = [(torch.randn(32, 8), torch.randn(32, 1)) for _ in range(3)]
    return dict(network=network, weights=weights, batches=batches)


def step(network, weights, feature, target, lr=0.1, donate=False):
    def loss(weights):
        return nn.functional.mse_loss(functional_call(network, weights, (feature,)), target)
    gradient = grad(loss)(weights)
    if donate:                                      # reuse the memory of the old weights
        return {name: weight.sub_(gradient[name], alpha=lr) for name, weight in weights.items()}
    return {name: weight.sub(gradient[name], alpha=lr) for name, weight in weights.items()}


def bug(network, weights, batches):
    start = weights
    for feature, target in batches:
        weights = step(network, weights, feature, target, donate=True)
    return sum((weights[name] - start[name]).norm().item() for name in weights)


def cure(network, weights, batches):
    start = weights
    weights = step(network, weights, *batches[0])   # keeps `start`
    for feature, target in batches[1:]:
        weights = step(network, weights, feature, target, donate=True)
    return sum((weights[name] - start[name]).norm().item() for name in weights)


def in_fnlib(network, weights, batches):
    """Refused: reading a donated value raises an error that names the line of the donation."""
    import fnlib
    ModelFactory = fnlib.Factory(lambda: nn.Linear(8, 1))
    start = fnlib.Parameters.from_module(network)
    model = ModelFactory(start)
    feature, target = batches[0]
    gradient = model.backward(nn.functional.mse_loss(model(feature), target))
    parameters = model.step(gradient, donate=True)
    return (parameters["weight"] - start["weight"]).norm().item()


def harm(run):
    """Is the returned distance more than 0? (1 yes, 0 no)"""
    return float(run(**setup()) > 0)


if __name__ == "__main__":
    bug(**setup())
