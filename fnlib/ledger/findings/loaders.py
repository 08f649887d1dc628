"""What do the loaders draw? The same order again, a few items only, or data that is validated on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fnlib.ledger.entries import Entry, Event
from fnlib.ledger.findings.story import Rule, Story

ENOUGH = 3  # passes over the data
_THROUGH_A_PART = re.compile(r"([\w.]+)\.dataset\.(\w+)\s*=(?!=)")


@dataclass(eq=False, slots=True)
class Pass:
    """One iterator of a DataLoader, and what was done with its batches."""

    entry: Entry
    data: Mapping[str, Any]
    trained: bool = False
    evaluated: bool = False

    @property
    def whole(self) -> bool:
        """Whether it draws from all of a data set, not from a `Subset`."""
        return bool(self.data["data"] == self.data["whole"])


class Loaders(Rule):
    """Compares what the loops that train draw from with what is evaluated, and each pass with the last."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.passes: list[Pass] = []
        self.latest: dict[tuple[str, str, int], Pass] = {}
        self.shared: list[tuple[Entry, str, str]] = []

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "iterator":
            self.latest[entry.where] = one = Pass(entry, event.data)
            self.passes.append(one)
        elif event.kind == "step" or event.kind == "forward" and not event.data["grad_enabled"]:
            loops = {around[:2] for around in self.story.rounds(entry)} if self.latest else set()
            for one in self.latest.values():
                if (one.entry.file, one.entry.line) in loops:
                    one.trained |= event.kind == "step"
                    one.evaluated |= event.kind == "forward"
                elif event.kind == "forward" and one.entry in self.story.chain(entry):
                    one.evaluated = True  # in a comprehension

    def after(self, entry: Entry) -> None:
        if ".dataset." in entry.source and entry.kind == "statement" and not entry.iterations:
            found = _THROUGH_A_PART.match(entry.source)
            if found:
                self.shared.append((entry, found[1], found[2]))

    def end(self) -> None:
        lines: dict[tuple[str, str, int], list[Pass]] = {}
        for one in self.passes:
            if one.trained:
                lines.setdefault(one.entry.where, []).append(one)
        for some in lines.values():
            self.judge_order(some)
        quiet = [one for one in self.passes if one.evaluated and not one.trained]
        wholes = {one.data["whole"] for one in quiet}
        for some in lines.values() if len(wholes) == 1 and len(quiet) >= ENOUGH - 1 else ():
            if {one.data["whole"] for one in some} == wholes and None not in wholes:
                self.judge_parts(some, quiet)

    def judge_order(self, some: list[Pass]) -> None:
        """Ask about passes in one order, and about items that no pass can draw."""
        one = some[-1]
        entry, data = one.entry, one.data
        orders = {each.data["order"] for each in some}
        said, because, fixed = "", "", ""
        if data["weights"] is not None and data["weights"] < (data["size"] or 0):
            said = f"only ever draws {data['weights']} of the {data['size']} items"
            because = "A WeightedRandomSampler takes one weight for each item, not for each class."
            fixed = "weights = class_weights[labels]      # one for each item"
        elif len(some) >= ENOUGH and len(orders) == 1 and None not in orders:
            said = f"draws the batches in one order in all {len(some)} passes"
            if data["shuffles"] == "DistributedSampler":
                because = "Its order depends on its seed and its epoch, and the epoch is never set."
                fixed = f"sampler.set_epoch(epoch)      # before each pass\n{entry.source}"
            else:
                because = "The generator of its shuffle begins in the same state each time."
                fixed = "generator = torch.Generator().manual_seed(0)      # once, before the loop"
        if said:
            fixed += "\n    pass" if fixed.endswith(":") else ""
            self.story.report(
                "draws-repeated", "question", entry, "loader", source=entry.source.removesuffix(":"),
                said=said, because=because, fixed=fixed,
            )  # fmt: skip

    def judge_parts(self, some: list[Pass], quiet: list[Pass]) -> None:
        """Ask about training on a whole of which a part is evaluated, and about a shared setting."""
        entry = some[-1].entry
        parts = {one.data["data"] for one in quiet}
        if len(some) > 1 and all(one.whole for one in some) and not any(one.whole for one in quiet):
            at, size = quiet[-1].entry, quiet[-1].data["size"]
            self.story.report(
                "trained-on-validation-data", "question", entry, "loader",
                said=f"The {size} items that line {at.line} evaluates are a part of the "
                f"{some[-1].data['size']} that this loop trains on",
                because="This loader reads the whole data set, not the other part of the split.",
                fixed="train_part, valid_part = random_split(dataset, [0.8, 0.2])\n"
                "loader = DataLoader(train_part, shuffle=True)",
            )  # fmt: skip
        elif self.shared and not any(one.whole for one in (*some, *quiet)):
            if not parts & {one.data["data"] for one in some}:
                at, part, name = self.shared[-1]
                self.story.report(
                    "kept-by-reference", "question", at, f"{part}.dataset", per="part", name=part,
                    value="the data set",
                    changes=f"the other part reads too: `{name}` is set for both",
                    fixed=f"{part}.dataset = copy.copy({part}.dataset)\n{at.source}",
                )  # fmt: skip
