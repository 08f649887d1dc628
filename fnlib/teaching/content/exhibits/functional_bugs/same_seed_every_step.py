"""The seed is an argument that the loop never changes, so each step has the same dropout mask. (`nn.Dropout` takes no
generator, so the cure changes the seed.)"""

import torch
from torch import nn
from torch.func import functional_call


def setup():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 1))
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    return dict(network=network, weights=weights, feature=torch.ones(1, 64))


def forward(network, weights, feature, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return functional_call(network, weights, (feature,))


def bug(network, weights, feature, seed=42):
    outputs = []
    for step in range(5):
        outputs.append(forward(network, weights, feature, seed).item())
    return outputs


def cure(network, weights, feature, seed=42):
    return [forward(network, weights, feature, seed + step).item() for step in range(5)]


def in_fnlib(network, weights, feature, seed=42):
    """Can be written if the loop takes no step, since the step count then stays the same."""
    import fnlib
    ModelFactory = fnlib.Factory(lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 1)))
    parameters, outputs = fnlib.Parameters.from_module(network), []
    for step in range(5):
        model = ModelFactory(parameters, seed=seed)
        outputs.append(model(feature).item())
    return outputs


def harm(run):
    """How many different dropout masks are there in five steps?"""
    return len(set(run(**setup())))


if __name__ == "__main__":
    bug(**setup())
