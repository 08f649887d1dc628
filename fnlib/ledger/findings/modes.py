"""Modes and statistics: training mode where none was meant, evaluation mode that stayed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fnlib.ledger.entries import Entry, Event
from fnlib.ledger.findings.story import Rule, Story
from fnlib.ledger.findings.texts import code_of


@dataclass(eq=False, slots=True)
class Seen:
    """What a part did in the wrong mode, and the statement to blame: the one that ran the model."""

    code: str
    entry: Entry
    part: str
    place: str
    fields: dict[str, Any] = field(default_factory=dict)


class Modes(Rule):
    """Forwards in the wrong mode: random outputs, changed statistics, training without dropout."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.trained: dict[str, Entry] = {}
        self.asleep: dict[str, tuple[Entry, Event]] = {}
        self.quiet: list[Event] = []
        self.estimating: set[tuple[str, str]] = set()  # functions that estimate statistics anew
        self.loud: set[str] = set()
        self.seen: list[Seen] = []
        self.frozen: set[str] = set()
        self.thawed: set[str] = set()
        self.dozing: dict[str, tuple[Entry, Event]] = {}  # trained, and never in training mode
        self.steps: dict[str, int] = {}  # of each model
        self.trains: set[str] = set()  # models that a forward with gradients runs in training mode

    def go_on(self, story: Story) -> Rule:
        later = type(self)(story)
        later.trained, later.trains, later.steps = self.trained, self.trains, self.steps
        later.frozen, later.thawed = self.frozen, self.thawed
        return later

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "forward":
            self.forward(entry, event)
        elif event.kind == "step":
            for place, (at, forward) in self.asleep.items():
                line = self.trained[place].line
                fields = {"type": forward.data["type"]}
                at_first = f"When line {line} first ran" if line == at.line else f"At line {line}"
                fields["since"] = f"{at_first}, the mode was training"
                fields["cure"] = _wake(self.story.owner(place))
                self.story.report("trained-in-eval-mode", "question", at, place, **fields)
            self.asleep.clear()
            for owner in {self.story.owner(weight) for weight in event.data["weights"]}:
                self.steps[owner] = self.steps.get(owner, 0) + 1

    def forward(self, entry: Entry, event: Event) -> None:
        """Sort a forward: random or not, with gradients or without."""
        place, data = event.subject, event.data
        if data["grad_enabled"] and data["training"]:
            self.trains.add(self.story.owner(place))
        if data["stateful"] and not data["grad_enabled"]:
            self.quiet.append(event)
        elif data["stateful"]:
            self.trained.setdefault(place, entry)
            self.loud.add(place)
            self.asleep.pop(place, None)
        elif data.get("depends") and data["grad_enabled"] and place in self.trained:
            self.asleep[place] = (entry, event)
        elif data.get("depends") and data["grad_enabled"]:
            self.dozing.setdefault(place, (entry, event))

    def after(self, entry: Entry) -> None:
        if any(name.endswith(".reset_running_stats") for name in entry.reads):
            self.estimating.add((entry.file, entry.function))
        if (entry.file, entry.function) in self.estimating or any(
            name.rpartition(".")[2] == "update_bn" for name in entry.reads
        ):
            self.quiet.clear()  # it is there to update the statistics of averaged weights
        own = self.story.own(entry)
        moved = sorted(
            {change.label for change in own if change.state == "buffer" and change.overwritten}
        )
        for event in self.quiet:
            place, code = event.subject, "statistics-moved-without-gradient"
            labels = [label for label in moved if label.rpartition(".")[0] == place]
            self.seen += [Seen(code, entry, place, label) for label in labels]
            if not labels:
                code, fields = "training-mode-without-gradient", {"type": event.data["type"]}
                self.seen.append(Seen(code, entry, place, place, fields))
        for label in moved:
            place = label.rpartition(".")[0]
            if place in self.loud and _is_frozen(entry, place):
                self.seen.append(Seen("frozen-statistics-moved", entry, place, label))
        self.quiet.clear()
        self.loud.clear()
        for change in own:
            if change.state == "requires_grad flag":
                place = change.label.removesuffix(".requires_grad").rpartition(".")[0]
                if not change.after:
                    self.frozen.add(place)
                elif place in self.frozen:  # it was frozen for a while, as a critic is
                    self.thawed.add(place)
        self.blame(entry)

    def blame(self, entry: Entry) -> None:
        """Move what was seen inside of ``model(x)`` to that statement."""
        calls = {one.subject: one.data["training"] for one in entry.events if one.kind == "forward"}
        for one in reversed(self.seen if calls else ()):
            if one.entry.index < entry.index:
                break
            around = [name for name in calls if f"{one.part}.".startswith(f"{name}.")]
            if around:
                model = min(around, key=len)
                one.entry, one.fields["model"] = entry, model
                if not calls[model]:  # its `train` or `eval` leaves the part out
                    one.fields["model"] = one.part
                    one.fields["when"] = f"{code_of(model)}.eval() doesn't reach it"

    def end(self) -> None:
        for place, (entry, event) in self.dozing.items():
            owner = self.story.owner(place)
            if owner not in self.trains and self.steps.get(owner, 0) > 1:
                fields = {"type": event.data["type"], "since": "It never was in training mode"}
                fields["cure"] = _wake(owner)
                self.story.report("trained-in-eval-mode", "question", entry, place, **fields)
        for one in self.seen:
            model = one.fields.get("model") or self.story.owner(one.place)
            when = f"before; {code_of(model)}.train() afterwards"
            if self.story.owner(one.part) not in self.trains:
                when = "once, since it is never trained"
            one.fields.setdefault("when", when)
            if one.code != "frozen-statistics-moved" or one.part not in self.thawed:
                self.story.report(one.code, "question", one.entry, one.place, **one.fields)


def _is_frozen(entry: Entry, place: str) -> bool:
    """Say whether a part has weights, and all of them are frozen."""
    flags = [flag for name, flag in entry.links.flags.items() if name.rpartition(".")[0] == place]
    return bool(flags) and not any(flags)


def _wake(model: str) -> str:
    return f"{code_of(model)}.train()      # at the start of each epoch"
