"""Rates and schedulers: steps in the wrong order, rates that are reset, overwritten, or set where nobody reads them."""

from __future__ import annotations

import ast
from typing import Any

from fnlib.ledger.entries import Change, Entry, Event
from fnlib.ledger.findings.story import Rule, Story
from fnlib.ledger.findings.texts import right_side

SETTINGS = frozenset(
    {"lr", "momentum", "weight_decay", "betas", "eps", "dampening", "nesterov", "alpha", "maximize"}
)


class Rates(Rule):
    """Who set a rate last, and did that reach the optimizer?"""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.built: dict[str, Event] = {}
        self.stepped: set[str] = set()
        self.loaded: dict[str, Entry] = {}
        self.early: dict[str, tuple[Entry, Event]] = {}
        self.changed: list[tuple[Entry, Change]] = []
        self.copies: dict[str, str] = {}
        self.torchs: set[str] = set()
        self.unread: dict[str, tuple[Entry, str]] = {}

    def event(self, entry: Entry, event: Event) -> None:
        optimizer = event.data.get("optimizer", event.subject)
        if event.kind == "scheduler built":
            self.built.setdefault(optimizer, event)
        elif event.kind == "scheduler step" and event.data["early"]:
            self.early.setdefault(optimizer, (entry, event))
        elif event.kind == "step":
            self.stepped.add(event.subject)
            if event.data.get("type", "").startswith("torch.optim."):
                self.torchs.add(event.subject)
            if event.subject in self.early:
                at, early = self.early.pop(event.subject)
                scheduler = early.subject.strip("()")
                self.story.report(
                    "scheduler-before-optimizer",
                    "question",
                    at,
                    scheduler,
                    scheduler=scheduler,
                    optimizer=event.subject,
                )

    def after(self, entry: Entry) -> None:
        loads = {event.subject for event in entry.events if event.kind == "load_state_dict"}
        for change in self.story.own(entry):
            if (
                change.state == "group entry"
                and change.place.endswith(".lr")
                and change.kind == "changed in place"
            ):
                self.rate(entry, change, loads)
        self.loaded.update(dict.fromkeys(loads, entry))
        self.stepped -= loads
        if entry.kind == "header" or any(name in entry.source for name in SETTINGS):
            self.written(entry)

    def rate(self, entry: Entry, change: Change, loads: set[str]) -> None:
        """A rate changed: by a scheduler that was being built, or by a load?"""
        optimizer = change.owner
        builds = [
            event
            for event in entry.events
            if event.kind == "scheduler built" and event.data["optimizer"] == optimizer
        ]
        if builds and (optimizer in self.loaded or optimizer in self.stepped):
            since = "restored" if optimizer in self.loaded else "stepped"
            name = builds[0].subject
            self.story.report(
                "scheduler-reset-rate", "question", entry, change.label,
                scheduler=name, optimizer=optimizer, before=_rate(change.before),
                after=_rate(change.after), since=since, source=entry.source,
            )  # fmt: skip
        elif optimizer in loads and not builds:
            self.changed.append((entry, change))
        else:  # set again before it was used
            self.changed = [
                (at, one)
                for at, one in self.changed
                if one.label != change.label or optimizer in self.stepped
            ]

    def end(self) -> None:
        for entry, change in self.changed:
            if (
                change.owner not in self.built
            ):  # a schedule that is resumed brings its rate on purpose
                fields = dict(
                    optimizer=change.owner, before=_rate(change.before), after=_rate(change.after)
                )
                self.story.report("load-changed-rate", "question", entry, change.label, **fields)
        for optimizer, (entry, name) in self.unread.items():
            if optimizer in self.torchs:
                self.story.report(
                    "rate-set-on-the-object",
                    "certain",
                    entry,
                    optimizer,
                    source=entry.source,
                    optimizer=optimizer,
                    name=name,
                    assigned=_set_to(entry.source),
                )

    def written(self, entry: Entry) -> None:
        """Settings that are written where nobody reads them."""
        if entry.kind == "header":
            self.over_a_copy(entry)
            return
        for node in _assigned(entry.source):
            if isinstance(node, ast.Attribute) and node.attr in SETTINGS:
                owner = ast.unparse(node.value)
                if owner in entry.links.held and not any(
                    change.state == "group entry" for change in entry.changes
                ):
                    self.unread[owner] = (entry, node.attr)
            elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
                optimizer = self.copies.get(node.value.id)
                if (
                    optimizer is not None
                    and isinstance(node.slice, ast.Constant)
                    and node.slice.value in SETTINGS
                ):
                    self.story.report(
                        "rate-set-on-a-copy",
                        "certain",
                        entry,
                        optimizer,
                        source=entry.source,
                        optimizer=optimizer,
                        name=node.slice.value,
                        assigned=_set_to(entry.source),
                    )

    def over_a_copy(self, entry: Entry) -> None:
        """``for group in optimizer.state_dict()["param_groups"]``: the name of a group that nobody else has."""
        try:
            loop = ast.parse(entry.source + "\n    pass").body[0]
        except SyntaxError:
            return
        if isinstance(loop, ast.For) and isinstance(loop.target, ast.Name):
            self.copies.pop(loop.target.id, None)
            asked = [event.subject for event in entry.events if event.kind == "state_dict"]
            if (
                asked
                and isinstance(loop.iter, ast.Subscript)
                and isinstance(loop.iter.value, ast.Call)
            ):
                self.copies[loop.target.id] = asked[0]


def _rate(value: Any) -> str:
    """A rate as it was meant: 0.1 and not 0.09999999999999999."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _set_to(source: str) -> str:
    """Return the end of an assignment, from its operator on: ``*= 0.1``."""
    node = ast.parse(source).body[0]
    if isinstance(node, ast.AugAssign):
        return ast.unparse(node).removeprefix(ast.unparse(node.target)).strip()
    return f"= {right_side(source)}"


def _assigned(source: str) -> list[ast.expr]:
    """The targets that a statement assigns to."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return []
    found: list[ast.expr] = []
    for node in body:
        if isinstance(node, ast.Assign):
            found += node.targets
        elif isinstance(node, ast.AugAssign):
            found.append(node.target)
    return found
