"""What is the rhythm? A statement that draws random numbers and still gives each step the same batch."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from fnlib.ledger.entries import Entry
from fnlib.ledger.findings.story import Rule, Scopes, Story

ENOUGH = 4  # steps on the same data


@dataclass(eq=False, slots=True)
class Batch:
    """What one statement binds a name to: the same contents, run after run."""

    entry: Entry
    contents: object = None
    same: int = 0  # runs in a row with these contents
    trained: int = 0  # of these, those that a training forward read
    others: set[object] = field(default_factory=set)


class Batches(Rule):
    """Batches of a DataLoader's iterator that is made anew: always its first one.

    A loader of one batch has no other one to give.
    """

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.found: dict[tuple[str, str, int, str], Batch] = {}
        self.bound = Scopes()

    def after(self, entry: Entry) -> None:
        self.bound.leave(entry)
        bound = self.bound.of(entry)
        calls = [event.data for event in entry.all_events if event.kind == "forward"]
        if any(data["grad_enabled"] and data["training"] for data in calls):
            for name in entry.reads:
                if name in bound:
                    bound[name].trained += 1
        # a loader of one batch gives the same one, and so does what draws without a loader
        anew = any(
            event.kind == "iterator" and event.data["batches"] != 1 for event in entry.all_events
        )
        for change in entry.changes:
            if change.state != "name" or getattr(change.after, "type", "") != "Tensor":
                continue
            bound.pop(change.owner, None)
            if self.story.rounds(entry):
                self.note(entry, change.owner, change.after.contents if anew else None)
                bound[change.owner] = self.found[(*entry.where, change.owner)]

    def note(self, entry: Entry, name: str, contents: str | None) -> None:
        """Count a run with the same contents; another batch starts the count again."""
        one = self.found.setdefault((*entry.where, name), Batch(entry))
        one.same = one.same + 1 if contents == one.contents else 1
        one.contents, one.entry = contents, entry
        one.others.add(contents)

    def end(self) -> None:
        if self.story.reported("draws-repeated", "seed-repeated"):
            return  # the generator is set back, and the batch is only one of what it draws again
        # a mask beside the data may stay the same: the statement advances if one of its tensors does
        advancing = {key[:-1] for key, one in self.found.items() if len(one.others) > 1}
        for (*where, name), one in self.found.items():
            if (
                tuple(where) not in advancing
                and one.same >= ENOUGH
                and one.contents
                and len(one.others) == 1
                and one.trained >= ENOUGH
            ):
                self.story.report(
                    "draws-repeated", "question", one.entry, name, source=one.entry.source,
                    said=f"gives the same batch {one.same} times in a row, and each step trains on it",
                    because="An iterator that is made anew begins anew: only its first batch is used.",
                    fixed=f"batches = {_iterator(one.entry)}"
                    "      # once an epoch, before the loop over steps\n"
                    f"{', '.join(one.entry.binds)} = next(batches)",
                )  # fmt: skip


def _iterator(entry: Entry) -> str:
    """Return what makes an iterator anew in a statement, or in a function that it calls."""
    for one in (entry, *entry.inside):
        code = one.source if one.kind == "statement" else f"{one.source} 0"  # a loop's first line
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.For):
                return f"iter({ast.unparse(node.iter)})"
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "iter":
                return ast.unparse(node)
    return "iter(loader)"
