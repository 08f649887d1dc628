"""A step that follows two losses: its own, and one that ran through its weights to another part.

The generator's loss of a GAN runs through the discriminator, the actor's through the critic. With
both steps at the end, the discriminator's step finds both gradients. A part that two losses share
on purpose looks much the same, so the rule is narrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fnlib.ledger.entries import Entry, Event
from fnlib.ledger.findings.story import Rule, Story


@dataclass(frozen=True, slots=True)
class Use:
    """A step that used the gradient of a weight."""

    optimizer: str
    token: int | None  # optimizers that are not watched share a label
    line: int
    weight: str
    order: int


@dataclass(eq=False, slots=True)
class Deposit:
    """One backward pass: the weights that it ``reached``, and the steps that used its gradients.

    ``reached`` also has the statements that used each weight in the forward.
    """

    entry: Entry
    order: int
    reached: Mapping[str, list[int]]
    used: list[Use] = field(default_factory=list)

    def unused(self, weight: str) -> bool:
        """Say whether no step has used it on a weight."""
        return all(use.weight != weight for use in self.used)


@dataclass(eq=False, slots=True)
class Step:
    """One step: the weights that had a gradient, all that its optimizer holds, and its deposits."""

    entry: Entry
    optimizer: str
    weights: tuple[str, ...]
    holds: frozenset[str]
    passes: dict[Deposit, None]


class Crossing(Rule):
    """Compares each step with the last one of every other optimizer; `Gradients` calls it."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.last: dict[int, Step] = {}
        self.calls: dict[int, list[Event]] = {}
        self.outer: dict[int, int] = {}

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "forward":
            self.calls.setdefault(entry.index, []).append(event)

    def after(self, entry: Entry) -> None:
        self.outer.update((inner.index, entry.index) for inner in entry.inside)

    def step(self, entry: Entry, event: Event, held: dict[str, list[Deposit]]) -> None:
        """Compare a step with the others; ``held`` are the deposits in each gradient."""
        weights, token = event.data["weights"], event.data["token"]
        passes = {deposit: None for weight in weights for deposit in held.get(weight, ())}
        holds = frozenset((*weights, *event.data["without"]))
        step = Step(entry, event.subject, weights, holds, passes)
        for key, other in self.last.items():
            if key != token:
                self.judge(step, other)
                self.judge(other, step)
        self.last[token] = step

    def judge(self, mine: Step, other: Step) -> None:
        """Report a step that follows its own loss and one that the other step follows too."""
        both = (one for one in mine.passes if one in other.passes)
        crossing = sorted(both, key=lambda one: one.order)
        own = [one for one in mine.passes if one not in other.passes]
        rest = [one for one in other.passes if one not in mine.passes]
        if not crossing:
            return
        if _reached([*crossing, *own]) - mine.holds - other.holds or _reached(rest) - other.holds:
            return  # more than two optimizers train a part, or each loss goes everywhere
        shared = _reached(crossing) & mine.holds
        if shared != _reached(own) & mine.holds:
            return  # one of the losses does not use some parts: a separate head or stem
        if {one.entry.where for one in own} & {one.entry.where for one in crossing}:
            return  # one line, run several times: gradients are accumulated
        if all(self.last_call(one, mine) >= 0 for one in own) and all(
            self.last_call(one, mine) > self.last_call(one, other) >= 0 for one in crossing
        ):
            for weight in mine.weights:
                if weight in shared:
                    self.story.report(
                        "gradient-of-another-loss", "question", mine.entry, weight,
                        optimizer=mine.optimizer, other=other.optimizer,
                        earlier=crossing[-1].entry.line, backward=own[-1].entry.source,
                    )  # fmt: skip

    def last_call(self, deposit: Deposit, side: Step) -> int:
        """Return when a forward last called a module with weights of one side alone; -1: never.

        A decoder runs after its encoder, a discriminator after its generator: who ran last is
        nearer to the loss.
        """
        there = _reached([deposit])
        places = {use for weight in there & side.holds for use in deposit.reached[weight]}
        waiting = list(places)
        while waiting:
            outer = self.outer.get(waiting.pop())
            if outer is not None and outer not in places:
                places.add(outer)
                waiting.append(outer)
        last = -1
        for call in (call for place in places for call in self.calls.get(place, ())):
            has = self.story.weights_of(call.subject, side.entry.links) & there
            if last < call.order < deposit.order and has and has <= side.holds:
                last = call.order
        return last


def _reached(passes: Iterable[Deposit]) -> set[str]:
    return {weight for one in passes for weight in one.reached}
