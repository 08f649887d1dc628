"""Snapshots kept on an object: ``self.best = self.model.state_dict()``, loaded after a step.

Names are watched, attributes are not. But a statement that assigns ``state_dict()`` without copying
it keeps the module's own memory, and that shows in its text.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from fnlib.ledger.entries import Entry, Event
from fnlib.ledger.findings.story import Rule, Story
from fnlib.ledger.findings.texts import assigned


@dataclass(eq=False, slots=True)
class Kept:
    """The state of a module, kept under an attribute, and the place in it that has changed since."""

    made: Entry
    module: str
    value: str
    moved: str = ""


class Attributes(Rule):
    """State dicts that are kept on an object."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.kept: dict[str, Kept] = {}

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind != "load_state_dict":
            return
        for path, kept in self.kept.items():
            if kept.moved and kept.module == event.subject and _reads(entry, path):
                self.story.report(
                    "snapshot-moved", "certain", entry, kept.moved, per=path, name=path,
                    made=f"made at line {kept.made.line}", value=kept.value,
                    at=f"line {kept.made.line}",
                )  # fmt: skip

    def after(self, entry: Entry) -> None:
        for change in self.story.own(entry):
            if change.state in ("weight", "buffer") and change.overwritten:
                for kept in self.kept.values():
                    if change.owner == kept.module and not kept.moved:
                        kept.moved = change.label
        modules = [event.subject for event in entry.events if event.kind == "state_dict"]
        if modules or any(_reads(entry, path) for path in self.kept):
            for path, value in assigned(entry.source):
                self.kept.pop(path, None)
                if "." in path and len(set(modules)) == 1 and _is_state_dict(value):
                    self.kept[path] = Kept(entry, modules[0], ast.unparse(value))


def _reads(entry: Entry, path: str) -> bool:
    return any(read == path or read.startswith(f"{path}[") for read in entry.reads)


def _is_state_dict(value: ast.expr) -> bool:
    """Say whether an expression is a state dict itself, or a dict display with one in it."""
    if isinstance(value, ast.Dict):
        return any(_is_state_dict(one) for one in value.values)
    call = value.func if isinstance(value, ast.Call) else None
    return isinstance(call, ast.Attribute) and call.attr == "state_dict"
