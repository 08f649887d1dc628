"""Rates and schedulers: wrong order, rates that are reset, overwritten, or set without effect."""

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
    """Who set a rate last, and whether it reached the optimizer."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.built: set[str] = set()  # optimizers with a scheduler
        self.stepped: set[str] = set()
        self.loaded: dict[str, str] = {}  # the statement that loaded an optimizer
        self.early: dict[str, tuple[Entry, str]] = {}
        self.changed: list[tuple[Entry, Change]] = []
        self.copies: dict[str, str] = {}
        self.of_torch: set[str] = set()
        self.unread: dict[str, tuple[Entry, str]] = {}

    def event(self, entry: Entry, event: Event) -> None:
        optimizer = event.data.get("optimizer", event.subject)
        if event.kind == "scheduler built":
            self.built.add(optimizer)
        elif event.kind == "scheduler step" and event.data["early"]:
            self.early.setdefault(optimizer, (entry, event.subject.strip("()")))
        elif event.kind == "step":
            self.stepped.add(optimizer)
            if event.data.get("type", "").startswith("torch.optim."):
                self.of_torch.add(optimizer)
            if optimizer in self.early:
                at, scheduler = self.early.pop(optimizer)
                fields = {"scheduler": scheduler, "optimizer": optimizer}
                code = "scheduler-before-optimizer"
                self.story.report(code, "question", at, scheduler, **fields)

    def after(self, entry: Entry) -> None:
        loads = {event.subject for event in entry.events if event.kind == "load_state_dict"}
        for change in self.story.own(entry):
            rate = change.state == "group entry" and change.place.endswith(".lr")
            if rate and change.kind == "changed in place":
                self.rate(entry, change, loads)
        self.loaded.update(dict.fromkeys(loads, entry.source))
        self.stepped -= loads
        if entry.kind == "header":
            self.over_a_copy(entry)
        elif any(name in entry.source for name in SETTINGS):
            self.written(entry)

    def rate(self, entry: Entry, change: Change, loads: set[str]) -> None:
        """Judge a change of a rate: by building a scheduler, or by a load."""
        optimizer = change.owner
        builds = [
            event
            for event in entry.events
            if event.kind == "scheduler built" and event.data["optimizer"] == optimizer
        ]
        if builds and (optimizer in self.loaded or optimizer in self.stepped):
            self.story.report(
                "scheduler-reset-rate", "question", entry, change.label,
                scheduler=builds[0].subject, **_both(change),
                since="restored" if optimizer in self.loaded else "stepped",
                cure=f"{entry.source}\n{self.loaded[optimizer]}      # after the scheduler is built"
                if optimizer in self.loaded
                else f"{entry.source}      # before the first {optimizer}.step()",
            )  # fmt: skip
        elif optimizer in loads and not builds:
            self.changed.append((entry, change))
        elif optimizer not in self.stepped:  # set again before it was used
            self.changed = [one for one in self.changed if one[1].label != change.label]

    def end(self) -> None:
        for entry, change in self.changed:
            if change.owner not in self.built:  # a schedule that is resumed brings its rate
                fields = _both(change)
                self.story.report("load-changed-rate", "question", entry, change.label, **fields)
        for optimizer, (entry, name) in self.unread.items():
            if optimizer in self.of_torch:
                self.report("rate-set-on-the-object", entry, optimizer, name)

    def report(self, code: str, entry: Entry, optimizer: str, name: str) -> None:
        """Report a setting that was written without effect."""
        node, value = ast.parse(entry.source).body[0], right_side(entry.source)
        sign = "="
        if isinstance(node, ast.AugAssign):  # its operator, as it was written
            sign = ast.unparse(node)[len(ast.unparse(node.target)) :].split()[0]
        fields = {"source": entry.source, "name": name, "assigned": f"{sign} {value}"}
        self.story.report(code, "certain", entry, optimizer, optimizer=optimizer, **fields)

    def written(self, entry: Entry) -> None:
        """Look for settings that are written where no optimizer reads them."""
        for node in _targets(entry.source):
            if isinstance(node, ast.Attribute) and node.attr in SETTINGS:
                owner = ast.unparse(node.value)
                reached = any(change.state == "group entry" for change in entry.changes)
                if owner in entry.links.held and not reached:
                    self.unread[owner] = (entry, node.attr)
            elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
                optimizer = self.copies.get(node.value.id)
                name = node.slice.value if isinstance(node.slice, ast.Constant) else None
                if optimizer is not None and name in SETTINGS:
                    self.report("rate-set-on-a-copy", entry, optimizer, str(name))

    def over_a_copy(self, entry: Entry) -> None:
        """Note the name of a copied group: ``for g in optimizer.state_dict()["param_groups"]``."""
        try:
            loop = ast.parse(entry.source + "\n    pass").body[0]
        except SyntaxError:
            return
        if isinstance(loop, ast.For) and isinstance(loop.target, ast.Name):
            self.copies.pop(loop.target.id, None)
            asked = [event.subject for event in entry.events if event.kind == "state_dict"]
            over = loop.iter
            if asked and isinstance(over, ast.Subscript) and isinstance(over.value, ast.Call):
                self.copies[loop.target.id] = asked[0]


def _both(change: Change) -> dict[str, str]:
    """Return the optimizer and its rate before and after: 0.1, not 0.09999999999999999."""
    sides: tuple[Any, Any] = (change.before, change.after)
    before, after = (f"{side:g}" if isinstance(side, float) else str(side) for side in sides)
    return {"optimizer": change.owner, "before": before, "after": after}


def _targets(source: str) -> list[ast.expr]:
    """Return the targets that a statement assigns to."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return []
    found: list[ast.expr] = []
    for node in body:
        found += node.targets if isinstance(node, ast.Assign) else ()
        found += [node.target] if isinstance(node, ast.AugAssign) else ()
    return found
