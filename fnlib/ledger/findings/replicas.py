"""Are gradients averaged over the replicas? DistributedDataParallel sees only its own forward and its own hooks."""

from __future__ import annotations

from dataclasses import dataclass

from fnlib.ledger.entries import Entry, Event
from fnlib.ledger.findings.story import Rule, Story

ENOUGH = 2  # backward passes that it doesn't see
_KIND = "DistributedDataParallel"


@dataclass(eq=False, slots=True)
class Wrapper:
    """A wrapper, and what has happened to its weights since it attached its hooks."""

    called: bool = False  # since the last backward
    converted: Entry | None = None
    passed: int = 0  # backward passes without its forward, or after the conversion
    last: Entry | None = None


class Replicas(Rule):
    """Gradients of a wrapped model that stay those of one process."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.wrappers: dict[str, Wrapper] = {}

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "forward" and event.data["grad_enabled"]:
            if event.data["type"] == _KIND:
                self.wrappers.setdefault(event.subject, Wrapper()).called = True
        elif event.kind == "backward" and not event.data["raised"]:
            for name, one in self.wrappers.items():
                if self.story.weights_of(name, entry.links) & event.data["weights"].keys():
                    if not one.called or one.converted is not None:
                        one.passed, one.last = one.passed + 1, entry
                    one.called = False

    def after(self, entry: Entry) -> None:
        for change in entry.changes if self.wrappers or _KIND in entry.source else ():
            if change.state == "name" and getattr(change.after, "type", "") == _KIND:
                self.wrappers[change.owner] = Wrapper()
            elif change.state == "weight" and change.kind != "removed":
                before, after = (
                    (getattr(one, "dtype", None), getattr(one, "device", None))
                    for one in (change.before, change.after)
                )
                for name, one in self.wrappers.items() if before != after else ():
                    if change.label in self.story.weights_of(name, entry.links):
                        one.converted = entry

    def end(self) -> None:
        for name, one in self.wrappers.items():
            if one.passed >= ENOUGH and one.last is not None:
                at = one.last
                why = (
                    "These ran the model inside of it, and it averages only after its own forward."
                )
                fixed = f"{name}(inputs)      # not the model inside, wherever gradients are made"
                if one.converted is not None:
                    at = one.converted
                    why = "To convert a weight drops the hooks that average its gradient."
                    fixed = f"{at.source}      # before {name} is built"
                self.story.report(
                    "set-without-effect", "question", at, name, source=_KIND, because=why,
                    where=f" on {one.passed} backward passes: the replicas drift apart", fixed=fixed,
                )  # fmt: skip
