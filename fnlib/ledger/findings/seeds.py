"""Randomness: seeds that make training repeat its noise, and networks that draw in another order."""

from __future__ import annotations

from typing import Any

from fnlib.ledger.entries import Entry, Event
from fnlib.ledger.findings.story import Rule, Story


class Seeds(Rule):
    """The state of PyTorch's generator after the statements that drew from it."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.seeded: tuple[Entry, object] | None = None
        self.seeds = 0
        self.drew: dict[object, tuple[Entry, int]] = {}
        self.built: dict[object, tuple[Entry, object]] = {}
        self.fresh = self.training = False

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "seed" and event.subject == "torch":
            self.seeded, self.fresh = (entry, event.data.get("seed")), True
            self.seeds += 1
        elif event.kind == "forward" and event.data["stateful"] and event.data["grad_enabled"]:
            self.training = True

    def after(self, entry: Entry) -> None:
        training, self.training = self.training, False
        own = self.story.own(entry)
        state = next((change.after for change in own if change.label == "random.torch"), None)
        sets = any(event.kind == "seed" for event in entry.events)
        if state is None or self.seeded is None or sets:
            return
        seeding, seed = self.seeded
        if training:
            earlier, seeds = self.drew.setdefault(state, (entry, self.seeds))
            if seeds < self.seeds:  # else no seed did it: checkpointed activations are recomputed
                self.report("seed-repeated", seeding, earlier, seed)
        if self.fresh and seed is not None:
            self.fresh = False
            names = (change.after for change in entry.changes if change.state == "name")
            if any(getattr(value, "is_module", False) for value in names):
                first, known = self.built.setdefault(seed, (entry, state))
                if known != state:
                    self.report("draws-shifted", entry, first, seed)

    def report(self, code: str, entry: Entry, earlier: Entry, seed: object) -> None:
        """Report a repetition or a shift of random draws."""
        fields: dict[str, Any] = {"earlier": earlier.line, "seed": seed}
        self.story.report(code, "question", entry, "random.torch", **fields)
