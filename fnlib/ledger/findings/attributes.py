"""Snapshots that are kept on an object: ``self.best = self.model.state_dict()``, loaded back after the weights have moved.

Names are watched, attributes are not. But a statement that says ``state_dict()`` and nothing around it, such as a copy,
keeps the memory of the module itself, and that can be read where it is written.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from fnlib.ledger.entries import Entry, Event
from fnlib.ledger.findings.story import Rule, Story
from fnlib.ledger.findings.texts import right_side


@dataclass(eq=False, slots=True)
class Kept:
    """The state of a module, kept under an attribute, and the place in it that has moved since."""

    made: Entry
    module: str
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
            if _reads(entry, path) and kept.moved and kept.module == event.subject:
                self.story.report(
                    "snapshot-moved",
                    "certain",
                    entry,
                    kept.moved,
                    per=path,
                    name=path,
                    made=kept.made.line,
                    value=right_side(kept.made.source, path) or path,
                )

    def after(self, entry: Entry) -> None:
        for change in self.story.own(entry):
            for kept in self.kept.values():
                if (
                    change.owner == kept.module
                    and change.state in ("weight", "buffer")
                    and change.overwritten
                    and not kept.moved
                ):
                    kept.moved = change.label
        modules = [event.subject for event in entry.events if event.kind == "state_dict"]
        if modules or any(_reads(entry, path) for path in self.kept):
            for path, value in _set(entry.source):
                self.kept.pop(path, None)
                if len(set(modules)) == 1 and _is_state_dict(value):
                    self.kept[path] = Kept(entry, modules[0])


def _reads(entry: Entry, path: str) -> bool:
    return any(read == path or read.startswith(f"{path}[") for read in entry.reads)


def _set(source: str) -> Iterator[tuple[str, ast.expr]]:
    """The attributes that a statement sets, each with its value: ``a.x = value``, ``a.x, b.y = value, other``."""
    try:
        node = ast.parse(source).body[0]
    except (SyntaxError, IndexError):
        return
    if not isinstance(node, ast.Assign):
        return
    for target in node.targets:
        pairs = [(target, node.value)]
        if (
            isinstance(target, ast.Tuple)
            and isinstance(node.value, ast.Tuple)
            and len(target.elts) == len(node.value.elts)
        ):
            pairs = list(zip(target.elts, node.value.elts, strict=True))
        for one, value in pairs:
            if isinstance(one, ast.Attribute):
                yield ast.unparse(one), value


def _is_state_dict(value: ast.expr) -> bool:
    """Whether an expression is a state dict, or a dict display with one in it, and no copy of it."""
    if isinstance(value, ast.Dict):
        return any(_is_state_dict(one) for one in value.values)
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and value.func.attr == "state_dict"
    )
