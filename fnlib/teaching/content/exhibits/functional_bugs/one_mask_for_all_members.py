"""The random numbers are drawn once for all members, so each of them drops the same units."""

import torch
from torch import nn
from torch.func import functional_call


def setup():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 1))
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    members = {name: torch.stack([weight] * 4) for name, weight in weights.items()}
    return dict(network=network, members=members, feature=torch.ones(1, 64))


def bug(network, members, feature):
    def answer(weights):
        return functional_call(network, weights, (feature,))

    answers = torch.vmap(answer, randomness="same")(members)
    return answers.flatten().tolist()


def cure(network, members, feature):
    def answer(weights):
        return functional_call(network, weights, (feature,))

    answers = torch.vmap(answer, randomness="different")(members)
    return answers.flatten().tolist()


def in_fnlib(network, members, feature):
    """Can still be written: the draws under `vmap` are PyTorch's, and so is the argument."""
    import fnlib
    ModelFactory = fnlib.Factory(lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 1)))
    four = fnlib.stack([fnlib.Parameters.from_module(network)] * 4)
    answers = torch.vmap(lambda one: ModelFactory(one)(feature), randomness="same")(four)
    return answers.flatten().tolist()


def harm(run):
    """How many different answers do the 4 members give?"""
    return len(set(run(**setup())))


if __name__ == "__main__":
    bug(**setup())
