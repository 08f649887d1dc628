"""Modes and statistics: training mode where none was meant, evaluation mode that stayed, statistics that moved."""

from __future__ import annotations

from fnlib.ledger.entries import Entry, Event
from fnlib.ledger.findings.story import Rule, Story


class Modes(Rule):
    """Forwards in the wrong mode, seen by what they do: random outputs, moved statistics, training without dropout."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.trained: dict[str, Entry] = {}
        self.asleep: dict[str, tuple[Entry, Event]] = {}
        self.quiet: list[Event] = []
        self.loud: set[str] = set()

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "forward":
            self.forward(entry, event)
        elif event.kind == "step":
            for place, (at, forward) in self.asleep.items():
                self.story.report(
                    "trained-in-eval-mode", "question", at, place, type=forward.data["type"], earlier=self.trained[place].line
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
        moved = {change.label for change in self.story.own(entry) if change.state == "buffer" and change.overwritten}
        for event in self.quiet:
            own = sorted(label for label in moved if label.rpartition(".")[0] == event.subject)
            for label in own:
                self.story.report("statistics-moved-without-gradient", "question", entry, label)
            if not own:
                self.story.report("training-mode-without-gradient", "question", entry, event.subject, type=event.data["type"])
        for place in self.loud:
            for label in sorted(moved):
                if label.rpartition(".")[0] == place and self.is_frozen(entry, place):
                    self.story.report("frozen-statistics-moved", "question", entry, label, module=place)
        self.quiet.clear()
        self.loud.clear()

    @staticmethod
    def is_frozen(entry: Entry, place: str) -> bool:
        """Whether a part has weights of its own, and all of them are frozen."""
        flags = [flag for label, flag in entry.links.flags.items() if label.rpartition(".")[0] == place]
        return bool(flags) and not any(flags)
