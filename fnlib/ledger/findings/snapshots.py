"""Snapshots that move: values that were kept, share memory with what is trained, and are used after it has changed."""

from __future__ import annotations

from dataclasses import dataclass

from fnlib.ledger.entries import Change, Entry, Event
from fnlib.ledger.findings.story import Rule, Severity, Story
from fnlib.ledger.findings.texts import right_side


@dataclass(eq=False, slots=True)
class Kept:
    """A name that was bound to a value, and the place under it that has moved since."""

    made: Entry
    moved: str = ""
    moved_at: int = -1


class Snapshots(Rule):
    """Names whose values share memory with watched state, under another tensor object."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.kept: dict[str, Kept] = {}
        self.same: dict[str, str] = {}
        self.modes: dict[str, set[bool]] = {}
        self.told: set[tuple[str, str]] = set()

    def after(self, entry: Entry) -> None:
        for name in entry.reads:
            root = name.split(".")[0].split("[")[0]
            kept = self.kept.get(root)
            if kept is not None and kept.moved and kept.moved_at != entry.index:
                self.judge(entry, root, kept)
        for change in self.story.own(entry):
            if change.state == "name":
                self.bound(entry, change)
            elif change.overwritten and change.state != "value":
                self.moved(entry, change)

    def bound(self, entry: Entry, change: Change) -> None:
        """A name has a new value, which may be the memory of something else."""
        self.kept.pop(change.owner, None)
        if getattr(change.after, "type", "") in ("Tensor", "dict", "OrderedDict"):
            self.kept[change.owner] = Kept(entry)
        self.same.pop(change.owner, None)
        other = _other_name(entry) if getattr(change.after, "is_module", False) else None
        if other is not None:
            self.same[change.owner] = other

    def moved(self, entry: Entry, change: Change) -> None:
        """State has been overwritten; whoever shares its memory, under another tensor object, has moved too."""
        for other in change.also:
            root = other.split(".")[0].split("[")[0]
            if root in self.kept and not self.is_handle(self.kept[root], entry, change, other):
                kept = self.kept[root]
                if not kept.moved:
                    kept.moved, kept.moved_at = change.label, entry.index

    @staticmethod
    def is_handle(kept: Kept, entry: Entry, change: Change, other: str) -> bool:
        """Whether a name stands for the very tensor that is trained, to work on it, and not for something kept of it."""
        if any(event.kind == "state_dict" for event in kept.made.events):
            return False
        return any(
            alias.kind == "same tensor" and change.label in alias.names and other in alias.names
            for alias in entry.aliases
        )

    def judge(self, entry: Entry, name: str, kept: Kept) -> None:
        """A kept value is used after it has moved: certain if it is loaded back into where it came from."""
        owner = kept.moved.split(".")[0]
        back = any(
            event.kind == "load_state_dict" and event.subject.split(".")[0] == owner
            for event in entry.events
        )
        severity: Severity = "certain" if back else "question"
        self.story.report(
            "snapshot-moved", severity, entry, kept.moved, per=name,
            name=name, made=kept.made.line, value=right_side(kept.made.source, name) or name,
        )  # fmt: skip
        kept.moved = ""

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "forward":
            self.called(entry, event)

    def called(self, entry: Entry, event: Event) -> None:
        """One module, called with a gradient under one name and without under another."""
        for name, other in self.same.items():
            for one in (name, other):
                if one in entry.reads:
                    self.modes.setdefault(one, set()).add(event.data["grad_enabled"])
            for quiet, loud in ((name, other), (other, name)):
                if (
                    self.modes.get(quiet) == {False}
                    and True in self.modes.get(loud, ())
                    and (quiet, loud) not in self.told
                ):
                    self.told.add((quiet, loud))
                    self.story.report(
                        "one-module-two-names",
                        "question",
                        entry,
                        event.subject,
                        name=quiet,
                        other=loud,
                    )


def _other_name(entry: Entry) -> str | None:
    """The name that a statement gives another name to: ``a = b`` or ``self.a = b``."""
    value = right_side(entry.source)
    named = value is not None and all(part.isidentifier() for part in value.split("."))
    return value if named else None
