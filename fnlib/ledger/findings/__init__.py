"""Silent bugs that a recording shows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from fnlib.ledger.entries import Entry, Finding
from fnlib.ledger.findings.attributes import Attributes
from fnlib.ledger.findings.batches import Batches
from fnlib.ledger.findings.checkpoints import Aside, Landing, Unsaved
from fnlib.ledger.findings.copies import (
    Data,
    KeptGraphs,
    References,
    Repeated,
    Residuals,
    Shared,
)
from fnlib.ledger.findings.draws import Draws
from fnlib.ledger.findings.effects import Freezes, Loads, Rebound, Unread
from fnlib.ledger.findings.elsewhere import Functional, Held, Memory, Ties
from fnlib.ledger.findings.evaluation import Leftovers, Masks, Stepping, Swapped
from fnlib.ledger.findings.follows import Follows
from fnlib.ledger.findings.gradients import Gradients
from fnlib.ledger.findings.graphs import Graphs
from fnlib.ledger.findings.loaders import Loaders
from fnlib.ledger.findings.modes import Modes
from fnlib.ledger.findings.pruning import Pruning
from fnlib.ledger.findings.rates import Rates
from fnlib.ledger.findings.replicas import Replicas
from fnlib.ledger.findings.rhythm import Anew, Rhythm
from fnlib.ledger.findings.schedules import Schedules
from fnlib.ledger.findings.seeds import Seeds
from fnlib.ledger.findings.snapshots import Snapshots
from fnlib.ledger.findings.stale import Growing, Stale
from fnlib.ledger.findings.story import Rule, Story
from fnlib.ledger.findings.terms import Squashed, Terms
from fnlib.ledger.findings.trained import Trained
from fnlib.ledger.findings.unused import Unused
from fnlib.ledger.findings.uses import Dropped, Edits, NeverStepped, Scaled
from fnlib.ledger.findings.zeros import Zeros

RULES = (
    Gradients,
    Held,
    Ties,
    Memory,
    Snapshots,
    Attributes,
    Modes,
    Rates,
    Graphs,
    Seeds,
    Functional,
    # who is trained, gradients that are used once, the rhythm
    Edits,
    Dropped,
    Scaled,
    Stale,
    Growing,
    Rhythm,
    Anew,
    Schedules,
    Draws,
    Batches,
    Loaders,
    Follows,
    Trained,
    Terms,
    Squashed,
    NeverStepped,
    Zeros,
    Unused,
    Replicas,
    *(Masks, Swapped, Stepping, Leftovers),  # does evaluation leave no trace and repeat itself?
    *(Unread, Rebound, Loads, Freezes),  # did what was done have an effect, and did it last?
    Pruning,
    *(References, Repeated, KeptGraphs, Data, Shared, Residuals),  # is what was kept a copy?
    *(Landing, Unsaved, Aside),  # does a checkpoint hold everything, and land where it came from?
)


def find(entries: Sequence[Entry]) -> list[Finding]:
    """Look for silent bugs in a recording.

    Args:
        entries: of a recording that has ended, or of a part of one.

    Returns:
        The findings, the certain ones first. A ``certain`` finding is a bug; a ``question`` may be meant.

    Example:
        >>> import torch, fnlib
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with fnlib.Ledger(model=model, optimizer=optimizer) as ledger:
        ...     for _ in range(2):
        ...         loss = model(torch.ones(1, 2)).sum()
        ...         loss.backward()
        ...         optimizer.step()
        >>> [(finding.code, finding.severity) for finding in find(ledger.entries)]
        [('gradient-used-twice', 'certain')]
    """
    pauses = [at for at, entry in enumerate(entries) if entry.kind == "gap"]
    story = Story(list(entries[: pauses[0]] if pauses else entries))
    rules: list[Rule] = [rule(story) for rule in RULES]
    story.tell(rules)
    for at, end in pairwise([*pauses, len(entries)]):
        story = Story(list(entries[at + 1 : end]), after=story)
        story.before = entries[at].links
        rules = [rule.go_on(story) for rule in rules]
        story.tell(rules)
    return story.findings()
