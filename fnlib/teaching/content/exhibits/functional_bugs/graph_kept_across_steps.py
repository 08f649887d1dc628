"""The new weights keep the subtraction that made them, and with it those of all steps before."""

import torch
from torch import nn
from torch.func import functional_call


def setup():
    torch.manual_seed(0)
    network = nn.Linear(8, 1)
    weights = {name: weight for name, weight in network.named_parameters()}
    batches = [(torch.randn(32, 8), torch.randn(32, 1)) for _ in range(5)]
    return dict(network=network, weights=weights, batches=batches)


def bug(network, weights, batches):
    for feature, target in batches:
        loss = nn.functional.mse_loss(functional_call(network, weights, (feature,)), target)
        gradient = torch.autograd.grad(loss, list(weights.values()))
        weights = {name: weight - 0.1 * part
                   for (name, weight), part in zip(weights.items(), gradient)}
    return weights


def cure(network, weights, batches):
    for feature, target in batches:
        loss = nn.functional.mse_loss(functional_call(network, weights, (feature,)), target)
        gradient = torch.autograd.grad(loss, list(weights.values()))
        weights = {name: (weight - 0.1 * part).detach().requires_grad_()
                   for (name, weight), part in zip(weights.items(), gradient)}
    return weights


def in_fnlib(network, weights, batches):
    """No harm: `step` returns values without a graph."""
    import fnlib
    ModelFactory = fnlib.Factory(lambda: nn.Linear(8, 1), optimizer=fnlib.SGD(lr=0.1))
    model = ModelFactory(fnlib.Parameters.from_module(network))
    for feature, target in batches:
        gradient = model.backward(nn.functional.mse_loss(model(feature), target))
        parameters = model.step(gradient)
        model = ModelFactory(parameters)
    return dict(parameters)


def harm(run):
    """Of how many of the 5 steps do the newest weights still hold the graph?"""
    node, steps = run(**setup())["weight"].grad_fn, 0
    while node is not None:
        steps += node.name().startswith("Sub")
        node = node.next_functions[0][0] if node.next_functions else None
    return steps


if __name__ == "__main__":
    bug(**setup())
