"""The doctor: looks at a model, its optimizer and whatever else a training loop keeps, and says what is wrong."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from fnlib.ledger.doctor.report import Report, beside
from fnlib.ledger.doctor.standing import inspect, names_for

if TYPE_CHECKING:
    from fnlib.ledger import Ledger

__all__ = ["Report", "doctor"]


def doctor(*objects: Any, ledger: Ledger | None = None, **named: Any) -> Report:
    """Inspect models, optimizers and snapshots as they stand, and print what is wrong, worst first.

    Says nothing when there is nothing to say. Works on any PyTorch modules and optimizers, and changes nothing.

    Args:
        objects: modules, optimizers, schedulers, state dicts, tensors; called by the names they have in your code.
        ledger: a recording (`fnlib.Ledger`); its findings are part of the report.
        named: more of them, under a name of your choice.

    Returns:
        The findings, a tuple: `fnlib.ledger.Finding` with code, severity, place, what, why, fix, link.

    Example:
        >>> import torch, fnlib
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> fnlib.doctor(model, optimizer)
        <nothing found>
        >>> best = model.state_dict()
        >>> report = fnlib.doctor(model, optimizer, best=best)
        QUESTION snapshot-shares-memory, best
            `best` shares memory with model.0.weight and 3 more: it changes whenever that is trained. A
            state dict or a detached tensor is a second name for the same memory, not a copy.
                best = copy.deepcopy(best)
            met in https://github.com/pytorch/tutorials/pull/188
        >>> report[0].fix
        'best = copy.deepcopy(best)'
    """
    given = {**names_for(objects, sys._getframe(1)), **named}
    findings = inspect(given)
    if ledger is not None:
        findings = [*ledger.findings, *beside(findings, ledger)]
    report = Report(findings)
    if report:
        print(report.text())
    return report
