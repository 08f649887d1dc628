"""Promise 2 over optimizers: weights, buffers, optimizer state and losses have the bits of the stock loop."""

from __future__ import annotations

import pytest
import torch

import fnlib
from tests.core.loops import assert_same_run, functional_run, stock_run
from tests.core.tables import OPTIMIZERS, Optimizer

OWN = {torch.optim.SGD: fnlib.SGD, torch.optim.Adam: fnlib.Adam, torch.optim.AdamW: fnlib.AdamW}
DRAWN_UP = [row for row in OPTIMIZERS if row.kind in OWN]


@pytest.mark.parametrize("row", OPTIMIZERS, ids=str)
def test_wrapped_optimizer_has_the_bits_of_the_stock_loop(row: Optimizer) -> None:
    stock = stock_run(row.network, lambda module: row.kind(module.parameters(), **row.arguments))
    assert_same_run(*functional_run(row.network, fnlib.wrap(row.kind, **row.arguments)), *stock)


@pytest.mark.parametrize("row", DRAWN_UP, ids=str)
@pytest.mark.parametrize("donate", [False, True], ids=["kept", "donated"])
def test_own_rule_has_the_bits_of_the_stock_loop(row: Optimizer, donate: bool) -> None:
    stock = stock_run(row.network, lambda module: row.kind(module.parameters(), **row.arguments))
    assert_same_run(*functional_run(row.network, OWN[row.kind](**row.arguments), donate=donate), *stock)
