"""The doctor: looks at models, optimizers and what a training loop keeps, and says what is wrong."""

from __future__ import annotations

import sys
from typing import Any

from fnlib.ledger import Ledger
from fnlib.ledger.doctor.report import Report, explained
from fnlib.ledger.doctor.standing import inspect, seen_in
from fnlib.ledger.looks.callers import names_for

__all__ = ["Report", "doctor"]


def doctor(*objects: Any, ledger: Ledger | None = None, **named: Any) -> Report:
    """Look for silent bugs in models, optimizers and snapshots, and print them, worst first.

    Prints nothing if it finds nothing. Works on any PyTorch modules and optimizers, and changes
    nothing.

    Args:
        objects: modules, optimizers, schedulers, state dicts, tensors; called by the names that
            they have in your code.
        ledger: a recording (`fnlib.Ledger`); its findings are part of the report, and tell at
            which line the others came about.
        named: more of them, under a name of your choice.

    Returns:
        The findings, a tuple: `fnlib.ledger.Finding` with code, severity, place, what, why, fix,
        link. ``report.seen`` says what was looked at.

    Example:
        >>> import torch, fnlib
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> fnlib.doctor(model, optimizer)
        <nothing found in model (Sequential, 4 weights) and optimizer (SGD)>
        >>> best = model.state_dict()
        >>> report = fnlib.doctor(model, optimizer, best=best)
        looked at model (Sequential, 4 weights), optimizer (SGD) and best (OrderedDict): 0 certain, 1 question
        QUESTION snapshot-shares-memory, best
            `best` shares memory with model.0.weight and 3 more, so it changes whenever that is trained.
            A detached tensor or a tensor of a state dict is an alias of the same memory, not a copy.
                best = copy.deepcopy(best)      # where it is kept
            seen in https://github.com/pytorch/tutorials/pull/188
        >>> report[0].fix
        'best = copy.deepcopy(best)      # where it is kept'
    """
    given = {**names_for(objects, sys._getframe(1)), **named}
    standing, seen = inspect(given), seen_in(given)
    if ledger is None:
        report = Report((), standing, seen)
    else:
        report = Report(ledger.findings, explained(standing, ledger.walk()), seen)
    if report:
        print(report.text())
    return report
