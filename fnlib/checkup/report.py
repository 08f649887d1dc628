"""How findings are shown: a short text, worst first, the fix as code."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable

from fnlib.ledger.entries import Finding

WIDTH = 96


class Report(tuple[Finding, ...]):
    """Findings, certain ones first. What a recording shows with its line is not said again without one."""

    def __new__(cls, findings: Iterable[Finding] = ()) -> Report:
        findings = list(findings)
        recorded = {finding.code for finding in findings if finding.line}
        kept: dict[tuple[str, str, int, str], Finding] = {}
        for finding in findings:
            if finding.line or finding.code not in recorded:
                kept.setdefault((finding.code, finding.file, finding.line, finding.place), finding)
        return super().__new__(cls, sorted(kept.values(), key=lambda finding: finding.severity != "certain"))

    @property
    def certain(self) -> tuple[Finding, ...]:
        """The findings that are bugs; the others may be meant."""
        return tuple(finding for finding in self if finding.severity == "certain")

    def text(self) -> str:
        """The report, one block a finding."""
        return "\n".join(_block(finding) for finding in self)

    def __repr__(self) -> str:
        if not self:
            return "<nothing found>"
        questions = len(self) - len(self.certain)
        return f"<{len(self.certain)} certain, {questions} question{'s' * (questions != 1)}>"

    def _ipython_display_(self) -> None:
        """The report has been printed when it was made; a notebook does not show it twice."""


def _block(finding: Finding) -> str:
    where = (
        f"{_short(finding.file)}:{finding.line}, " if finding.file and finding.line else f"line {finding.line}, " if finding.line else ""
    )
    lines = [f"{finding.severity.upper()} {finding.code}, {where}{finding.place}"]
    lines += textwrap.wrap(f"{finding.what} {finding.why}", WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
    lines += [f"        {line}" for line in finding.fix.splitlines()]
    if finding.link:
        lines.append(f"    met in {finding.link}")
    return "\n".join(lines)


def _short(file: str) -> str:
    """A path as seen from here, where that is shorter."""
    relative = os.path.relpath(file) if os.path.isabs(file) else file
    return min(relative, file, key=len)
