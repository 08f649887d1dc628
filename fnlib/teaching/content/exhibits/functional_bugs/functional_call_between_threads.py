"""`functional_call` swaps weights into the module, and back. Here the first thread computes with the second's weight, the
second with the module's own, and the first one's weight is left in the module."""

import threading

import torch
from torch import nn
from torch.func import functional_call


class Scale(nn.Module):
    """Wait for the input, then multiply it by the weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, request):
        return request.wait() * self.weight


class Request:
    """An input that takes a while to arrive."""

    def __init__(self):
        self.inside, self.arrived = threading.Event(), threading.Event()

    def wait(self):
        self.inside.set()
        assert self.arrived.wait(timeout=60)
        return torch.ones(())


def at_once(work, asked):
    requests = [Request() for _ in asked]
    threads = [threading.Thread(target=work, args=pair) for pair in zip(asked, requests)]
    for thread, request in zip(threads, requests):
        thread.start()
        assert request.inside.wait(timeout=60)      # both are inside the module ...
    for thread, request in zip(threads, requests):
        request.arrived.set()                       # ... and leave it in the same order
        thread.join()


def setup():
    return dict(asked=[1.0, 2.0])


def bug(asked):
    module, answers = Scale(), {}

    def work(weight, request):
        weights = {"weight": torch.tensor(weight)}
        answers[f"for weight {weight}"] = functional_call(module, weights, (request,)).item()

    at_once(work, asked)
    return answers


def cure(asked):
    answers = {}

    def work(weight, request):
        module = Scale()                            # one for each thread
        weights = {"weight": torch.tensor(weight)}
        answers[f"for weight {weight}"] = functional_call(module, weights, (request,)).item()

    at_once(work, asked)
    return answers


def in_fnlib(asked):
    """No harm: each model computes with the parameters it was bound to."""
    import fnlib
    ModelFactory, answers = fnlib.Factory(Scale), {}
    start = fnlib.Parameters.from_module(Scale())

    def work(weight, request):
        model = ModelFactory(start.replace(weights={"weight": torch.tensor(weight)}))
        answers[f"for weight {weight}"] = model(request).item()

    at_once(work, asked)
    return answers


def harm(run):
    """How many of the 2 answers were computed with the weight that was asked for?"""
    return sum(asked == f"for weight {got}" for asked, got in run(**setup()).items())


if __name__ == "__main__":
    bug(**setup())
