"""Do zeros last? Numbers of a weight or a gradient that are set to zero, and move all the same.

Asked of small tensors only, whose numbers a recording keeps: of a network that is pruned, some are.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fnlib.ledger.entries import Change, Entry, Event, Summary
from fnlib.ledger.findings.story import Rule, Story
from fnlib.ledger.findings.texts import code_of

ENOUGH = 3  # steps
LEAST = 0.05  # of the numbers of a tensor: fewer are a corner case


@dataclass(eq=False, slots=True)
class Zeroed:
    """Numbers that one statement set to zero, and what steps did to them."""

    entry: Entry
    where: Tensor
    writes: int = 1
    steps: int = 0
    moved: Tensor | None = None  # what they were before the last step, until it is taken back


class Places(Rule):
    """Masks that are laid on weights once, and rows whose gradient is cleared by hand."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.stepped: dict[str, str] = {}  # weights, and the optimizer of their last step
        self.weights: dict[str, Zeroed] = {}
        self.gradients: dict[str, Zeroed] = {}
        self.fresh: set[str] = set()  # gradients that were cleared in part since the last step

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "step":
            self.stepped.update(dict.fromkeys(event.data["weights"], event.subject))
        elif event.kind == "forward" and event.data["grad_enabled"]:
            for one in self.gradients.values():
                one.steps += one.moved is not None
                one.moved = None

    def after(self, entry: Entry) -> None:
        own = [one for one in self.story.own(entry) if one.state in ("weight", "gradient")]
        kinds = {event.kind for event in entry.all_events} if own else set()
        for change in own:
            if "step" in kinds and change.state == "weight":
                self.step(change)
            elif not kinds & {"step", "backward", "zero_grad", "clip", "load_state_dict"}:
                self.write(entry, change)

    def write(self, entry: Entry, change: Change) -> None:
        """Note numbers that a statement of the program sets to zero, or back to what they were."""
        weight = change.label.removesuffix(".grad")
        known = self.gradients.get(weight)
        if change.state == "weight" and known is not None and known.moved is not None:
            after = _numbers(change.after)
            if after is not None and after[known.where].equal(known.moved):
                known.moved = None
        if weight not in self.stepped and change.state == "weight":
            return
        before, after = _numbers(change.before), _numbers(change.after)
        if before is None or after is None or before.shape != after.shape:
            return
        zero = (after == 0) & (before != 0)
        if not LEAST * zero.numel() <= int(zero.sum()) or not bool((after != 0).any()):
            return
        some = self.weights if change.state == "weight" else self.gradients
        if not before[~zero].equal(after[~zero]):
            return
        one = some.setdefault(weight, Zeroed(entry, after == 0, 0))
        one.writes += 1
        one.where = after == 0
        if change.state == "gradient":
            self.fresh.add(weight)

    def step(self, change: Change) -> None:
        """Look at the zeros of a weight, and at the places without gradient, after a step."""
        before, after = _numbers(change.before), _numbers(change.after)
        weight, masked = change.label, self.weights.get(change.label)
        if before is None or after is None:
            return
        if masked is not None and 2 * int((after[masked.where] != 0).sum()) > int(
            masked.where.sum()
        ):
            masked.steps += 1
        if weight in self.fresh:
            self.fresh.discard(weight)
            one = self.gradients[weight]
            if 2 * int((before != after)[one.where].sum()) > int(one.where.sum()):
                one.moved = before[one.where]

    def end(self) -> None:
        lines: dict[tuple[str, str, int], list[str]] = {}
        for weight, one in self.weights.items():
            if one.writes == 1 and one.steps >= ENOUGH:
                lines.setdefault(one.entry.where, []).append(weight)
        for weights in lines.values():
            entry = self.weights[weights[0]].entry
            for weight in weights if len(weights) > 1 else ():  # one alone: rows that begin anew
                self.story.report(
                    "set-without-effect", "question", entry, weight, source=entry.source,
                    because="It sets weights to zero once, and the next steps move them away from it.",
                    fixed=f"{entry.source}      # after each step",
                )  # fmt: skip
        for weight, one in self.gradients.items():
            if one.steps >= ENOUGH:
                number, name = int(one.where.sum()), code_of(weight)
                self.story.report(
                    "moved-without-gradient", "question", one.entry, weight, per="rows",
                    optimizer=self.stepped[weight], zero=f"at {number} of {one.where.numel()} numbers",
                    cure=f"kept = {name}.detach().clone()      # before the step; after it:\n"
                    f"with torch.no_grad():\n    {name}[rows] = kept[rows]      # rows: to keep",
                )  # fmt: skip


def _numbers(side: object) -> Tensor | None:
    return side.numbers() if isinstance(side, Summary) else None
