"""The new weights are thrown away, so every step starts from the first ones."""

import torch
from torch import nn
from torch.func import functional_call, grad


def setup():
    torch.manual_seed(0)
    network = nn.Linear(8, 1)
    weights = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    batches = [(torch.randn(32, 8), torch.randn(32, 1)) for _ in range(3)]
    return dict(network=network, weights=weights, batches=batches)


def step(network, weights, feature, target, lr=0.1):
    def loss(weights):
        return nn.functional.mse_loss(functional_call(network, weights, (feature,)), target)
    gradient = grad(loss)(weights)
    return {name: weight - lr * gradient[name] for name, weight in weights.items()}


def bug(network, weights, batches):
    for feature, target in batches:
        step(network, weights, feature, target)
    return weights


def cure(network, weights, batches):
    for feature, target in batches:
        weights = step(network, weights, feature, target)
    return weights


def in_fnlib(network, weights, batches):
    """Can still be written: the line is valid Python and changes nothing."""
    import fnlib
    ModelFactory = fnlib.Factory(lambda: nn.Linear(8, 1), optimizer=fnlib.SGD(lr=0.1))
    model = ModelFactory(fnlib.Parameters.from_module(network))
    for feature, target in batches:
        gradient = model.backward(nn.functional.mse_loss(model(feature), target))
        model.step(gradient)                        # the new parameters go nowhere
    return dict(model.parameters)


def harm(run):
    """How many of the 2 weights did training move?"""
    things = setup()
    before = things["weights"]
    after = run(**things)
    return sum(not torch.equal(before[name], after[name]) for name in before)


if __name__ == "__main__":
    bug(**setup())
