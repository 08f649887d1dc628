"""Promise 2 over optimizers that others wrote: every one of pytorch-optimizer that takes a plain step, against the stock loop.

Each is exact, or refused by a named error; the few that the stock loop of these tests cannot run either are listed.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

import fnlib
from tests.core.loops import assert_same_run, functional_run, stock_run
from tests.core.tables import EXPERTS, MATRICES, Network

pytorch_optimizer = pytest.importorskip("pytorch_optimizer")


def by_shape(name: str, weight: torch.Tensor) -> dict[str, Any]:
    return {"use_muon": weight.ndim >= 2}


# Arguments that have no default, and networks that an optimizer is made for.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "ranger21": {"num_iterations": 20},
    **dict.fromkeys(("adago", "adamuon", "muon", "normuon"), {"groups": by_shape}),
}
NETWORKS: dict[str, Network] = {"spectralsphere": MATRICES}

# What a value cannot carry: an error that names it.
REFUSED = {
    "adashift": "AdaShift.state['grad_queue'] is a collections.deque",
    "conda": "Conda.state['projector'] is a pytorch_optimizer.optimizer.utils.galore.GaLoreProjector",
    "spam": "SPAM can't be an update rule: its constructor draws random numbers",
    "scalableshampoo": "ScalableShampoo.state['pre_conditioner'] is a pytorch_optimizer.optimizer.utils.preconditioner.PreConditioner",
}

# What the stock loop here cannot run: they ask for a closure, for a second derivative, for a module, for other packages.
NO_PLAIN_STEP = {
    *("adahessian", "sophiah"),  # loss.backward(create_graph=True)
    *("alig", "bsam", "lbfgs"),  # step(closure)
    *("adalomo", "adammini", "lomo"),  # built from a module
    *("adalomo", "demo"),  # other packages
    *("distributedmuon", "muonclip"),  # processes, and a model's configuration
}
NAMES = [name for name in pytorch_optimizer.get_supported_optimizers() if name not in NO_PLAIN_STEP]


def test_a_few_dozen() -> None:
    assert len(NAMES) - len(REFUSED) >= 100


@pytest.mark.parametrize("name", NAMES)
def test_third_party_optimizer(name: str) -> None:
    kind, row, arguments = (
        pytorch_optimizer.load_optimizer(name),
        NETWORKS.get(name, EXPERTS),
        dict(ARGUMENTS.get(name, {})),
    )
    groups = arguments.pop("groups", None)

    def optimize(module: torch.nn.Module) -> torch.optim.Optimizer:
        if groups is None:
            return kind(module.parameters(), **arguments)
        parts: dict[str, Any] = {}
        for label, weight in module.named_parameters():
            settings = groups(label, weight)
            parts.setdefault(str(settings), {"params": [], **settings})["params"].append(weight)
        return kind(list(parts.values()), **arguments)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        stock = stock_run(row, optimize)
        drawn = torch.get_rng_state()
        if name in REFUSED:
            with pytest.raises((fnlib.CannotStore, fnlib.CannotWrap)) as caught:
                functional_run(row, fnlib.wrap(kind, groups=groups, **arguments))
            assert str(caught.value).startswith(REFUSED[name])
            return
        parameters, losses = functional_run(row, fnlib.wrap(kind, groups=groups, **arguments))
    assert torch.equal(torch.get_rng_state(), drawn), (
        "another number of draws from the global generator"
    )
    assert_same_run(parameters, losses, *stock)
