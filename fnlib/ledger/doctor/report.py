"""The report: what was seen, then the findings, worst first, each with the fix as code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fnlib.ledger.entries import Entry, Finding
from fnlib.ledger.views.report import block
from fnlib.ledger.views.words import counted, listed

SHOWN = 4  # models and optimizers named one by one
FIRST = 3  # findings that are shown in full
# Recorded findings that say more than the same fault in objects as they are.
_COVERS = {
    "snapshot-moved": "snapshot-shares-memory",
    "frozen-statistics-moved": "frozen-part-in-training-mode",
    "frozen-weight-moved": "frozen-weight-with-moments",
    "weight-stepped-twice": "weight-in-two-optimizers",
    "load-changed-rate": "rate-overwritten",
}
# The state that a finding is about: the statement that changed it last is the place to look at.
_STATES = {
    "modes-differ": "mode flag",
    "frozen-part-in-training-mode": "mode flag",
    "frozen-weight-with-moments": "requires_grad flag",
    "rate-overwritten": "group entry",
    "state-is-the-gradient": "optimizer state",
    "state-shared": "optimizer state",
    "tie-lost": "weight",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What was looked at: names of models, optimizers and other objects; what was recorded.

    ``steps`` is None where nothing was recorded; ``backwards`` counts backward passes;
    ``broken``: the recording broke off.
    """

    models: tuple[str, ...] = ()
    optimizers: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    steps: int | None = None
    backwards: int = 0
    left_out: tuple[str, ...] = ()
    broken: bool = False

    @property
    def little(self) -> bool:
        """Whether too little was seen to call anything healthy."""
        nothing = not (self.models or self.optimizers or self.others)
        return self.broken or (nothing if self.steps is None else not self.steps + self.backwards)

    def __str__(self) -> str:
        groups = (("model", self.models), ("optimizer", self.optimizers), ("value", self.others))
        said: list[str] = []
        for noun, names in groups:
            said += names if len(names) <= SHOWN else [counted(len(names), noun)]
        objects = listed(said) if said else "no model and no optimizer"
        if self.steps is None:
            return objects
        calls = f" and {counted(self.backwards, 'backward call')}" if not self.steps else ""
        return f"{counted(self.steps, 'optimizer step')}{calls} of {objects}"


class Report(tuple[Finding, ...]):
    """Findings, certain ones first.

    Args:
        recorded: findings of a recording.
        standing: findings in objects as they are. Of a code that the recording reports already,
            they are left out: the recording knows more.
        seen: what was looked at.
    """

    seen: Seen

    def __new__(
        cls, recorded: Iterable[Finding] = (), standing: Iterable[Finding] = (), seen: Seen = Seen()
    ) -> Report:
        kept = {(one.code, one.file, one.line, one.place): one for one in recorded}
        known = {one.code for one in kept.values()}
        futile = {
            (one.file, one.line) for one in kept.values() if one.code == "load-without-effect"
        }
        known |= {_COVERS[code] for code in known & _COVERS.keys()}
        for one in standing:
            aliased = one.code == "snapshot-shares-memory" and (one.file, one.line) in futile
            if one.code not in known and not aliased:
                kept.setdefault((one.code, one.file, one.line, one.place), one)
        report = super().__new__(cls, sorted(kept.values(), key=lambda one: one.severity))
        report.seen = seen
        return report

    @property
    def certain(self) -> tuple[Finding, ...]:
        """The findings that are bugs; the others may be meant."""
        return tuple(finding for finding in self if finding.severity == "certain")

    def text(self, *, whole: bool = False) -> str:
        """Write what was seen and what was left out, then the first findings in full.

        Args:
            whole: whether to write all findings in full; else those after the third are one line
                each.
        """
        verb = "looked at" if self.seen.steps is None else "recorded"
        lines = [f"{verb} {self.seen}: {self.outcome}"]
        lines += [f"    left out: {why}" for why in self.seen.left_out]
        blocks = [block(one) for one in self]
        if not whole and len(blocks) > FIRST:
            rest = [text.splitlines()[0] for text in blocks[FIRST:]]
            blocks[FIRST:] = [f"{len(rest)} more, each in one line:", *rest]
        return "\n".join([*lines, *blocks])

    @property
    def outcome(self) -> str:
        """How many findings there are, in words."""
        if not self:
            return "too little to judge" if self.seen.little else "nothing found"
        certain, questions = len(self.certain), len(self) - len(self.certain)
        return f"{certain} certain, {counted(questions, 'question')}"

    def __repr__(self) -> str:
        return f"<{self.outcome} in {self.seen}>"

    def _ipython_display_(self) -> None:
        """Show nothing: the report was printed when it was made."""


def explained(standing: Iterable[Finding], entries: Sequence[Entry]) -> list[Finding]:
    """Drop what a recording explains, and give each other finding the line to look at.

    A recording explains a rate that the loop itself sets, and weights that it freezes for a while.
    It has judged a weight in two optimizers if one of them has stepped: a gradient that both use
    is a finding of its own.

    Args:
        standing: findings in objects as they are.
        entries: all entries of the recording (``ledger.walk()``).
    """
    changes = [
        (change, any(event.kind == "load_state_dict" for event in entry.events))
        for entry in entries
        for change in entry.changes
    ]
    set_by_code = {
        one.label for one, loaded in changes if one.state == "group entry" and not loaded
    }
    thawed = [one.label for one, _ in changes if one.state == "requires_grad flag" and one.after]
    stepped = {
        weight
        for entry in entries
        for event in entry.events
        if event.kind == "step" and not event.data["wraps"]
        for weight in event.data["weights"]
    }
    kept = []
    for one in standing:
        if one.code == "set-without-effect":  # a padding row: of pretrained weights it may be meant
            at = _draw_of(_label(one), entries)
            kept += [] if at is None else [replace(one, file=at.file, line=at.line)]
            continue
        start = f"{_label(one)}."
        if one.code.startswith("frozen-") and any(label.startswith(start) for label in thawed):
            continue
        if one.code == "weight-in-two-optimizers" and _label(one) in stepped:
            continue
        if one.code != "rate-overwritten" or one.place not in set_by_code:
            kept.append(_located(one, entries))
    return kept


def _located(one: Finding, entries: Sequence[Entry]) -> Finding:
    """Add the statement that changed the state in question, built the object, or used it."""
    if one.line:
        return one
    label, state = _label(one), _STATES.get(one.code, "")
    owner = label.partition(".")[0]
    ranks: dict[int, Entry] = {}
    for entry in entries:
        if not entry.line or not entry.has_source:
            continue
        if any(change.state == state and _about(change.label, label) for change in entry.changes):
            ranks[0] = entry
        if state == "mode flag" and f"{owner}.train" in entry.reads:
            ranks[1] = entry
        if owner in entry.binds:
            ranks[2] = entry
        if any(_about(event.subject, owner) for event in entry.events):
            ranks.setdefault(3, entry)
    best = next((ranks[rank] for rank in sorted(ranks)), None)
    return one if best is None else replace(one, file=best.file, line=best.line)


def _label(one: Finding) -> str:
    """Return the first place of a finding, without "and 3 more"."""
    return one.place.split(" ")[0].rstrip(",")


def _draw_of(embedding: str, entries: Sequence[Entry]) -> Entry | None:
    """Return the last statement that draws the weight of an embedding, or of a layer that a loop names."""
    name = re.escape(embedding.rpartition(".")[2])
    weight = re.compile(rf"\.{name}\.weight|\b(?!self)\w+\.weight")
    draws = [one for one in entries if _DRAWS.search(one.source) and weight.search(one.source)]
    return draws[-1] if draws else None


_DRAWS = re.compile(r"(uniform|normal|orthogonal)_\(|rand\w*\(")


def _about(label: str, other: str) -> bool:
    """Say whether one of two labels is the other, or inside it."""
    return f"{label}.".startswith(f"{other}.") or f"{other}.".startswith(f"{label}.")
