"""Does a checkpoint land where it came from? Moments that a load gives to another weight."""

from __future__ import annotations

from typing import Any

from fnlib.ledger.entries import Change, Entry, Event
from fnlib.ledger.findings.story import Rule, Story

_Contents = tuple[Any, ...]


class Landing(Rule):
    """Moments that were of one weight and are loaded for another of the same shape.

    `Optimizer.load_state_dict` goes by position, `Module.load_state_dict` by name. So after both,
    a weight may be where it came from and its moments may not: two facts that contradict each
    other.
    """

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.origins: dict[_Contents, set[str]] = {}  # which weights had these contents, or moments
        self.weights: dict[str, _Contents] = {}  # as a load has set them
        self.landed: list[tuple[Entry, Change, str, set[str]]] = []
        self.order: dict[str, dict[str, None]] = {}  # of the weights in the state that was saved

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "step" and self.landed:
            self.judge()

    def after(self, entry: Entry) -> None:
        loads = {event.subject for event in entry.events if event.kind == "load_state_dict"}
        for change in self.story.own(entry):
            contents = _contents(change)
            if contents is None:
                continue
            if change.state == "weight":
                self.weights.pop(change.label, None)
                if loads:
                    self.weights[change.label] = contents
                else:
                    self.origins.setdefault(contents, set()).add(change.label)
            elif change.state == "optimizer state":
                weight = change.place.rpartition(".")[0]
                if not loads:
                    self.origins.setdefault(contents, set()).add(weight)
                elif contents in self.origins:
                    came = set(self.origins[contents])
                    self.landed.append((entry, change, weight, came))
                    self.order.setdefault(change.owner, {})[self.relative(min(came))] = None

    def end(self) -> None:
        self.judge()

    def judge(self) -> None:
        """Compare where the moments came from with where the weight came from."""
        for entry, change, weight, came in self.landed:
            origin = self.origins.get(self.weights.get(weight, ()), set())
            if origin and not origin & came:
                names = ", ".join(f'"{name}"' for name in self.order[change.owner])
                self.story.report(
                    "moments-of-another-weight", "certain", entry, change.label, per=change.owner,
                    optimizer=change.owner, here=min(origin), other=min(came), names=names,
                    model=self.story.owner(change.place), source=entry.source,
                )  # fmt: skip
        self.landed.clear()
        self.order.clear()

    def relative(self, weight: str) -> str:
        """Return a weight's name in its model."""
        return weight.removeprefix(self.story.owner(weight)).removeprefix(".")


def _contents(change: Change) -> _Contents | None:
    """Return what tells the numbers of a tensor from others; ``None`` for zeros and single ones."""
    norm, shape = getattr(change.after, "norm", None), getattr(change.after, "shape", ())
    if not norm or not shape:
        return None
    kind = "" if change.state == "weight" else change.place.rpartition(".")[2]
    return kind, shape, change.after.fingerprint
