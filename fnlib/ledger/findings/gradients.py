"""Gradients that stay, are thrown away, or are used twice; frozen weights that move.

For every weight we know which backward passes its ``.grad`` contains, and which steps used each.
"""

from __future__ import annotations

from collections.abc import Iterable

from fnlib.ledger.entries import Change, Entry, Event
from fnlib.ledger.findings.crossing import Crossing, Deposit, Use
from fnlib.ledger.findings.story import Rule, Story, norm_after
from fnlib.ledger.findings.texts import code_of


class Gradients(Rule):
    """Deposits of backward passes in ``.grad``, and the steps that use them."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.held: dict[str, list[Deposit]] = {}
        self.thrown: dict[str, Deposit] = {}
        self.zero: set[str] = set()
        self.stepped: dict[str, tuple[str, bool]] = {}
        self.known: set[int] = set()  # statements whose writes to .grad are accounted for
        self.closure: tuple[Entry, Event] | None = None  # the step whose closure runs
        self.evaluated: dict[str, bool] = {}  # deposited by a closure; has the weight moved since?
        self.summed: dict[str, tuple[Entry, Event]] = {}  # the steps that use such sums
        self.crossing = Crossing(story)

    def event(self, entry: Entry, event: Event) -> None:
        self.crossing.event(entry, event)
        if event.kind == "backward" and not event.data.get("raised"):
            self.known.add(entry.index)
            deposit = Deposit(entry, event.order, event.data["weights"])
            if self.closure is not None and self.closure[0] is not entry:  # its lines are recorded
                self.evaluate(self.closure, deposit.reached)
            for weight in deposit.reached:
                self.held.setdefault(weight, []).append(deposit)
                self.zero.discard(weight)
        elif event.kind == "zero_grad":
            cleared = self.story.weights_of(event.subject, entry.links)
            for weight in cleared.union(event.data["weights"]):
                self.known.add(entry.index)
                self.clear(weight)
        elif event.kind == "step" and event.data.get("closure"):
            self.closure = entry, event
            for weight in event.data["weights"]:  # computed inside the step, as often as it likes
                self.held.pop(weight, None)
        elif event.kind == "step" and not event.data["wraps"]:
            self.step(entry, event)  # a wrapper (Lookahead, SAM) lets another optimizer step

    def clear(self, weight: str) -> None:
        """Drop a gradient; remember a backward that no step has used."""
        self.evaluated.pop(weight, None)
        for deposit in self.held.pop(weight, ()):
            if deposit.unused(weight):
                self.thrown[weight] = deposit

    def step(self, entry: Entry, event: Event) -> None:
        """Judge what a step uses, and note that it did."""
        weights, token = event.data["weights"], event.data["token"]
        for weight in weights:
            held = self.held.get(weight, [])
            for deposit in held:
                self.judge(entry, event, weight, deposit)
            fresh = any(deposit.unused(weight) for deposit in held)
            self.stepped[weight] = (event.subject, fresh)
        for weight in weights:
            use = Use(event.subject, token, entry.line, weight, event.order)
            for deposit in self.held.get(weight, ()):
                deposit.used.append(use)
        self.crossing.step(entry, event, self.held)
        self.judge_nothing(entry, event.subject, [*weights, *event.data["without"]])

    def judge(self, entry: Entry, event: Event, weight: str, deposit: Deposit) -> None:
        """Report a backward that was used before, on this weight or by another optimizer."""
        optimizer, token = event.subject, event.data["token"]
        here = [use for use in deposit.used if use.weight == weight]
        elsewhere = [use for use in deposit.used if use.token != token]
        if here:
            last = here[-1]
            said = "it has already used in an earlier step"
            if last.line != entry.line:
                said = f"its step at line {last.line} has already used"
            sizes = {
                name: len(entry.links.held.get(name, ())) for name in (optimizer, last.optimizer)
            }
            larger, smaller = sorted((optimizer, last.optimizer), key=sizes.__getitem__)[::-1]
            self.story.report(
                "gradient-used-twice" if last.token == token else "weight-stepped-twice",
                "certain", entry, weight, optimizer=optimizer, other=last.optimizer,
                earlier=last.line, used=said, bare=self._bare(), larger=larger, smaller=smaller,
                when="once for each step, before backward",
            )  # fmt: skip
        elif elsewhere and any(one.order > elsewhere[0].order for one in self.held[weight]):
            self.story.report(
                "gradient-of-another-loss", "question", entry, weight, optimizer=optimizer,
                other=elsewhere[0].optimizer, earlier=deposit.entry.line,
                backward=self.held[weight][-1].entry.source,
            )  # fmt: skip

    def _bare(self) -> str:
        """Point out a line that names ``zero_grad`` and lacks the parentheses."""
        for entry in self.story.by_index.values():
            code = entry.source.partition("#")[0].rstrip()
            if code.endswith(".zero_grad"):
                called = "without parentheses nothing is called"
                return f" Line {entry.line} only names {code}: {called}."
        return ""

    def judge_nothing(self, entry: Entry, optimizer: str, weights: list[str]) -> None:
        """Report a step that finds no gradient although a backward was made for it."""
        if not any(self.held.get(weight) for weight in weights):
            for weight in weights:
                if weight in self.thrown:
                    self.story.report(
                        "gradient-thrown-away", "certain", entry, weight, optimizer=optimizer,
                        earlier=self.thrown[weight].entry.line,
                        backward=self.thrown[weight].entry.source,
                    )  # fmt: skip
        for weight in weights:
            self.thrown.pop(weight, None)

    def evaluate(self, closure: tuple[Entry, Event], weights: Iterable[str]) -> None:
        """Note a backward of a closure, and the weights that have moved since its last one."""
        for weight in weights:
            if self.evaluated.get(weight):
                self.summed.setdefault(weight, closure)
            self.evaluated[weight] = False

    def after(self, entry: Entry) -> None:
        self.crossing.after(entry)
        if self.closure is not None and self.closure[0] is entry:
            self.closure = None
        for change in self.story.own(entry):
            if change.state == "gradient":
                self.written(entry, change, change.label.removesuffix(".grad"))
            elif change.label in self.evaluated and change.moved:
                self.evaluated[change.label] = True
            elif change.state == "weight" and change.label in self.stepped and change.moved:
                self.judge_move(entry, change.label)
        self.stepped.clear()

    def written(self, entry: Entry, change: Change, weight: str) -> None:
        """Follow a write to a gradient: cleared, scaled before a step, or set by hand."""
        zero = norm_after(change) == 0.0
        if entry.index not in self.known:
            scaled_for_a_step = any(one.unused(weight) for one in self.held.get(weight, ()))
            if zero or change.kind == "removed":
                self.clear(weight)
            elif not scaled_for_a_step:
                self.held.pop(weight, None)  # where it comes from is unknown
        by_backward = any(event.kind == "backward" for event in entry.events)
        (self.zero.add if zero and not by_backward else self.zero.discard)(weight)

    def end(self) -> None:
        for weight, (entry, event) in self.summed.items():
            known = event.data["type"].startswith("torch.optim.")  # another's sum may be meant
            self.story.report(
                "gradient-used-twice", "certain" if known else "question", entry, weight,
                optimizer=event.subject, used="an earlier evaluation of the closure left behind",
                bare=self._bare(), when="first in the closure",
            )  # fmt: skip

    def judge_move(self, entry: Entry, weight: str) -> None:
        """Report a step that moves a frozen weight, or one without gradient."""
        optimizer, fresh = self.stepped[weight]
        flags = (entry.links.flags.get(weight), self.story.before.flags.get(weight, False))
        if flags == (False, False) and fresh:
            code, severity = "frozen-after-backward", "question"
        elif flags == (False, False):
            code, severity = "frozen-weight-moved", "certain"
        elif weight in self.zero:
            code, severity = "moved-without-gradient", "question"
        else:
            return
        cure = f"{code_of(weight)}.grad = None      # the optimizer then skips it"
        fields = {"optimizer": optimizer, "zero": "everywhere", "cure": cure}
        self.story.report(code, severity, entry, weight, **fields)  # type: ignore[arg-type]
