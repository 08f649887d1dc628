"""Random draws of training that repeat: a generator is set back to the same state, round after round."""

from __future__ import annotations

from dataclasses import dataclass, field

from fnlib.ledger.entries import Entry, Event
from fnlib.ledger.findings.story import Rule, Story

ENOUGH = 3  # rounds with the same draws
_SEEDS = ("seed", "set_rng_state", "set_state", "setstate")


Rounds = tuple[tuple[str, int, int], ...]


@dataclass(eq=False, slots=True)
class Drawn:
    """A state of a generator after a statement, and the rounds in which a step followed."""

    rounds: set[Rounds] = field(default_factory=set)
    setter: Entry | None = None


class Draws(Rule):
    """States of PyTorch's, NumPy's and Python's generators after the statements that train.

    A generator's period is so long that a state comes back only if something sets it back.
    """

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.set_by: dict[str, Entry] = {}
        self.drawn: dict[tuple[str, object, tuple[str, str, int]], Drawn] = {}
        self.open: dict[str, list[tuple[Drawn, Rounds]]] = {}  # draws since the generator was set

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "step":
            step = self.story.rounds(entry)
            for one, around in (pair for some in self.open.values() for pair in some):
                if around and step[: len(around)] == around:  # in the same round of the same loop
                    one.rounds.add(around)
            self.open.clear()

    def after(self, entry: Entry) -> None:
        for change in entry.changes:
            if change.state != "random state" or change.owner != "random" or entry.inside:
                continue
            name = change.place
            if any(seed in entry.source for seed in _SEEDS):
                self.set_by[name] = entry
                self.open.pop(name, None)
            elif entry.has_source and not any(one.kind == "backward" for one in entry.events):
                key = (name, change.after, entry.where)
                one = self.drawn.setdefault(key, Drawn())
                self.open.setdefault(name, []).append((one, self.story.rounds(entry)))
                one.setter = self.set_by.get(name)

    def end(self) -> None:
        if self.story.reported("seed-repeated"):
            return
        for (name, _, _), one in self.drawn.items():
            if one.setter is not None and len(one.rounds) >= ENOUGH:
                around = self.story.rounds(one.setter)
                if around:  # a seed before the loop is set once
                    module = {"numpy": "NumPy", "python": "Python", "torch": "PyTorch"}
                    self.story.report(
                        "draws-repeated", "question", one.setter, f"random.{name}",
                        source=one.setter.source, fixed=f"{one.setter.source}      # at most once, before the loop",
                        said=f"resets {module.get(name, name)}'s generator to the same state in every "
                        "round, and training draws from it",
                        because="Each round then draws the same numbers: the same noise, the same "
                        "augmentation.",
                    )  # fmt: skip
