"""A second model that follows another in its weights and not in its buffers: an average without statistics."""

from __future__ import annotations

from fnlib.ledger.entries import Entry, Event
from fnlib.ledger.findings.story import Rule, Story
from fnlib.ledger.findings.texts import code_of

ENOUGH = 3


class Follows(Rule):
    """Compares which weights and which buffers of two like models move."""

    whole = True

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.stepped: set[str] = set()  # owners of weights that an optimizer trains
        self.moves: dict[str, int] = {}  # statements that overwrite an owner's weights otherwise
        self.at: dict[str, Entry] = {}
        self.weights: dict[str, set[str]] = {}
        self.buffers: dict[str, dict[str, int]] = {}
        self.counted: dict[str, Entry] = {}  # forwards that count a batch, by layer
        self.used: set[str] = set()

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "step":
            self.stepped.update(map(self.story.owner, event.data["weights"]))
        elif event.kind == "forward" and not event.data["training"]:
            owner = self.story.owner(event.subject)
            if self.moves.get(owner, 0) >= ENOUGH:
                self.used.add(owner)

    def after(self, entry: Entry) -> None:
        stepped = any(
            event.kind == "step" for one in self.story.chain(entry) for event in one.events
        )
        for change in self.story.own(entry):
            if change.state == "buffer" and change.overwritten:
                if len(getattr(change.after, "shape", ())):  # not a counter
                    found = self.buffers.setdefault(change.owner, {})
                    found[change.place] = found.get(change.place, 0) + 1
                elif change.place.endswith("num_batches_tracked"):
                    self.counted[change.label.rpartition(".")[0]] = entry
            elif change.state == "weight" and change.overwritten and not stepped:
                self.moves[change.owner] = self.moves.get(change.owner, 0) + 1
                self.weights.setdefault(change.owner, set()).add(change.place)
                self.at[change.owner] = entry

    def end(self) -> None:
        for owner in self.used - self.stepped:
            if self.buffers.get(owner):
                continue
            for other in self.stepped - {owner}:
                moved = self.buffers.get(other, {})
                labels = [f"{owner}.{place}" for place, times in moved.items() if times >= ENOUGH]
                links = self.at[owner].links.weights
                twins = all(f"{other}.{place}" in links for place in self.weights[owner])
                for label in labels if twins else ():
                    at = self.at[owner]
                    because = "parameters() has no buffers, so BatchNorm's statistics keep their initial values."
                    cure = (
                        f"for mine, theirs in zip({code_of(owner)}.buffers(), {code_of(other)}.buffers()):\n"
                        "    mine.copy_(theirs)      # where the weights are averaged"
                    )
                    layer = label.rpartition(".")[0]
                    if layer in self.counted:
                        at = self.counted[layer]
                        because = "It runs in training mode with momentum 0, which keeps the old statistics."
                        cure = f"{code_of(layer)}.momentum = None      # a mean over all batches"
                    self.story.report(
                        "buffers-left-behind", "question", at, label,
                        copy=owner, other=other, because=because, cure=cure,
                    )  # fmt: skip
