"""A read that is stale: the network ran after a step, and its graph still has the weights of before."""

from __future__ import annotations

from fnlib.ledger.entries import Entry, Event
from fnlib.ledger.findings.story import Rule, Story, in_iteration

ENOUGH = 3  # backward passes that reach more than the one before


class Stale(Rule):
    """Compares when a weight was read for a backward with when it was stepped last."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.stepped: dict[str, Event] = {}
        self.ran: dict[str, Event] = {}
        self.seen: dict[tuple[str, str, int], int] = {}

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "step" and not event.data["closure"]:
            self.stepped.update(dict.fromkeys(event.data["weights"], event))
        elif event.kind == "forward" and event.data["grad_enabled"]:
            self.ran[event.subject] = event
        elif event.kind == "backward" and not event.data["raised"]:
            stale = [
                place
                for place, uses in event.data["weights"].items()
                if place in self.stepped and uses and max(uses) < self.stepped[place].entry
            ]
            if stale:
                seen = self.seen[entry.where] = self.seen.get(entry.where, 0) + 1
                for place in stale if seen > 1 else ():
                    self.report(entry, event, place)

    def has_run(self, place: str) -> bool:
        """Say whether a weight's module ran after the weight's last step."""
        step = self.stepped[place]
        return any(
            event.order > step.order and place.startswith(f"{part}.")
            for part, event in self.ran.items()
        )

    def report(self, entry: Entry, event: Event, place: str) -> None:
        """Report the backward that follows old weights."""
        step = self.story.by_index[self.stepped[place].entry]
        cached = "autocast keeps its casts of the weights until it ends or its cache is cleared"
        if event.data["autocast"]:
            cure = f"{step.source}\ntorch.clear_autocast_cache()      # or enter autocast for each forward anew"
        else:
            cached = "Something keeps what the forward computed from the old weights"
            cure = "# compute what depends on the weights anew after each step"
        ran = self.has_run(place)
        self.story.report(
            "stale-weights", "certain" if ran else "question", entry, place, step=step.line,
            though="though the model has run since" if ran else "as nothing has run since",
            cached=cached, cure=cure,
        )  # fmt: skip


class Growing(Rule):
    """A backward whose graph holds that of its earlier runs, though a step came in between."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.uses: dict[tuple[str, str, int], dict[str, set[int]]] = {}
        self.stepped: set[str] = set()
        self.times: dict[tuple[str, str, int], int] = {}
        self.last: dict[tuple[str, str, int], tuple[Entry, Event]] = {}

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "step" and not event.data["closure"]:
            self.stepped.update(event.data["weights"])
        elif event.kind == "backward" and not event.data["raised"]:
            now = {place: set(uses) for place, uses in event.data["weights"].items()}
            before = self.uses.get(entry.where, {})
            grown = [
                place for place, uses in now.items()
                if place in self.stepped and before.get(place) and uses > before[place]
            ]  # fmt: skip
            if grown and len(grown) == len(now):
                self.times[entry.where] = self.times.get(entry.where, 0) + 1
                self.last[entry.where] = (entry, event)
            self.uses[entry.where] = now
            self.stepped -= now.keys()

    def end(self) -> None:
        told = ("weights-moved-before-backward", "graph-used-twice", "graph-kept")
        for where, times in self.times.items():
            if times < ENOUGH or self.story.reported(*told):
                continue
            entry, event = self.last[where]
            name = event.subject or entry.source
            for place in event.data["weights"]:
                self.story.report(
                    "graph-kept", "question", entry, place, name=name, nodes=event.data["nodes"],
                    when=in_iteration(entry),
                    fixed=f"{entry.source}\n{name} = {name}.detach()      # its next graph starts here"
                    if event.subject
                    else "loss.backward()      # of this batch only\ntotal += loss.item()",
                )  # fmt: skip
