"""All layers draw from one generator, so the extra layer takes the numbers that the layers built after it would have got."""

import torch
from torch import nn


def setup():
    return dict(seed=0)


def bug(seed):
    torch.manual_seed(seed)
    baseline = nn.ModuleDict(dict(body=nn.Linear(8, 16), head=nn.Linear(16, 3)))
    torch.manual_seed(seed)
    variant = nn.ModuleDict(dict(body=nn.Linear(8, 16), gate=nn.Linear(16, 16),
                                  head=nn.Linear(16, 3)))
    return baseline, variant


def cure(seed):
    torch.manual_seed(seed)
    baseline = nn.ModuleDict(dict(body=nn.Linear(8, 16), head=nn.Linear(16, 3)))
    torch.manual_seed(seed)
    variant = nn.ModuleDict(dict(body=nn.Linear(8, 16), head=nn.Linear(16, 3)))
    variant["gate"] = nn.Linear(16, 16)        # last, so the others get the same numbers
    return baseline, variant


def harm(run):
    """How many of the 4 weights of body and head start the same in both networks?"""
    baseline, variant = run(**setup())
    shared = dict(variant.named_parameters())
    return sum(torch.equal(weight, shared[name]) for name, weight in baseline.named_parameters())


if __name__ == "__main__":
    bug(**setup())
