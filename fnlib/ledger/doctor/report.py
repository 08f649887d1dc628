"""How findings are shown: a short text, worst first, the fix as code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fnlib.ledger.entries import Finding
from fnlib.ledger.views.report import block

if TYPE_CHECKING:
    from fnlib.ledger import Ledger


def beside(standing: Iterable[Finding], ledger: Ledger) -> list[Finding]:
    """Findings on what stands, less those that a recording explains.

    A rate that the loop itself sets, as a schedule by hand does; weights that it freezes for a while, as a critic's are while the
    actor learns.
    """
    entries = ledger.walk()
    set_by_code = {
        change.label
        for entry in entries
        if not any(event.kind == "load_state_dict" for event in entry.events)
        for change in entry.changes
        if change.state == "group entry"
    }
    thawed = tuple(
        {
            change.label
            for entry in entries
            for change in entry.changes
            if change.state == "requires_grad flag" and change.after
        }
    )

    def explained(one: Finding) -> bool:
        if one.code.startswith("frozen-"):
            return any(
                label.startswith(f"{one.place.split(' ')[0].rstrip(',')}.") for label in thawed
            )
        return one.code == "rate-overwritten" and one.place in set_by_code

    return [one for one in standing if not explained(one)]


class Report(tuple[Finding, ...]):
    """Findings, certain ones first. What a recording shows with its line is not said again without one."""

    def __new__(cls, findings: Iterable[Finding] = ()) -> Report:
        findings = list(findings)
        recorded = {finding.code for finding in findings if finding.line}
        kept: dict[tuple[str, str, int, str], Finding] = {}
        for finding in findings:
            if finding.line or finding.code not in recorded:
                kept.setdefault((finding.code, finding.file, finding.line, finding.place), finding)
        return super().__new__(
            cls, sorted(kept.values(), key=lambda finding: finding.severity != "certain")
        )

    @property
    def certain(self) -> tuple[Finding, ...]:
        """The findings that are bugs; the others may be meant."""
        return tuple(finding for finding in self if finding.severity == "certain")

    def text(self) -> str:
        """The report, one block a finding."""
        return "\n".join(block(finding) for finding in self)

    def __repr__(self) -> str:
        if not self:
            return "<nothing found>"
        questions = len(self) - len(self.certain)
        return f"<{len(self.certain)} certain, {questions} question{'s' * (questions != 1)}>"

    def _ipython_display_(self) -> None:
        """The report has been printed when it was made; a notebook does not show it twice."""
