"""Snapshots that move: values that share memory with what is trained, and are used after a step."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

from fnlib.ledger.entries import Change, Entry, Event
from fnlib.ledger.findings.story import Rule, Severity, Story
from fnlib.ledger.findings.texts import assigned, right_side


@dataclass(eq=False, slots=True)
class Kept:
    """A name with a value, and the place in the value's memory that has changed since."""

    made: Entry | None  # None: before the recording
    moved: str = ""
    moved_at: int = -1


class Snapshots(Rule):
    """Names whose values share memory with watched state, under another tensor object."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.kept: dict[str, Kept] = {}
        self.same: dict[str, str] = {}
        self.lines: dict[str, int] = {}  # where a name was bound to a module of another name
        self.modes: dict[str, set[bool]] = {}
        self.known: set[tuple[str, str]] = set()

    def after(self, entry: Entry) -> None:
        for name in entry.reads:
            root = _root(name)
            kept = self.kept.get(root)
            if kept is not None and kept.moved and kept.moved_at != entry.index:
                self.judge(entry, root, kept)
        for target, value in assigned(entry.source) if "." in entry.source else ():
            if "." in target:
                self.same.pop(target, None)
                if self.story.weights_of(other := ast.unparse(value), entry.links):
                    self.same[target] = other  # self.target = self.policy
                    self.lines[target] = entry.line
        for change in self.story.own(entry):
            if change.state == "name":
                self.bound(entry, change)
            elif change.overwritten and change.state != "value":
                self.moved(entry, change)

    def bound(self, entry: Entry, change: Change) -> None:
        """Follow a name to its new value, which may be the memory of something else."""
        name, now = change.owner, change.after
        self.kept.pop(name, None)
        self.same.pop(name, None)
        if getattr(now, "type", "") in ("Tensor", "dict", "OrderedDict"):
            self.kept[name] = Kept(entry)
        other = right_side(entry.source) if getattr(now, "is_module", False) else None
        if other is not None and all(part.isidentifier() for part in other.split(".")):
            self.same[name] = other  # ``a = b`` or ``a = self.b``
            self.lines[name] = entry.line

    def moved(self, entry: Entry, change: Change) -> None:
        """Note which kept values an overwritten place has changed, under another tensor object."""
        for other in change.also:
            kept = self.kept.get(_root(other))
            if kept is None and _is_dict(entry, other):  # which no recorded statement has made
                kept = self.kept[_root(other)] = Kept(None)
            if kept is not None and not kept.moved and not _is_handle(kept, entry, change, other):
                kept.moved, kept.moved_at = change.label, entry.index

    def judge(self, entry: Entry, name: str, kept: Kept) -> None:
        """Report a use after a change: certain if the value is loaded back to where it came from."""
        owner = kept.moved.split(".")[0]
        loads = (event for event in entry.events if event.kind == "load_state_dict")
        back = any(event.subject.split(".")[0] == owner for event in loads)
        severity: Severity = "certain" if back else "question"
        made, value = "made before the recording", name
        if kept.made is not None:
            made = f"made at line {kept.made.line}"
            value = right_side(kept.made.source, name) or name
        elif not back:
            return  # what else it may be for was decided where it was made
        at = "where it is kept" if kept.made is None else f"line {kept.made.line}"
        fields = {"name": name, "made": made, "value": value, "at": at}
        self.story.report("snapshot-moved", severity, entry, kept.moved, per=name, **fields)
        kept.moved = ""

    def event(self, entry: Entry, event: Event) -> None:
        """Report one module that is called with gradients under one name, and without by another."""
        for name, other in self.same.items() if event.kind == "forward" else ():
            for one in {name, other} & {*entry.reads}:
                self.modes.setdefault(one, set()).add(event.data["grad_enabled"])
            for quiet, loud in ((name, other), (other, name)):
                differs = self.modes.get(quiet) == {False} and True in self.modes.get(loud, ())
                if differs and (quiet, loud) not in self.known:
                    self.known.add((quiet, loud))
                    bound, value = (quiet, loud) if self.same.get(quiet) == loud else (loud, quiet)
                    fields = {"name": quiet, "other": loud}
                    fields["cure"] = (
                        f"{bound} = copy.deepcopy({value})      # line {self.lines[bound]}"
                    )
                    code = "one-module-two-names"
                    self.story.report(code, "question", entry, event.subject, **fields)


# `optimizer.state_dict()` has the optimizer's own tensors, in numbered places.
_OF_AN_OPTIMIZER = re.compile(r"\.state\.\d+\.")


def _root(name: str) -> str:
    return name.split(".")[0].split("[")[0]


def _is_dict(entry: Entry, other: str) -> bool:
    """Say whether a label is of a place in a dict, not in a watched module or optimizer."""
    owners = {_root(label) for label in (*entry.links.weights, *entry.links.held)}
    return "." in other and _root(other) not in owners


def _is_handle(kept: Kept, entry: Entry, change: Change, other: str) -> bool:
    """Say whether a name is the very tensor that is trained, not something kept of it."""
    if kept.made is None and _OF_AN_OPTIMIZER.search(other):
        return False
    if kept.made is not None and any(event.kind == "state_dict" for event in kept.made.events):
        return False
    same = (alias.names for alias in entry.aliases if alias.kind == "same tensor")
    return any(change.label in names and other in names for names in same)
