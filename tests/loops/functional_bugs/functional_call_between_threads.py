"""`functional_call` swaps weights into one shared module: two threads at once get each other's."""

import threading

import torch
from torch import nn
from torch.func import functional_call


class Meeting(nn.Module):
    """Returns its weight; both threads are made to be inside it at the same time."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.inside = threading.Barrier(2)

    def forward(self, x):
        self.inside.wait(timeout=10)                # a slow forward: both are in it ...
        output = x * self.weight
        self.inside.wait(timeout=10)                # ... until both have read the weight
        return output


def setup():
    return dict(asked=[1.0, 2.0])


def ask(asked, module_of):
    answers = {}

    def work(weight, module):
        answers[weight] = functional_call(module, {"weight": torch.tensor(weight)}, (torch.ones(()),)).item()

    threads = [threading.Thread(target=work, args=(weight, module_of(weight))) for weight in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def bug(asked):
    module = Meeting()
    return ask(asked, lambda weight: module)


def cure(asked):
    together = threading.Barrier(2)

    def own_copy(weight):
        module = Meeting()
        module.inside = together
        return module
    return ask(asked, own_copy)


def in_fnlib(asked):
    """Cannot happen: one factory serves many parameters at once."""
    import fnlib
    together = threading.Barrier(2)

    def build():
        module = Meeting()
        module.inside = together
        return module
    ModelFactory, answers = fnlib.Factory(build), {}
    start = fnlib.Parameters.from_module(Meeting())

    def work(weight):
        model = ModelFactory(start.replace(weights={"weight": torch.tensor(weight)}))
        answers[weight] = model(torch.ones(())).item()

    threads = [threading.Thread(target=work, args=(weight,)) for weight in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def harm(run):
    """Answers, of 2, that used the weight asked for."""
    return sum(weight == answer for weight, answer in run(**setup()).items())


if __name__ == "__main__":
    bug(**setup())
