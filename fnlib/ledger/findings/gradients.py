"""Gradients that stay, are thrown away, or are used twice; frozen weights that move.

For every weight it is known which backward passes lie in its ``.grad``, and which steps have used each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fnlib.ledger.entries import Change, Entry, Event
from fnlib.ledger.findings.crossing import Crossing
from fnlib.ledger.findings.story import Rule, Story, norm_after


@dataclass(eq=False, slots=True)
class Deposit:
    """One backward pass: the weights that it ``reached``, and the statements that used each of them in its forward.

    ``used`` says who has used what it left in ``.grad``: (optimizer, line, weight, order, its token).
    """

    entry: Entry
    order: int
    reached: Mapping[str, list[int]]
    used: list[tuple[str, int, str, int, int | None]] = field(default_factory=list)

    @property
    def weights(self) -> set[str]:
        """The weights on which a step has used it."""
        return {used[2] for used in self.used}


class Gradients(Rule):
    """Deposits of backward passes in ``.grad``, and the steps that draw on them."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.lies: dict[str, list[Deposit]] = {}
        self.thrown: dict[str, Deposit] = {}
        self.zero: set[str] = set()
        self.stepped: dict[str, tuple[str, bool]] = {}
        self.knows: set[int] = set()
        self.crossing = Crossing(story)

    def event(self, entry: Entry, event: Event) -> None:
        self.crossing.event(entry, event)
        if event.kind == "backward" and not event.data.get("raised"):
            self.knows.add(entry.index)
            deposit = Deposit(entry, event.order, event.data["weights"])
            for weight in event.data["weights"]:
                self.lies.setdefault(weight, []).append(deposit)
                self.zero.discard(weight)
        elif event.kind == "zero_grad":
            for weight in {
                *event.data["weights"],
                *self.story.weights_of(event.subject, entry.links),
            }:
                self.knows.add(entry.index)
                self.clear(weight)
        elif (
            event.kind == "step" and not event.data["wraps"]
        ):  # one that wraps another (Lookahead, SAM) has it use the gradients
            self.step(entry, event)

    def clear(self, weight: str) -> None:
        """A gradient is gone; remember a backward that nobody has used."""
        for deposit in self.lies.pop(weight, ()):
            if weight not in deposit.weights:
                self.thrown[weight] = deposit

    def step(self, entry: Entry, event: Event) -> None:
        """A step uses what lies in the gradients of its weights."""
        optimizer, weights = event.subject, event.data["weights"]
        if event.data.get(
            "closure"
        ):  # its gradients are computed inside the step, as often as it likes
            for weight in weights:
                self.lies.pop(weight, None)
            return
        for weight in weights:
            lying = self.lies.get(weight, [])
            for deposit in lying:
                self.judge(entry, event, weight, deposit, lying)
            self.stepped[weight] = (
                optimizer,
                any(weight not in deposit.weights for deposit in lying),
            )
        for weight in weights:
            for deposit in self.lies.get(weight, ()):
                deposit.used.append(
                    (optimizer, entry.line, weight, event.order, event.data["token"])
                )
        self.crossing.step(entry, event, self.lies)
        self.judge_nothing(entry, optimizer, [*weights, *event.data["without"]])

    def judge(
        self, entry: Entry, event: Event, weight: str, deposit: Deposit, lying: list[Deposit]
    ) -> None:
        """Has this backward been used before, here or elsewhere?"""
        optimizer, token = (
            event.subject,
            event.data["token"],
        )  # optimizers that are not watched share a label
        here = [used for used in deposit.used if used[2] == weight]
        if here:
            other, line, *_ = here[-1]
            code = "gradient-used-twice" if here[-1][4] == token else "weight-stepped-twice"
            used = (
                "it used when it ran before"
                if line == entry.line
                else f"its step at line {line} has used already"
            )
            pair = (optimizer, other)

            def size(name: str) -> int:
                return len(entry.links.held.get(name, ()))

            said: dict[str, Any] = {
                "optimizer": optimizer,
                "other": other,
                "earlier": line,
                "used": used,
                "bare": self._bare(),
                "larger": max(pair, key=size),
                "smaller": min(reversed(pair), key=size),
            }
            self.story.report(code, "certain", entry, weight, **said)
            return
        elsewhere = [used for used in deposit.used if used[4] != token]
        if elsewhere and any(later.order > elsewhere[0][3] for later in lying):
            self.story.report(
                "gradient-of-another-loss", "question", entry, weight,
                optimizer=optimizer, other=elsewhere[0][0], earlier=deposit.entry.line,
            )  # fmt: skip

    def _bare(self) -> str:
        """What to add where a line names ``zero_grad`` and lacks the parentheses."""
        for entry in self.story.by_index.values():
            code = entry.source.partition("#")[0].rstrip()
            if code.endswith(".zero_grad"):
                return (
                    f" Line {entry.line} only names {code}: without parentheses nothing is called."
                )
        return ""

    def judge_nothing(self, entry: Entry, optimizer: str, weights: list[str]) -> None:
        """Did the step find nothing although a backward had been made for it?"""
        thrown = [weight for weight in weights if weight in self.thrown]
        if thrown and not any(self.lies.get(weight) for weight in weights):
            for weight in thrown:
                line = self.thrown[weight].entry.line
                self.story.report(
                    "gradient-thrown-away",
                    "certain",
                    entry,
                    weight,
                    optimizer=optimizer,
                    earlier=line,
                )
        for weight in weights:
            self.thrown.pop(weight, None)

    def after(self, entry: Entry) -> None:
        self.crossing.after(entry)
        for change in self.story.own(entry):
            if change.state == "gradient":
                self.written(entry, change, change.label.removesuffix(".grad"))
            elif change.state == "weight" and change.label in self.stepped and change.moved:
                self.judge_move(entry, change.label)
        self.stepped.clear()

    def written(self, entry: Entry, change: Change, weight: str) -> None:
        """A gradient was written: by a backward, by clearing it, by scaling it before a step, or by hand."""
        empty = change.kind == "removed" or norm_after(change) == 0.0
        if entry.index not in self.knows:
            scaled_for_a_step = any(
                weight not in deposit.weights for deposit in self.lies.get(weight, ())
            )
            if empty:
                self.clear(weight)
            elif not scaled_for_a_step:
                self.lies.pop(weight, None)  # whose it is now cannot be told
        made_zero = norm_after(change) == 0.0 and not any(
            event.kind == "backward" for event in entry.events
        )
        (self.zero.add if made_zero else self.zero.discard)(weight)

    def judge_move(self, entry: Entry, weight: str) -> None:
        """A step moved this weight: was it meant to stand still?"""
        optimizer, fresh = self.stepped[weight]
        frozen = (
            entry.links.flags.get(weight) is False
            and self.story.before.flags.get(weight, False) is False
        )
        if frozen and fresh:
            self.story.report(
                "frozen-after-backward", "question", entry, weight, optimizer=optimizer
            )
        elif frozen:
            self.story.report("frozen-weight-moved", "certain", entry, weight, optimizer=optimizer)
        elif weight in self.zero:
            self.story.report(
                "moved-without-gradient", "question", entry, weight, optimizer=optimizer
            )
