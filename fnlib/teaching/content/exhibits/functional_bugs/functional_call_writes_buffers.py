"""In training mode `functional_call` writes BatchNorm's new statistics into the tensors of the dictionary that it was given."""

import torch
from torch import nn
from torch.func import functional_call


def setup():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4))
    state = {name: value.detach().clone() for name, value in network.state_dict().items()}
    return dict(network=network, state=state, feature=torch.randn(32, 8) + 3)


def bug(network, state, feature):
    start = dict(state)                             # to compare with later
    functional_call(network, state, (feature,))
    return start


def cure(network, state, feature):
    start = dict(state)
    own = {name: value.clone() for name, value in state.items()}
    functional_call(network, own, (feature,))
    return start


def in_fnlib(network, state, feature):
    """No harm: what the forward pass changes comes back as a value."""
    import fnlib
    ModelFactory = fnlib.Factory(lambda: nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4)))
    parameters = fnlib.Parameters.from_module(network)
    output, buffers = ModelFactory(parameters).with_buffers(feature)
    return parameters.state_dict()


def harm(run):
    """How many of the kept state's 7 tensors stayed as they were?"""
    things = setup()
    before = {name: value.clone() for name, value in things["state"].items()}
    start = run(**things)
    return sum(torch.equal(before[name], start[name]) for name in before)


if __name__ == "__main__":
    bug(**setup())
