"""Draw what the two loops of the README change: python lessons/figures/ledger_loops.py OUT.png

Both loops have the same network and batch, and are recorded in their second iteration.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import nn

import fnlib
from fnlib.ledger import Ledger
from fnlib.ledger.views.figure import plot_pair


def stock(optimizer_class: Any = torch.optim.SGD, **settings: Any) -> Ledger:
    """Record the second iteration of the stock loop.

    >>> print(stock().counts)
    3 of 5 statements act at a distance; 4 values overwritten; 2 names rebound
    """
    feature, label = _batch()
    model = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10), nn.LogSoftmax(dim=1))
    optimizer = optimizer_class(model.parameters(), **{"lr": 0.01, **settings})
    criterion = nn.NLLLoss()
    output = model(feature)
    loss = criterion(output, label)
    loss.backward()
    optimizer.step()

    with Ledger(model=model, optimizer=optimizer) as ledger:
        optimizer.zero_grad()
        output = model(feature)
        loss = criterion(output, label)
        loss.backward()
        optimizer.step()
    return ledger


def functional(optimizer: Any = None) -> Ledger:
    """Record the second iteration of the functional loop.

    >>> print(functional().counts)
    0 of 5 statements act at a distance; 0 values overwritten; 5 names rebound
    """
    feature, label = _batch()
    ModelFactory = fnlib.Sequential(  # noqa: N806
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
        nn.LogSoftmax(dim=1),
        optimizer=optimizer or fnlib.SGD(lr=0.01),
    )
    model = ModelFactory(fnlib.Parameters(seed=0))
    criterion = nn.NLLLoss()
    output = model(feature)
    loss = criterion(output, label)
    gradient = model.backward(loss)
    parameters = model.step(gradient)
    model = ModelFactory(parameters)

    with Ledger() as ledger:
        output = model(feature)
        loss = criterion(output, label)
        gradient = model.backward(loss)
        parameters = model.step(gradient)
        model = ModelFactory(parameters)
    return ledger


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(32, 128, generator=generator), torch.randint(10, (32,), generator=generator)


def main() -> None:
    """Draw the stock loop and the functional loop into a file."""
    parser = argparse.ArgumentParser(description="Draw what the two loops of the README change.")
    parser.add_argument("out", type=Path, help="the file to write, .png or .svg")
    titles = ("stock: places that are changed", "functional: values that are passed on")
    plot_pair(stock(), functional(), titles=titles).savefig(parser.parse_args().out)


if __name__ == "__main__":
    main()
