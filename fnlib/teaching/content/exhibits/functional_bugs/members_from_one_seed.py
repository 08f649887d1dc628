"""Equal seeds draw equal weights, and all members see the same data, so the ensemble is four copies of one network."""

import torch
from torch import nn
from torch.func import functional_call, grad


def setup():
    torch.manual_seed(0)
    batches = [(torch.randn(32, 8), torch.randn(32, 1)) for _ in range(3)]
    return dict(network=nn.Linear(8, 1), batches=batches)


def start(seed):
    torch.manual_seed(seed)
    return {name: weight.detach() for name, weight in nn.Linear(8, 1).named_parameters()}


def train(network, members, batches, lr=0.1):
    def step(weights, feature, target):
        def loss(weights):
            return nn.functional.mse_loss(functional_call(network, weights, (feature,)), target)
        gradient = grad(loss)(weights)
        return {name: weight - lr * gradient[name] for name, weight in weights.items()}
    members = {name: torch.stack([one[name] for one in members]) for name in members[0]}
    for feature, target in batches:
        members = torch.vmap(step, in_dims=(0, None, None))(members, feature, target)
    return members


def bug(network, batches, seed=42):
    members = [start(seed) for number in range(4)]
    return train(network, members, batches)


def cure(network, batches, seed=42):
    members = [start(seed + number) for number in range(4)]
    return train(network, members, batches)


def in_fnlib(network, batches, seed=42):
    """Can still be written: equal seeds give equal parameters, and `stack` takes them."""
    import fnlib
    ModelFactory = fnlib.Factory(lambda: nn.Linear(8, 1), optimizer=fnlib.SGD(lr=0.1))
    drawn = [ModelFactory(fnlib.Parameters(seed=seed)).parameters for number in range(4)]
    step = fnlib.train_step(ModelFactory, nn.functional.mse_loss)
    members = fnlib.stack(drawn)
    for feature, target in batches:
        members, loss = torch.vmap(step, in_dims=(0, None, None))(members, feature, target)
    return members


def harm(run):
    """Among the 4 members, how many distinct networks are there?"""
    members = run(**setup())
    return len({tuple(member.flatten().tolist()) for member in members["weight"]})


if __name__ == "__main__":
    bug(**setup())
