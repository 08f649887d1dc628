"""The new step count is dropped, so to the schedule every step looks like the first, and the rate never changes."""

import torch
from torch import nn
from torch.func import functional_call, grad


def schedule(count):
    return 0.1 * 0.5 ** count


def update(gradient, state):
    updates = {name: -schedule(state["count"]) * part for name, part in gradient.items()}
    return updates, {"count": state["count"] + 1}


def setup():
    torch.manual_seed(0)
    network = nn.Linear(8, 1)
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    batches = [(torch.randn(32, 8), torch.randn(32, 1)) for _ in range(4)]
    return dict(network=network, weights=weights, state={"count": 0}, batches=batches)


def gradient_of(network, weights, feature, target):
    def loss(weights):
        return nn.functional.mse_loss(functional_call(network, weights, (feature,)), target)
    return grad(loss)(weights)


def bug(network, weights, state, batches):
    for feature, target in batches:
        gradient = gradient_of(network, weights, feature, target)
        updates, new_state = update(gradient, state)
        weights = {name: weight + updates[name] for name, weight in weights.items()}
    return schedule(state["count"])


def cure(network, weights, state, batches):
    for feature, target in batches:
        gradient = gradient_of(network, weights, feature, target)
        updates, state = update(gradient, state)
        weights = {name: weight + updates[name] for name, weight in weights.items()}
    return schedule(state["count"])


def in_fnlib(network, weights, state, batches):
    """`step` returns weights and step count as one value, so the loop passes on both."""
    import fnlib
    ModelFactory = fnlib.Factory(network, optimizer=fnlib.SGD(lr=schedule))
    model = ModelFactory(fnlib.Parameters.from_module(network))
    for feature, target in batches:
        gradient = model.backward(nn.functional.mse_loss(model(feature), target))
        model = ModelFactory(model.step(gradient))
    return schedule(model.parameters.step_count)


def harm(run):
    """Rate after four steps (the schedule gives 0.00625)."""
    return run(**setup())


if __name__ == "__main__":
    bug(**setup())
