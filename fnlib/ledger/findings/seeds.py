"""Randomness: seeds that make training repeat its noise, and networks that draw their weights in another order."""

from __future__ import annotations

from typing import Any

from fnlib.ledger.entries import Entry, Event
from fnlib.ledger.findings.story import Rule, Story


class Seeds(Rule):
    """Where PyTorch's generator stood after the statements that drew from it."""

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
        stands = next(
            (change.after for change in self.story.own(entry) if change.label == "random.torch"),
            None,
        )
        if (
            stands is None
            or self.seeded is None
            or any(event.kind == "seed" for event in entry.events)
        ):
            return
        seeding, seed = self.seeded
        if training:
            earlier, seeds = self.drew.setdefault(stands, (entry, self.seeds))
            if (
                seeds < self.seeds
            ):  # else no seed brought the state back: checkpointed activations are computed again from it
                fields: dict[str, Any] = {"earlier": earlier.line, "seed": seed}
                self.story.report("seed-repeated", "question", seeding, "random.torch", **fields)
        if self.fresh and seed is not None:
            self.fresh = False
            if any(
                change.state == "name" and getattr(change.after, "is_module", False)
                for change in entry.changes
            ):
                first, stood = self.built.setdefault(seed, (entry, stands))
                if stood != stands:
                    fields = {"earlier": first.line, "seed": seed}
                    self.story.report("draws-shifted", "question", entry, "random.torch", **fields)
