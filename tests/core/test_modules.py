"""Promise 2 over networks: the bits of the stock loop, for every line of the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import fnlib
from tests.core.loops import assert_same_run, functional_run, stock_run
from tests.core.tables import NETWORKS, Network

RULES: dict[str, tuple[Callable[[Any], torch.optim.Optimizer], Any]] = {
    "SGD with momentum": (
        lambda weights: torch.optim.SGD(weights, lr=0.05, momentum=0.9),
        fnlib.SGD(lr=0.05, momentum=0.9),
    ),
    "Adam": (lambda weights: torch.optim.Adam(weights, lr=0.01), fnlib.Adam(lr=0.01)),
}


@pytest.mark.filterwarnings(
    "ignore:LSTM with projections is not supported with oneDNN"
)  # stock PyTorch says it too
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("row", NETWORKS, ids=str)
def test_network_trains_to_the_same_bits(row: Network, rule: str) -> None:
    optimizer, functional_rule = RULES[rule]
    stock = stock_run(row, lambda module: optimizer(module.parameters()))
    drawn = torch.get_rng_state()
    parameters, losses = functional_run(row, functional_rule)
    assert torch.equal(torch.get_rng_state(), drawn), (
        "another number of draws from the global generator than the stock loop"
    )
    assert_same_run(parameters, losses, *stock)
