"""Modes and statistics: training mode where none was meant, evaluation mode that stayed, statistics that moved."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fnlib.ledger.entries import Entry, Event
from fnlib.ledger.findings.story import Rule, Story


@dataclass(eq=False, slots=True)
class Seen:
    """What a part of a model did in the wrong mode, and the statement that is to blame: the one that ran the whole model."""

    code: str
    entry: Entry
    part: str
    place: str
    fields: dict[str, Any] = field(default_factory=dict)


class Modes(Rule):
    """Forwards in the wrong mode, seen by what they do: random outputs, moved statistics, training without dropout."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.trained: dict[str, Entry] = {}
        self.asleep: dict[str, tuple[Entry, Event]] = {}
        self.quiet: list[Event] = []
        self.loud: set[str] = set()
        self.seen: list[Seen] = []
        self.frozen: set[str] = set()
        self.thawed: set[str] = set()

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "forward":
            self.forward(entry, event)
        elif event.kind == "step":
            for place, (at, forward) in self.asleep.items():
                self.story.report(
                    "trained-in-eval-mode",
                    "question",
                    at,
                    place,
                    type=forward.data["type"],
                    earlier=self.trained[place].line,
                )
            self.asleep.clear()

    def forward(self, entry: Entry, event: Event) -> None:
        place, data = event.subject, event.data
        watches_mode = data.get("depends", data["stateful"])
        if data["stateful"] and not data["grad_enabled"]:
            self.quiet.append(event)
        elif data["stateful"]:
            self.trained.setdefault(place, entry)
            self.loud.add(place)
            self.asleep.pop(place, None)
        elif watches_mode and data["grad_enabled"] and place in self.trained:
            self.asleep[place] = (entry, event)

    def after(self, entry: Entry) -> None:
        if any(
            name.rpartition(".")[2] == "update_bn" for name in entry.reads
        ):  # of averaged weights: it is there to move statistics
            self.quiet.clear()
        moved = {
            change.label
            for change in self.story.own(entry)
            if change.state == "buffer" and change.overwritten
        }
        for event in self.quiet:
            own = sorted(label for label in moved if label.rpartition(".")[0] == event.subject)
            for label in own:
                self.seen.append(
                    Seen("statistics-moved-without-gradient", entry, event.subject, label)
                )
            if not own:
                fields = {"type": event.data["type"]}
                self.seen.append(
                    Seen(
                        "training-mode-without-gradient",
                        entry,
                        event.subject,
                        event.subject,
                        fields,
                    )
                )
        for place in self.loud:
            for label in sorted(moved):
                if label.rpartition(".")[0] == place and self.is_frozen(entry, place):
                    self.seen.append(Seen("frozen-statistics-moved", entry, place, label))
        self.quiet.clear()
        self.loud.clear()
        for change in self.story.own(entry):
            if change.state == "requires_grad flag":
                self.flag(
                    change.label.removesuffix(".requires_grad").rpartition(".")[0],
                    trains=bool(change.after),
                )
        self.blame(entry)

    def flag(self, place: str, *, trains: bool) -> None:
        """A part is frozen, or trained again after that: it was frozen for a while, as a critic is while the others learn."""
        if not trains:
            self.frozen.add(place)
        elif place in self.frozen:
            self.thawed.add(place)

    def blame(self, entry: Entry) -> None:
        """What was seen inside of ``model(x)``, in a forward of the program's own, is told at that statement."""
        models = sorted(
            (event.subject for event in entry.events if event.kind == "forward"), key=len
        )
        for one in reversed(self.seen if models else ()):
            if one.entry.index < entry.index:
                break
            model = next((name for name in models if f"{one.part}.".startswith(f"{name}.")), None)
            if model is not None:
                one.entry, one.fields["model"] = entry, model

    def end(self) -> None:
        for one in self.seen:
            if one.code == "frozen-statistics-moved" and one.part in self.thawed:
                continue
            self.story.report(one.code, "question", one.entry, one.place, **one.fields)

    @staticmethod
    def is_frozen(entry: Entry, place: str) -> bool:
        """Whether a part has weights of its own, and all of them are frozen."""
        flags = [
            flag for label, flag in entry.links.flags.items() if label.rpartition(".")[0] == place
        ]
        return bool(flags) and not any(flags)
