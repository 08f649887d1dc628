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
    """Weights that get a gradient while the optimizers hold tensors that get none.

    A tensor may keep the gradient of an earlier pass: nothing has written to it since the last
    step. Only a question, as copies in full precision may be written to behind PyTorch's back.
    """

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.reached: dict[str, Entry] = {}
        self.others: dict[int, tuple[object, ...]] = {}  # gradients at the last step

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "backward" and not event.data.get("raised"):
            self.reached.update(dict.fromkeys(event.data["weights"], entry))
        elif event.kind == "step" and not event.data.get("closure"):
            tokens = {token for some in entry.links.held.values() for token in some} | {None}
            dead, weights = event.data.get("dead", 0), entry.links.weights
            loose = [one for one in self.reached if weights.get(one) not in tokens]
            severity: Severity = "certain" if dead else "question"
            others = event.data.get("others", ())
            if others and others == self.others.get(event.data["token"]):
                dead = event.data["unwatched"]
            self.others[event.data["token"]] = others
            if dead and event.subject in entry.links.held:
                fields = {"dead": f"{dead} tensor{'s' * (dead != 1)}", **rule_of(event)}
                fields["optimizer"] = event.subject
                for weight in loose:
                    self.story.report("weight-not-in-optimizer", severity, entry, weight, **fields)
            self.reached.clear()


class Ties(Rule):
    """Two names of one weight that have become two weights."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.tied: dict[tuple[str, str], None] = {}
        self.known: set[tuple[str, str]] = set()
        self.lost: dict[tuple[str, str], tuple[Entry, Severity]] = {}  # not trained since
        self.links = Links()

    def event(self, entry: Entry, event: Event) -> None:
        for labels in event.data.get("ties", ()) if event.kind == "load_state_dict" else ():
            self.remember(labels)
        if event.kind == "step":
            self.end()

    def remember(self, labels: Sequence[str]) -> None:
        """Note names of one weight."""
        self.tied.update(dict.fromkeys(itertools.combinations(sorted(labels)[:NAMES], 2)))

    def after(self, entry: Entry) -> None:
        if entry.links is self.links:
            return
        self.links = entry.links
        loads = (event for event in entry.all_events if event.kind == "load_state_dict")
        assigned = any(event.data.get("assign") for event in loads)
        for one, other in self.tied:
            self.judge(entry, one, other, "certain" if assigned else "question")
        groups: dict[int, list[str]] = {}
        for label, token in entry.links.weights.items():
            groups.setdefault(token, []).append(label)
        for labels in groups.values():
            self.remember(labels)
        # a copy of a tied module, with weights of the same names, whose own two are not tied
        names: dict[str, set[str]] = {}
        for label in entry.links.weights if self.tied else ():
            owner = self.story.owner(label)
            names.setdefault(owner, set()).add(label.removeprefix(owner))
        for one, other in self.tied:
            owner = self.story.owner(one)
            for root in names:
                if root != owner and names[root] == names.get(owner):
                    pair = root + one.removeprefix(owner), root + other.removeprefix(owner)
                    self.judge(entry, *pair, "question")

    def judge(self, entry: Entry, one: str, other: str, severity: Severity) -> None:
        """Report two weights of one module that are two tensors now.

        A layer that two modules share is no tie.
        """
        weights = entry.links.weights
        lost = one in weights and other in weights and weights[one] != weights[other]
        if not lost:
            self.lost.pop((one, other), None)
        elif self.story.owner(one) == self.story.owner(other) and (one, other) not in self.known:
            self.lost.setdefault((one, other), (entry, severity))

    def end(self) -> None:
        for (one, other), (entry, severity) in self.lost.items():
            fields = {"other": other, "other_code": code_of(other)}
            self.story.report("tie-lost", severity, entry, one, **fields)
        self.known.update(self.lost)
        self.lost.clear()


class Memory(Rule):
    """Optimizer state that shares its memory with a gradient or with another optimizer's state."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.optimizers: set[str] = set()
        self.known: list[set[str]] = []

    def after(self, entry: Entry) -> None:
        self.optimizers.update(entry.links.held)
        for change in self.story.own(entry):
            if change.state == "optimizer state":
                self.shared(entry, change)
        steps = [event for event in entry.events if event.kind == "step"]
        # torch's Rprop keeps the length of its step
        if len(steps) == 1 and not steps[0].data["type"].startswith("torch.optim."):
            self.average(entry, steps[0])

    def shared(self, entry: Entry, change: Change) -> None:
        """Report who else writes this memory."""
        mine, place = change.owner, change.label
        for other in change.also:
            if other.endswith(".grad"):
                self.story.report("state-is-the-gradient", "certain", entry, place)
            owners = (name for name in self.optimizers - {mine} if other.startswith(name + "."))
            owner = next(owners, None)
            if owner is not None and {owner, mine} not in self.known:
                self.known.append({owner, mine})
                fields = {"other": other, "optimizer": mine, "source": owner}
                self.story.report("state-shared", "question", entry, place, **fields)

    def average(self, entry: Entry, step: Event) -> None:
        """Report an average that is just as long as the step that it caused, despite a rate."""
        moved = {
            change.label: change.moved
            for change in entry.changes
            if change.state == "weight" and change.moved
        }
        state: dict[str, list[Change]] = {}
        for change in entry.changes:
            if change.owner == step.subject and change.state == "optimizer state":
                weight = _weight_of(change, moved)
                if weight is not None:
                    state.setdefault(change.place.removeprefix(weight), []).append(change)
        scaled = all(rate not in (None, 1.0) for rate in step.data["rates"])
        for changes in state.values():
            alike = [change for change in changes if _same_length(change, moved)]
            if scaled and len(alike) == len(changes) == len(moved):
                for change in alike:
                    self.story.report(
                        "update-is-the-average", "question", entry, change.label,
                        optimizer=step.subject,
                    )  # fmt: skip


def _weight_of(change: Change, moved: Mapping[str, float]) -> str | None:
    return next((label for label in moved if change.place.startswith(label + ".")), None)


def _same_length(change: Change, moved: Mapping[str, float]) -> bool:
    norm = getattr(change.after, "norm", None)
    length = moved[_weight_of(change, moved) or ""]
    return norm is not None and abs(norm - length) <= 1e-5 * length


class Functional(Rule):
    """A functional step whose result goes nowhere."""

    def after(self, entry: Entry) -> None:
        steps = any(event.kind == "functional step" for event in entry.events)
        if entry.shares_line > 1 or not steps:
            return
        try:
            body = ast.parse(entry.source).body
        except SyntaxError:
            return
        call = body[0].value if body and isinstance(body[0], ast.Expr) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            if call.func.attr == "step":
                model, source = ast.unparse(call.func.value), ast.unparse(call)
                self.story.report(
                    "result-ignored", "certain", entry, model, source=source,
                    bound=f"parameters = {source}",
                    because="A functional step changes nothing; it returns the new parameters.",
                )  # fmt: skip
