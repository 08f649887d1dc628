"""What the rooms of the museum do beside each loop: run it as written, look at it through the ledger, cure it, do it in fnlib."""

from __future__ import annotations

import re
import textwrap
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

import fnlib
from fnlib.ledger.entries import Entry
from fnlib.ledger.view import View
from fnlib.teaching.museum import exhibit, harm_of

Run = Callable[..., Any]
Setup = Callable[[], dict[str, Any]]
WIDTH = 100


def as_written(setup: Setup, bug: Run) -> None:
    """Run a loop as it was written, and print what its author sees: the losses, a warning or an error, or nothing.

    Args:
        setup: makes the loop's arguments.
        bug: the loop.

    Example:
        >>> as_written(dict, lambda: None)
        It runs to its end: no error, no warning.
    """
    losses, said = _run(setup, bug)
    print(f"{said}\nThe losses: {_numbers(losses)}" if len(losses) > 1 else said)


def cured(code: str, setup: Setup, bug: Run, cure: Run) -> None:
    """Record the loop, print the row that gives it away and what the ledger says of it; then the harm, without and with the cure.

    Args:
        code: the exhibit.
        setup: makes the loop's arguments.
        bug: the loop as it was written.
        cure: the loop as it should be.

    Raises:
        AssertionError: the ledger does not find what the museum's table says, or finds something in the cured loop.
    """
    one = exhibit(code)
    ledger = record(setup, bug)
    if one.finding in {finding.code for finding in ledger.findings}:
        parts = [f"The loop as written, in the ledger:\n{row(ledger, one.finding)}"]
    else:
        assert one.functional, f"the ledger found {[finding.code for finding in ledger.findings]}, not {one.finding}"
        parts = [f"The loop as written, in the ledger:\n{_last_round(ledger)}"]
        parts.append("The rows show it; the ledger has no finding of its own for this one.")
    assert not record(setup, cure).findings, "the cured loop is not in order"
    losses, said = _run(setup, cure)
    if one.harm is None:
        parts.append(f"With the cure: {said}")
    else:
        harm, words = harm_of(code)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            measured = harm(bug), harm(cure)
        assert all(abs(a - b) <= 1e-3 * abs(b) for a, b in zip(measured, one.harm, strict=True)), (measured, one.harm)
        parts.append(f"{words}\n    as written {measured[0]:.4g}, cured {measured[1]:.4g}")
    if len(losses) > 1:
        parts.append(f"The losses, cured: {_numbers(losses)}")
    print("\n\n".join(parts))


def in_fnlib(code: str, show: Run, setup: Setup | None = None) -> None:
    """Do the same task in ``fnlib``, and print what becomes of the bug.

    Args:
        code: the exhibit.
        show: does the task; its docstring says what to see.
        setup: makes its arguments, if it has any.

    Raises:
        AssertionError: what happens is not what the museum's table says.
    """
    one = exhibit(code)
    verdict = {"refused": "is refused by a named error"}.get(one.fnlib, one.fnlib)
    parts = [_wrapped(f"In fnlib it {verdict}. {one.because}")]
    ledger = record(setup or dict, show)
    if one.fnlib == "refused":
        assert ledger.raised is not None, "the table says that this is refused"
        at_cell = re.sub(r"at \S*ipykernel\S*, line", "in this cell, line", ledger.raised)
        parts.append(_wrapped(at_cell).rstrip())
    else:
        assert ledger.raised is None, ledger.raised
        if one.fnlib == "can still be written" and one.finding in {finding.code for finding in ledger.findings}:
            parts.append(row(ledger, one.finding))
    print("\n\n".join(parts))


def record(setup: Setup, run: Run) -> fnlib.Ledger:
    """Record a loop under a ledger that finds by itself what there is to watch; an error of the loop is part of it."""
    ledger = fnlib.Ledger(depth=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with ledger:
                run(**setup())
        except (RuntimeError, fnlib.FnlibError):
            pass
    return ledger


def row(ledger: fnlib.Ledger, code: str) -> str:
    """The ledger's row at which a finding stands, and the finding.

    Args:
        ledger: a recording.
        code: of the finding.

    Raises:
        AssertionError: there is no such finding.
    """
    found = [finding for finding in ledger.findings if finding.code == code]
    assert found, f"the ledger found {[finding.code for finding in ledger.findings]}, not {code}"
    finding = found[0]
    at = [entry for entry in ledger.walk() if (entry.line, entry.file) == (finding.line, finding.file)]
    says = _wrapped(f"{finding.what} {finding.why}")
    head = f"{finding.severity.upper()} {finding.code}, line {finding.line}, {finding.place}"
    return f"{_table(at, ledger)}\n\n{head}\n{says}\n{textwrap.indent(finding.fix, '    ')}"


def _last_round(ledger: fnlib.Ledger) -> str:
    """The rows of the loop's last round, or all rows if there is no loop."""
    inside = [entry for entry in ledger.walk() if entry.function == "bug"]
    rounds = [entry.iterations for entry in inside if entry.iterations]
    return _table([entry for entry in inside if entry.kind == "statement" and (not rounds or entry.iterations == rounds[-1])], ledger)


def _table(entries: Sequence[Entry], ledger: fnlib.Ledger) -> str:
    """Rows of a recording without what lies inside them and without counts, as if the loop stood at module level."""
    least = min((entry.depth for entry in entries), default=0)
    view = View([replace(entry, inside=(), depth=entry.depth - least) for entry in entries], "", ledger.watched)
    _, *lines = str(view).split(f"\n{view.counts}")[0].splitlines()
    return "\n".join(line for line in lines if not re.match(r" {7}\S", line))  # an error's text has been shown already


def _wrapped(text: str) -> str:
    """Text of at most ``WIDTH`` columns; lines that fit stay as they are."""
    return "\n".join(
        line if len(line) <= WIDTH else textwrap.fill(line, WIDTH, break_on_hyphens=False, break_long_words=False)
        for line in text.splitlines()
    )


def _run(setup: Setup, run: Run) -> tuple[list[float], str]:
    """The losses of a loop, and what PyTorch said."""
    losses: list[float] = []
    with warnings.catch_warnings(record=True) as caught, _listening(losses):
        warnings.simplefilter("always")
        try:
            run(**setup())
        except RuntimeError as error:
            first = str(error).split(". ")[0].split(": [")[0]
            return losses, _wrapped(f"It raises RuntimeError: {first} ...")
    if caught:
        first = str(caught[0].message).split(". ")[0]
        return losses, _wrapped(f"It runs to its end, with a warning: {first} ...")
    return losses, "It runs to its end: no error, no warning."


@contextmanager
def _listening(losses: list[float]) -> Any:
    """Note the value of every loss on which ``backward`` is called."""
    backward = torch.Tensor.backward

    def listen(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        losses.append(self.item())
        return backward(self, *args, **kwargs)

    torch.Tensor.backward = listen  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.backward = backward  # type: ignore[method-assign]


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)
