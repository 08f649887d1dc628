"""Is each gradient used once, as it was made? Edits that no step uses, gradients that nobody steps.

A gradient is deposited by a backward, edited (clipped, scaled), used by a step, and cleared. The
first four rules of the order are in `gradients`; here are edits and what is missing altogether.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from fnlib.ledger.entries import Change, Entry, Event
from fnlib.ledger.findings.story import Rule, Story, norm_after

ENOUGH = 3  # rounds that a question takes


@dataclass(eq=False, slots=True)
class Edit:
    """What became of the edits that one statement made: how many were used, and how many cleared."""

    entry: Entry
    used: int = 0
    lost: int = 0
    late: int = 0  # of the lost ones: made after the gradient's last use
    places: dict[str, None] = field(default_factory=dict)
    step: str = ""
    next: str = ""  # owner of the weights that the next step moves


class Edits(Rule):
    """Follows what statements do to gradients between a backward and the clearing."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.fresh: set[str] = set()  # gradients that no step has used
        self.used: dict[str, str] = {}  # gradients that a step has used, and whose
        self.waiting: dict[str, dict[int, tuple[Edit, bool]]] = {}
        self.edits: dict[tuple[str, str, int], Edit] = {}
        self.known: set[int] = set()
        self.clips: dict[tuple[str, str, int], list[tuple[Entry, Event]]] = {}
        self.clipped: dict[str, tuple[str, str, int]] = {}  # gradients, and where they were clipped
        self.partial: Counter[tuple[str, str, int]] = Counter()  # clips of what then grew
        self.step = ""
        self.stepped: set[str] = set()

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "clip":
            self.clips.setdefault(entry.where, []).append((entry, event))
            for label in event.data["gradients"]:
                self.clipped[label.removesuffix(".grad")] = entry.where
        elif event.kind == "backward" and not event.data["raised"]:
            self.known.add(entry.index)
            self.fresh.update(event.data["weights"])
            clipped = self.clipped.keys() & event.data["weights"]
            self.partial.update({self.clipped.pop(one) for one in clipped})
        elif event.kind == "step":
            self.known.add(entry.index)
            if event.data["weights"]:
                self.step = event.subject
                self.stepped.update(event.data["weights"])
                for edit in self.edits.values():
                    edit.next = edit.next or self.story.owner(event.data["weights"][0])
            for weight in event.data["weights"]:
                self.clipped.pop(weight, None)
                self.fresh.discard(weight)
                self.used[weight] = event.subject
                self.settle(weight, used=True)
        elif event.kind in ("zero_grad", "unscale", "scaler step"):
            self.known.add(entry.index)
            cleared = event.kind == "zero_grad"
            for weight in event.data["weights"] if cleared else ():
                self.clear(weight)

    def clear(self, weight: str) -> None:
        """Drop a gradient, with the edits that were made to it."""
        self.clipped.pop(weight, None)
        self.fresh.discard(weight)
        self.used.pop(weight, None)
        self.settle(weight, used=False)

    def settle(self, weight: str, *, used: bool) -> None:
        """Count the edits of a gradient as used or lost."""
        for edit, late in self.waiting.pop(weight, {}).values():
            edit.used += used
            edit.lost += not used
            edit.late += late and not used

    def after(self, entry: Entry) -> None:
        mine = [one for one in self.story.own(entry) if one.state == "gradient"]
        if not mine or any(one.index in self.known for one in self.story.chain(entry)):
            return
        if any(inner.index in self.known for inner in entry.inside):
            return
        for change in mine:
            self.written(entry, change, change.label.removesuffix(".grad"))

    def written(self, entry: Entry, change: Change, weight: str) -> None:
        """Note a statement that clears a gradient by hand, or edits it."""
        if change.kind == "removed" or norm_after(change) == 0.0:
            self.clear(weight)
        elif change.kind in ("changed in place", "replaced"):
            edit = self.edits.setdefault(entry.where, Edit(entry))
            edit.places[weight] = None
            edit.step = self.used.get(weight, edit.step)
            late = weight not in self.fresh and weight in self.used
            self.waiting.setdefault(weight, {})[id(edit)] = (edit, late)

    def end(self) -> None:
        for where, calls in self.clips.items():
            entry, event = calls[-1]
            if self.partial[where] >= ENOUGH and self.step:
                self.story.report(
                    "gradient-edit-unused", "question", entry,
                    next(iter(event.data["gradients"]), event.subject).removesuffix(".grad"),
                    source=entry.source, said="only a part: the next backward adds to it before a step uses it",
                    cure=f"{entry.source}      # once, after the last backward\n{self.step}.step()",
                )  # fmt: skip
            if len(calls) >= ENOUGH and self.step and not any(e.data["found"] for _, e in calls):
                self.story.report(
                    "gradient-edit-unused", "question", entry, event.subject, source=entry.source,
                    said=f"not there: in {len(calls)} calls it has found none",
                    cure=f"{entry.source}      # between backward and step\n{self.step}.step()",
                )  # fmt: skip
        for edit in self.edits.values():
            number, source = len(edit.places), edit.entry.source
            late = edit.late == edit.lost >= 2 * number
            known = self.stepped.issuperset(edit.places)
            if edit.used or not known or not (late or edit.lost >= ENOUGH * number):
                continue
            said = "cleared before any step uses it"
            owner = self.story.owner(next(iter(edit.places)))
            cure = source.replace(owner, edit.next) if edit.next else f"{source}      # before step"
            if late:
                said = f"too late: {edit.step}.step() has already used it"
                cure = f"{source}      # between backward and step\n{edit.step}.step()"
            for place in edit.places:
                self.story.report(
                    "gradient-edit-unused", "certain" if late else "question", edit.entry, place,
                    source=source, said=said, cure=cure,
                )  # fmt: skip


@dataclass(eq=False, slots=True)
class Idle:
    """An optimizer whose weights get gradients: how often, how often cleared, by which statement."""

    entry: Entry
    passes: int = 0
    cleared: int = 0
    clearing: Entry | None = None
    places: dict[str, None] = field(default_factory=dict)


class NeverStepped(Rule):
    """Optimizers that never step, though backward passes compute gradients for all their weights."""

    whole = True

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.idle: dict[str, Idle] = {}
        self.trained: set[str] = set()  # weights that a step used, or that moved otherwise
        self.excused: set[str] = set()
        self.waiting: set[str] = set()

    def event(self, entry: Entry, event: Event) -> None:
        data = event.data
        if event.kind == "backward" and not data["raised"]:
            for optimizer in entry.links.held:
                reached = self.story.weights_of(optimizer, entry.links) & data["weights"].keys()
                if reached:
                    one = self.idle.setdefault(optimizer, Idle(entry))
                    one.entry, one.passes = entry, one.passes + 1
                    one.places.update(dict.fromkeys(sorted(reached)))
                    self.waiting.add(optimizer)
        elif event.kind == "step":
            self.excused.add(event.subject)
            self.trained.update((*data["weights"], *data["without"]))
        elif event.kind == "scaler step":
            self.excused.add(data["optimizer"])
        elif event.kind == "zero_grad":
            for optimizer, one in self.idle.items():
                if optimizer in self.waiting and one.places.keys() & set(data["weights"]):
                    self.waiting.discard(optimizer)
                    one.cleared += 1
                    one.clearing = entry

    def after(self, entry: Entry) -> None:
        for change in self.story.own(entry):
            if change.state == "weight" and self.idle:
                self.trained.add(change.label)

    def end(self) -> None:
        for optimizer, one in self.idle.items():
            if optimizer in self.excused or self.trained & one.places.keys():
                continue
            if one.cleared >= ENOUGH - 1 or one.passes >= 2 * ENOUGH:
                at = one.clearing or one.entry
                times = "once" if one.cleared == 1 else f"{one.cleared} times"
                cleared = f"; this line clears their gradients {times}" if one.clearing else ""
                for place in one.places:
                    self.story.report(
                        "never-stepped", "question", at, place, optimizer=optimizer,
                        passes=one.passes, cleared=cleared, backward=one.entry.source,
                    )  # fmt: skip


@dataclass(eq=False, slots=True)
class Line:
    """The backward passes of one statement: how many were used, and how many cleared unused."""

    entry: Entry
    used: int = 0
    dropped: int = 0
    inputs: bool = False  # it was made for the gradient of something else, too
    between: int = 0  # of the dropped ones: after the first step
    crossing: set[Any] = field(
        default_factory=set
    )  # outer rounds whose rest was cleared in the next
    outer: set[Any] = field(default_factory=set)


@dataclass(eq=False, slots=True)
class Pass:
    """One backward pass whose gradients are there, and the rounds in which it ran."""

    line: Line
    rounds: tuple[tuple[str, int, int], ...]
    weights: set[str]


class Dropped(Rule):
    """Backward passes that are cleared unused, at a line whose other passes are used."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.lines: dict[tuple[str, str, int], Line] = {}
        self.waiting: list[Pass] = []
        self.steps: set[str] = set()
        self.clearing: Entry | None = None
        self.cleared: list[tuple[Pass, Entry]] = []  # by a statement that has not ended
        self.by_hand = False  # a gradient was set: computed from those that were cleared
        self.closures: set[int] = set()  # statements that step with a closure

    def event(self, entry: Entry, event: Event) -> None:
        data = event.data
        if event.kind == "backward" and not data["raised"] and data["weights"]:
            if any(one.index in self.closures for one in self.story.chain(entry)):
                return  # a closure may evaluate as often as it likes
            line = self.lines.setdefault(entry.where, Line(entry))
            rounds = self.story.rounds(entry)
            line.outer.add(rounds[:-1])
            line.inputs |= data["inputs"] > 0
            self.waiting.append(Pass(line, rounds, set(data["weights"])))
        elif event.kind == "step":
            self.steps.add(event.subject)
            if data["closure"]:
                self.closures.add(entry.index)
            weights = set(data["weights"])
            for one in [one for one in self.waiting if one.weights & weights]:
                one.line.used += 1
                self.waiting.remove(one)
        elif event.kind == "zero_grad":
            weights = set(data["weights"])
            for one in self.waiting:
                one.weights -= weights
            for one in [one for one in self.waiting if not one.weights]:
                self.waiting.remove(one)
                self.cleared.append((one, entry))

    def after(self, entry: Entry) -> None:
        here = [one for one, at in self.cleared if at is entry]
        if here:
            self.cleared = [pair for pair in self.cleared if pair[1] is not entry]
            steps = any(event.kind == "step" for event in entry.all_events)
            climbs = not steps and any(one.state == "weight" for one in entry.changes)
            for one in here if _finite(entry) else ():  # NaN is cleared, not thrown away
                if climbs:  # SAM moves the weights by the gradients, then clears these
                    one.line.used += 1
                else:
                    self.drop(one, entry)
        if self.waiting and not any(
            event.kind in ("step", "load_state_dict")
            for one in self.story.chain(entry)
            for event in one.events
        ):
            own = self.story.own(entry)
            self.by_hand |= not any(
                event.kind in ("backward", "zero_grad") for event in entry.all_events
            ) and any(
                one.state == "gradient" and one.kind in ("created", "replaced") for one in own
            )
            moved = {one.label for one in own if one.state == "weight"}
            for one in [one for one in self.waiting if one.weights & moved]:
                one.line.used += 1  # by hand, by the gradients that are there
                self.waiting.remove(one)

    def drop(self, one: Pass, entry: Entry) -> None:
        """Count a pass that a statement has cleared."""
        one.line.dropped += 1
        one.line.between += bool(self.steps)
        if self.story.rounds(entry)[: len(one.rounds) - 1] != one.rounds[:-1]:
            one.line.crossing.add(one.rounds[:-1])
        self.clearing = entry

    def end(self) -> None:
        for line in self.lines.values():
            rest = len(line.crossing) >= 2 and len(line.crossing) >= len(line.outer) - 1
            most = line.dropped >= max(4, line.used) and line.used > 1
            lost = not (line.used or line.inputs or self.by_hand) and line.between > 4
            if (
                (lost or (line.used and (rest or most)))
                and self.steps
                and self.clearing is not None
            ):
                optimizer = next(iter(sorted(self.steps)))
                cure = f"{line.entry.source}\n{optimizer}.step()      # moved here: one for each backward"
                if line.used and rest:  # several batches a step, and some are left at the end
                    cure = (
                        f"{optimizer}.step()      # before line {self.clearing.line} clears them\n"
                        f"{optimizer}.zero_grad()"
                    )
                self.story.report(
                    "gradient-dropped", "question", line.entry, optimizer, dropped=line.dropped,
                    passes=line.used + line.dropped, clearing=self.clearing.line,
                    optimizer=optimizer, cure=cure,
                )  # fmt: skip


def _finite(entry: Entry) -> bool:
    """Say whether the gradients that a statement cleared were numbers, as far as is known."""
    norms = (getattr(one.before, "norm", None) for one in entry.changes if one.state == "gradient")
    return all(norm is None or math.isfinite(norm) for norm in norms)


class Scaled(Rule):
    """Gradients of a scaled loss that are clipped or stepped before they are unscaled."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.scaler = ""
        self.scaled: set[str] = set()
        self.stepping: int = -1

    def event(self, entry: Entry, event: Event) -> None:
        data = event.data
        if event.kind == "scale":
            self.scaler = event.subject
        elif event.kind == "backward" and not data["raised"]:
            if self.scaler:
                self.scaled.update(data["weights"])
        elif event.kind in ("unscale", "scaler step"):
            if event.kind == "scaler step":
                self.stepping = entry.index
            weights = self.story.weights_of(data["optimizer"], entry.links)
            self.scaled -= weights or self.scaled
        elif event.kind == "zero_grad":
            self.scaled -= set(data["weights"])
        elif event.kind == "clip":
            labels = [one.removesuffix(".grad") for one in data["gradients"]]
            self.report(entry, [one for one in labels if one in self.scaled], "clips")
        elif event.kind == "step" and self.stepping != entry.index and not data["closure"]:
            self.report(
                entry, [one for one in data["weights"] if one in self.scaled], "uses", event.subject
            )

    def after(self, entry: Entry) -> None:
        if any(event.kind in ("backward", "scale", "scaler step") for event in entry.events):
            return
        for change in self.story.own(entry):
            if change.state == "gradient" and not any(one.kind == "clip" for one in entry.events):
                self.scaled.discard(change.label.removesuffix(".grad"))  # unscaled by hand

    def report(self, entry: Entry, places: list[str], verb: str, optimizer: str = "") -> None:
        """Ask about gradients that are too large by the scale."""
        held = entry.links.held
        name = optimizer or next(
            (one for one in held if set(places) & self.story.weights_of(one, entry.links)),
            "optimizer",
        )
        unscale = f"{self.scaler}.unscale_({name})\n{entry.source}"
        step = f"{self.scaler}.step({name})\n{self.scaler}.update()"
        for place in places:
            self.story.report(
                "gradient-still-scaled", "question", entry, place, source=entry.source, verb=verb,
                scaler=self.scaler, cure=step if optimizer else unscale,
            )  # fmt: skip
