"""What is the rhythm? Weights that are no numbers any more: steps that follow a gradient of nan."""

from __future__ import annotations

from dataclasses import dataclass

from fnlib.ledger.entries import Entry, Event
from fnlib.ledger.findings.story import Rule, Story, norm_after

ENOUGH = 3  # steps in a row; a loop that looks at its loss stops or goes back before
SOUND = 20  # steps before them: a run that is lost at once shows it to whoever looks at its loss


@dataclass(eq=False, slots=True)
class Lost:
    """The first of some steps in a row with a gradient of nan."""

    entry: Entry
    event: Event
    steps: int = 0


class Numbers(Rule):
    """Follows which gradients are nan, and the steps that use them to the end of the recording."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.poor: set[str] = set()  # weights whose gradient is nan
        self.lost: dict[str, Lost] = {}
        self.sound = 0  # steps without such a gradient

    def go_on(self, story: Story) -> Rule:
        later = type(self)(story)
        later.sound = self.sound
        return later

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "step":
            self.sound += self.poor.isdisjoint(event.data["weights"])
            for weight in event.data["weights"]:
                if weight in self.poor:
                    self.lost.setdefault(weight, Lost(entry, event)).steps += 1
                else:
                    self.lost.pop(weight, None)

    def after(self, entry: Entry) -> None:
        for change in entry.changes:
            norm = norm_after(change)
            if change.state == "gradient":
                weight = change.label.removesuffix(".grad")
                (self.poor.discard if norm is None or norm == norm else self.poor.add)(weight)
            elif change.state == "weight" and norm is not None and norm == norm:
                self.lost.pop(change.label, None)
        if any(event.kind == "scaler step" for event in entry.all_events):
            self.lost.clear()  # it leaves steps out

    def end(self) -> None:
        for weight, one in self.lost.items():
            if one.steps >= ENOUGH and self.sound >= SOUND:
                self.story.report(
                    "weight-is-nan", "question", one.entry, weight,
                    optimizer=one.event.subject, number=one.steps,
                )  # fmt: skip
