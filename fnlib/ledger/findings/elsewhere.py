"""Steps that miss their weights: weights nobody holds, lost ties, shared state, ignored results."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Mapping, Sequence

from fnlib.ledger.entries import Change, Entry, Event, Links
from fnlib.ledger.findings.story import Rule, Severity, Story, rule_of
from fnlib.ledger.findings.texts import code_of

NAMES = 8  # of one weight that are compared with each other


class Held(Rule):
    """Weights that get a gradient while the optimizers hold tensors that get none."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.reached: dict[str, Entry] = {}

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "backward" and not event.data.get("raised"):
            self.reached.update(dict.fromkeys(event.data["weights"], entry))
        elif event.kind == "step" and not event.data.get("closure"):
            held = {token for tokens in entry.links.held.values() for token in tokens}
            dead = event.data.get("dead", 0)
            loose = [
                weight
                for weight in self.reached
                if entry.links.weights.get(weight) not in {*held, None}
            ]
            if dead and loose and event.subject in entry.links.held:
                for weight in loose:
                    some = f"{dead} tensor{'s' * (dead != 1)}"
                    self.story.report(
                        "weight-not-in-optimizer",
                        "certain",
                        entry,
                        weight,
                        optimizer=event.subject,
                        dead=some,
                        **rule_of(event),
                    )
            self.reached.clear()


class Ties(Rule):
    """Two names of one weight that have become two weights."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.tied: dict[tuple[str, str], None] = {}
        self.told: set[tuple[str, str]] = set()
        self.links = Links()

    def event(self, entry: Entry, event: Event) -> None:
        for labels in event.data.get("ties", ()) if event.kind == "load_state_dict" else ():
            self.remember(labels)

    def remember(self, labels: Sequence[str]) -> None:
        """Names of one weight in one module; a layer that two modules share is no tie."""
        for one, other in itertools.combinations(sorted(labels)[:NAMES], 2):
            if one.split(".")[0] == other.split(".")[0]:
                self.tied[one, other] = None

    def after(self, entry: Entry) -> None:
        if entry.links is self.links:
            return
        self.links, weights = entry.links, entry.links.weights
        groups: dict[int, list[str]] = {}
        for label, token in weights.items():
            groups.setdefault(token, []).append(label)
        for one, other in self.tied:
            if (
                one in weights
                and other in weights
                and weights[one] != weights[other]
                and (one, other) not in self.told
            ):
                self.told.add((one, other))
                assigned = any(
                    event.kind == "load_state_dict" and event.data.get("assign")
                    for event in entry.all_events
                )
                self.report(entry, one, other, "certain" if assigned else "question")
        for labels in groups.values():
            self.remember(labels)
        self.compare(entry)

    def compare(self, entry: Entry) -> None:
        """A copy of a tied module whose own two weights are not tied."""
        weights = entry.links.weights
        roots = {label.split(".")[0] for label in weights}
        for one, other in self.tied:
            owner = one.split(".")[0]
            for root in roots - {owner}:
                label, twin = root + one.removeprefix(owner), root + other.removeprefix(owner)
                if (
                    label in weights
                    and twin in weights
                    and weights[label] != weights[twin]
                    and (label, twin) not in self.told
                ):
                    self.told.add((label, twin))
                    self.report(entry, label, twin, "question")

    def report(self, entry: Entry, one: str, other: str, severity: Severity) -> None:
        """Report a tie that was lost."""
        self.story.report("tie-lost", severity, entry, one, other=other, other_code=code_of(other))


class Memory(Rule):
    """Optimizer state that shares its memory with a gradient or with another optimizer's state."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.optimizers: set[str] = set()
        self.told: list[set[str]] = []

    def after(self, entry: Entry) -> None:
        self.optimizers.update(entry.links.held)
        for change in self.story.own(entry):
            if change.state == "optimizer state":
                self.shared(entry, change)
        steps = [event for event in entry.events if event.kind == "step"]
        if len(steps) == 1 and not steps[0].data["type"].startswith(
            "torch.optim."
        ):  # Rprop keeps the length of its step
            self.average(entry, steps[0])

    def shared(self, entry: Entry, change: Change) -> None:
        """Who else writes this memory?"""
        for other in change.also:
            if other.endswith(".grad"):
                self.story.report(
                    "state-is-the-gradient", "certain", entry, change.label, other=other
                )
            owner = next(
                (
                    name
                    for name in self.optimizers
                    if other.startswith(name + ".") and name != change.owner
                ),
                None,
            )
            if owner is not None and {owner, change.owner} not in self.told:
                self.told.append({owner, change.owner})
                self.story.report(
                    "state-shared",
                    "question",
                    entry,
                    change.label,
                    other=other,
                    optimizer=change.owner,
                    source=owner,
                )

    def average(self, entry: Entry, step: Event) -> None:
        """Is the average just as long as the step that it caused, although there is a rate?"""
        moved = {
            change.label: change.moved
            for change in entry.changes
            if change.state == "weight" and change.moved
        }
        state: dict[str, list[Change]] = {}
        for change in entry.changes:
            if change.owner == step.subject and change.state == "optimizer state":
                weight = next(
                    (label for label in moved if change.place.startswith(label + ".")), None
                )
                if weight is not None:
                    state.setdefault(change.place.removeprefix(weight + "."), []).append(change)
        for changes in state.values():
            alike = [change for change in changes if _same_length(change, moved)]
            if len(alike) == len(changes) == len(moved) and all(
                rate not in (None, 1.0) for rate in step.data["rates"]
            ):
                for change in alike:
                    self.story.report(
                        "update-is-the-average",
                        "question",
                        entry,
                        change.label,
                        optimizer=step.subject,
                    )


def _same_length(change: Change, moved: Mapping[str, float]) -> bool:
    norm = getattr(change.after, "norm", None)
    weight = next(label for label in moved if change.place.startswith(label + "."))
    length = moved[weight]
    return norm is not None and abs(norm - length) <= 1e-5 * length


class Functional(Rule):
    """A functional step whose result goes nowhere."""

    def after(self, entry: Entry) -> None:
        if entry.shares_line == 1 and any(
            event.kind == "functional step" for event in entry.events
        ):
            try:
                body = ast.parse(entry.source).body
            except SyntaxError:
                return
            call = body[0].value if body and isinstance(body[0], ast.Expr) else None
            if (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Attribute)
                and call.func.attr == "step"
            ):
                self.story.report(
                    "result-ignored",
                    "certain",
                    entry,
                    ast.unparse(call.func.value),
                    source=ast.unparse(call),
                )
