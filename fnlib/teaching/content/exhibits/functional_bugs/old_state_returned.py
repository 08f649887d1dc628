"""The step computes new statistics and returns the old ones, as an official guide once did. (In training mode BatchNorm uses
those of its batch, so the losses don't show it.)"""

import torch
from torch import nn
from torch.func import functional_call, grad_and_value


def setup():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    weights = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    batches = [(torch.randn(32, 8), torch.randn(32, 1)) for _ in range(3)]
    return dict(network=network, weights=weights, buffers=buffers, batches=batches)


def update(network, weights, buffers, feature, target, lr=0.1):
    def loss(weights):
        new_buffers = {name: buffer.clone() for name, buffer in buffers.items()}
        output = functional_call(network, (weights, new_buffers), (feature,))
        return nn.functional.mse_loss(output, target), new_buffers
    gradient, (_, new_buffers) = grad_and_value(loss, has_aux=True)(weights)
    new_weights = {name: weight - lr * gradient[name] for name, weight in weights.items()}
    return new_weights, new_buffers


def train_step(network, weights, buffers, feature, target):
    new_weights, new_buffers = update(network, weights, buffers, feature, target)
    return new_weights, buffers


def cured_step(network, weights, buffers, feature, target):
    new_weights, new_buffers = update(network, weights, buffers, feature, target)
    return new_weights, new_buffers


def bug(network, weights, buffers, batches):
    for feature, target in batches:
        weights, buffers = train_step(network, weights, buffers, feature, target)
    return buffers


def cure(network, weights, buffers, batches):
    for feature, target in batches:
        weights, buffers = cured_step(network, weights, buffers, feature, target)
    return buffers


def in_fnlib(network, weights, buffers, batches):
    """Can still be written: `step` takes the buffers that you pass, and these are the old ones."""
    import fnlib
    ModelFactory = fnlib.Factory(network)
    model = ModelFactory(fnlib.Parameters.from_module(network))
    for feature, target in batches:
        output, new_buffers = model.with_buffers(feature)
        gradient = model.backward(nn.functional.mse_loss(output, target))
        model = ModelFactory(model.step(gradient, buffers=model.parameters.buffers))
    return model.parameters.buffers


def harm(run):
    """How many of the 3 batches went into the statistics?"""
    return run(**setup())["1.num_batches_tracked"].item()


if __name__ == "__main__":
    bug(**setup())
