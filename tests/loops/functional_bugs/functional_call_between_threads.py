"""`functional_call` swaps weights into one shared module: two threads at once get each other's."""

import threading

import torch
from torch import nn
from torch.func import functional_call

INSIDE = threading.Barrier(2, timeout=10)


class Slow(nn.Module):
    """Its input times its weight; both threads are made to be inside it at once."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        INSIDE.wait()                               # both are in it ...
        output = x * self.weight
        INSIDE.wait()                               # ... until both have read the weight
        return output


def setup():
    return dict(asked=[1.0, 2.0])


def at_once(work, asked):
    threads = [threading.Thread(target=work, args=(weight,)) for weight in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def bug(asked):
    module, answers = Slow(), {}

    def work(weight):
        weights = {"weight": torch.tensor(weight)}
        answers[weight] = functional_call(module, weights, (torch.ones(()),)).item()

    at_once(work, asked)
    return answers


def cure(asked):
    answers = {}

    def work(weight):
        module = Slow()                             # one for each thread
        weights = {"weight": torch.tensor(weight)}
        answers[weight] = functional_call(module, weights, (torch.ones(()),)).item()

    at_once(work, asked)
    return answers


def in_fnlib(asked):
    """Cannot happen: one factory serves many parameters at once."""
    import fnlib
    ModelFactory, answers = fnlib.Factory(Slow), {}
    start = fnlib.Parameters.from_module(Slow())

    def work(weight):
        model = ModelFactory(start.replace(weights={"weight": torch.tensor(weight)}))
        answers[weight] = model(torch.ones(())).item()

    at_once(work, asked)
    return answers


def harm(run):
    """Answers, of 2, that used the weight asked for."""
    return sum(weight == answer for weight, answer in run(**setup()).items())


if __name__ == "__main__":
    bug(**setup())
