"""Does a checkpoint hold everything, and land where it came from? Unsaved state, moments of another weight."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from fnlib.ledger.entries import Change, Entry, Event
from fnlib.ledger.findings.story import Rule, Story
from fnlib.ledger.findings.texts import assigned

ENOUGH = 3  # forwards that change what no checkpoint holds
_Contents = tuple[Any, ...]


class Landing(Rule):
    """Moments that were of one weight and are loaded for another of the same shape.

    `Optimizer.load_state_dict` goes by position, `Module.load_state_dict` by name. So after both,
    a weight may be where it came from and its moments may not: two facts that contradict each
    other.
    """

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.origins: dict[_Contents, set[str]] = {}  # which weights had these contents, or moments
        self.weights: dict[str, _Contents] = {}  # as a load has set them
        self.landed: list[tuple[Entry, Change, str, set[str]]] = []
        self.order: dict[str, dict[str, None]] = {}  # of the weights in the state that was saved

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "step" and self.landed:
            self.judge()

    def after(self, entry: Entry) -> None:
        loads = {event.subject for event in entry.events if event.kind == "load_state_dict"}
        for change in self.story.own(entry):
            contents = _contents(change)
            if contents is None:
                continue
            if change.state == "weight":
                self.weights.pop(change.label, None)
                if loads:
                    self.weights[change.label] = contents
                else:
                    self.origins.setdefault(contents, set()).add(change.label)
            elif change.state == "optimizer state":
                weight = change.place.rpartition(".")[0]
                if not loads:
                    self.origins.setdefault(contents, set()).add(weight)
                elif contents in self.origins:
                    came = set(self.origins[contents])
                    self.landed.append((entry, change, weight, came))
                    self.order.setdefault(change.owner, {})[self.relative(min(came))] = None

    def end(self) -> None:
        self.judge()

    def judge(self) -> None:
        """Compare where the moments came from with where the weight came from."""
        wrong = []
        for entry, change, weight, came in self.landed:
            origin = self.origins.get(self.weights.get(weight, ()), set())
            if origin and not origin & came:
                wrong.append((entry, change, weight, min(came), min(origin)))
        for entry, change, weight, other, here in wrong:
            names = ", ".join(f'"{name}"' for name in self.order[change.owner])
            others = len({one[2] for one in wrong if one[1].owner == change.owner}) - 1
            get = "weights get" if others > 1 else "weight gets"
            more = f"; {others} more {get} another's, too" if others else ""
            self.story.report(
                "moments-of-another-weight", "certain", entry, change.label, per=change.owner,
                optimizer=change.owner, goes=weight, here=here, other=other, more=more, names=names,
                model=self.story.owner(change.place), source=entry.source,
            )  # fmt: skip
        self.landed.clear()
        self.order.clear()

    def relative(self, weight: str) -> str:
        """Return a weight's name in its model."""
        return weight.removeprefix(self.story.owner(weight)).removeprefix(".")


def _contents(change: Change) -> _Contents | None:
    """Return what tells the numbers of a tensor from others; ``None`` for zeros and single ones."""
    norm, shape = getattr(change.after, "norm", None), getattr(change.after, "shape", ())
    if not norm or not shape:
        return None
    kind = "" if change.state == "weight" else change.place.rpartition(".")[2]
    return kind, shape, change.after.fingerprint


# --- state that no checkpoint holds --------------------------------------------------------------


@dataclass(eq=False, slots=True)
class Attribute:
    """An attribute that a forward sets from its own value: how often in which mode, and its use."""

    entry: Entry
    owner: str  # the model whose forward sets it
    training: int = 0
    evaluation: int = 0
    used: bool = False  # by a forward in evaluation mode


class Unsaved(Rule):
    """Statistics in plain attributes: training changes them, evaluation uses them, no file has them.

    A hidden state is changed in both modes, so it is nothing; a buffer is in the state dict.
    """

    whole = True

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.found: dict[tuple[str, str, str], Attribute] = {}
        self.waiting: list[tuple[Entry, tuple[str, str, str], bool]] = []
        self.saved = False

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "state_dict" and event.subject not in entry.links.held:
            self.saved = True

    def after(self, entry: Entry) -> None:
        if entry.function.endswith(".forward"):
            self.inside(entry)
        calls = [event for event in entry.events if event.kind == "forward"]
        if not calls or not self.waiting:
            return
        here = [one for one in self.waiting if one[0].index > entry.index]
        self.waiting = [one for one in self.waiting if one[0].index <= entry.index]
        for at, key, sets in here:
            if sets:
                owner = self.story.owner(calls[0].subject)
                one = self.found.setdefault(key, Attribute(at, owner))
                one.training += calls[0].data["training"]
                one.evaluation += not calls[0].data["training"]
            elif key in self.found and not calls[0].data["training"]:
                self.found[key].used = True

    def inside(self, entry: Entry) -> None:
        """Note what a statement of a forward sets from its own value, and what it reads."""
        for read in entry.reads:
            if read.startswith("self.") and read.count(".") == 1:
                key = (entry.file, entry.function, read)
                self.waiting.append((entry, key, False))
        if "self." in entry.source and "=" in entry.source and not self.story.own(entry):
            for target, value in assigned(entry.source):
                again = "+=" in entry.source or target in ast.unparse(value)
                if target.startswith("self.") and target.count(".") == 1 and again:
                    self.waiting.append((entry, (entry.file, entry.function, target), True))

    def end(self) -> None:
        for key, one in self.found.items():
            if self.saved and one.training >= ENOUGH and not one.evaluation and one.used:
                name = key[2].removeprefix("self.")
                why = "A plain attribute is no buffer: no state dict holds it."
                fixed = (
                    f'self.register_buffer("{name}", torch.as_tensor({key[2]}))      # in __init__'
                )
                self.story.report(
                    "set-without-effect", "question", one.entry, f"{one.owner}.{name}",
                    source=one.entry.source, where=" on a model that is loaded",
                    because=why, fixed=fixed,
                )  # fmt: skip


class Aside(Rule):
    """Moments in an attribute of an optimizer: steps change them, and its state dict lacks them."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.norms: dict[tuple[int, str], set[object]] = {}  # of an optimizer's attribute
        self.saved: dict[int, tuple[Entry, Event]] = {}

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "step":
            for name, norms in event.data["aside"].items():
                self.norms.setdefault((event.data["token"], name), set()).add(norms)
        elif event.kind == "state_dict" and event.data.get("lacks"):
            self.saved[event.data["token"]] = (entry, event)

    def end(self) -> None:
        for token, (entry, event) in self.saved.items():
            for name in event.data["lacks"]:
                if len(self.norms.get((token, name), ())) >= ENOUGH:
                    self.story.report(
                        "moments-not-saved", "question", entry, f"{event.subject}.{name}",
                        optimizer=event.subject, source=f"{event.subject}.state_dict()",
                    )  # fmt: skip
