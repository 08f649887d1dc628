"""How findings read: a block each with what, why, the fix as code, and a page about it."""

from __future__ import annotations

import textwrap

from fnlib.ledger.entries import Finding
from fnlib.show.location import short, where

WIDTH = 96


class Findings(list[Finding]):
    """A list of findings that reads as a report where it is shown.

    >>> Findings([Finding("no-effect", "question", 3, "optimizer", "It steps twice.", "The second adds nothing.", "optimizer.step()")])
    QUESTION no-effect, line 3, optimizer
        It steps twice. The second adds nothing.
            optimizer.step()
    >>> Findings()
    nothing found
    """

    def __repr__(self) -> str:
        return "\n".join(map(block, self)) or "nothing found"


def block(finding: Finding) -> str:
    """Write one finding in lines of at most 96 columns."""
    place = f"line {finding.line}, " if finding.line else ""
    if finding.line and finding.file:
        place = f"{where(short(finding.file), finding.line)}, "
    lines = [f"{finding.severity.upper()} {finding.code}, {place}{finding.place}"]
    lines += textwrap.wrap(
        f"{finding.what} {finding.why}", WIDTH, break_on_hyphens=False,
        initial_indent="    ", subsequent_indent="    ",
    )  # fmt: skip
    lines += [f"        {line}" for line in finding.fix.splitlines()]
    if finding.link:
        lines.append(f"    seen in {finding.link}")
    return "\n".join(lines)
