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
    writes: int = 0
    steps: int = 0
    fresh: bool = False  # written since the last step
    moved: Tensor | None = None  # what they were before the last step, until it is taken back


class Pruning(Rule):
    """Masks that are laid on weights once, and rows whose gradient is cleared by hand."""

    whole = True

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.stepped: dict[str, str] = {}  # weights, and the optimizer of their last step
        self.zeroed: dict[str, Zeroed] = {}  # by the label of a weight or its gradient

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "step":
            self.stepped.update(dict.fromkeys(event.data["weights"], event.subject))
        elif event.kind == "forward" and event.data["grad_enabled"]:
            for one in self.zeroed.values():
                one.steps += one.moved is not None
                one.moved = None

    def after(self, entry: Entry) -> None:
        own = [one for one in self.story.own(entry) if one.state in ("weight", "gradient")]
        kinds = {event.kind for event in entry.all_events} if own else set()
        for change in own:
            before, after = _numbers(change.before), _numbers(change.after)
            if before is None or after is None or before.shape != after.shape:
                continue
            if "step" in kinds and change.state == "weight":
                self.step(change.label, before, after)
            elif not kinds & {"step", "backward", "zero_grad", "clip", "load_state_dict"}:
                self.write(entry, change, before, after)

    def write(self, entry: Entry, change: Change, before: Tensor, after: Tensor) -> None:
        """Note numbers that a statement of the program sets to zero, or back to what they were."""
        rows = self.zeroed.get(f"{change.label}.grad")
        if rows is not None and rows.moved is not None and after[rows.where].equal(rows.moved):
            rows.moved = None
        zero = (after == 0) & (before != 0)
        few = not LEAST * zero.numel() <= int(zero.sum()) or not bool((after != 0).any())
        if few or not before[~zero].equal(after[~zero]):
            return
        if change.state == "gradient" or change.label in self.stepped:
            one = self.zeroed.setdefault(change.label, Zeroed(entry, after == 0))
            one.writes += 1
            one.fresh = one.where.equal(after == 0)  # random places are meant to move

    def step(self, weight: str, before: Tensor, after: Tensor) -> None:
        """Look at the zeros of a weight, and at the places without gradient, after a step."""
        mask, rows = self.zeroed.get(weight), self.zeroed.get(f"{weight}.grad")
        if mask is not None and bool((after[mask.where] != 0).float().mean() > 0.5):
            mask.steps += 1
        if rows is not None and rows.fresh:
            rows.fresh = False
            if bool((before != after)[rows.where].float().mean() > 0.5):
                rows.moved = before[rows.where]

    def end(self) -> None:
        late = {label: one for label, one in self.zeroed.items() if one.steps >= ENOUGH}
        masks = {label: one for label, one in late.items() if label in self.stepped}
        for label, one in late.items():
            weight = label.removesuffix(".grad")
            name = code_of(weight)
            if label != weight:
                self.story.report(
                    "moved-without-gradient", "question", one.entry, weight, per="rows",
                    optimizer=self.stepped[weight],
                    zero=f"at {int(one.where.sum())} of {one.where.numel()} numbers",
                    cure=f"kept = {name}.detach().clone()      # before the step; after it:\n"
                    f"with torch.no_grad():\n    {name}[rows] = kept[rows]      # rows: to keep",
                )  # fmt: skip
            elif one.writes == 1 and len(masks) > 1:  # one alone: rows that begin anew
                self.story.report(
                    "set-without-effect", "question", one.entry, weight, source=one.entry.source,
                    because="It sets weights to zero once, and the next steps move them again.",
                    fixed=f"{one.entry.source}      # after each step",
                )  # fmt: skip


def _numbers(side: object) -> Tensor | None:
    return side.numbers() if isinstance(side, Summary) else None
