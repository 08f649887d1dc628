"""What is the rhythm? Schedules that wait for the wrong sign, begin anew, or never come to their end."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field

from fnlib.ledger.entries import Entry, Event
from fnlib.ledger.findings.story import Rule, Story
from fnlib.ledger.findings.texts import argument

ENOUGH = 3
_IN_BATCHES = re.compile(r"\blen\(|steps_per_epoch")
# Metrics by their names in the field, as a whole word of a name.
_BETTER_HIGH = set(
    "acc accuracy f1 auc auroc iou miou dice bleu rouge reward recall precision psnr ssim".split()
)
_BETTER_LOW = set("loss losses error perplexity ppl nll mse rmse mae".split())


@dataclass(eq=False, slots=True)
class Schedule:
    """The steps of one scheduler, each with the number of its optimizer's steps before it."""

    token: int
    calls: list[tuple[Entry, Event, int]] = field(default_factory=list)


class Schedules(Rule):
    """Follows each scheduler's own steps, loads and metrics."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.steps: dict[int, int] = {}  # of each optimizer
        self.labels: dict[str, int] = {}  # tokens of optimizers
        self.all: dict[int, Schedule] = {}
        self.built: dict[int, Entry] = {}
        self.begun: dict[int, int] = {}  # schedulers that begin at 0, and their optimizers
        self.loaded: set[int] = set()
        self.restored: dict[
            int, tuple[Entry, int]
        ] = {}  # optimizers that a load has set: kinds seen before
        self.kinds: dict[str, int] = {}  # of schedulers that stepped, how often

    def event(self, entry: Entry, event: Event) -> None:
        data = event.data
        token = data.get("token") or 0
        if event.kind == "step":
            self.steps[token] = self.steps.get(token, 0) + 1
        elif event.kind == "scheduler built":
            self.built[data["scheduler"] or 0] = entry
            self.labels[data["optimizer"]] = token
            if data["begins"]:
                self.begun[data["scheduler"] or 0] = token
        elif event.kind == "scheduler load":
            self.loaded.add(data["scheduler"] or 0)
        elif event.kind == "load_state_dict":
            token = self.labels.get(event.subject, 0)
            if token and not self.steps.get(token):
                self.restored[token] = (entry, sum(self.kinds.values()))
        elif event.kind == "scheduler step":
            one = self.all.setdefault(data["scheduler"] or 0, Schedule(token))
            one.calls.append((entry, event, self.steps.get(token, 0)))
            self.kinds[data["type"]] = self.kinds.get(data["type"], 0) + 1

    def end(self) -> None:
        for scheduler, one in self.all.items():
            self.judge_sign(one)
            self.judge_length(one, self.built.get(scheduler))
            entry, before = self.restored.get(one.token, (None, 0))
            event = one.calls[-1][1]
            name = event.subject.partition(" (")[0]
            anew = scheduler in self.begun and scheduler not in self.loaded
            if entry is not None and anew and before >= 2 and one.calls[0][2] > 0:
                others = [two for two in self.all.values() if two is not one]
                if any(two.calls[0][1].data["type"] == event.data["type"] for two in others):
                    self.story.report(
                        "scheduler-without-effect", "question", entry, event.subject, per="anew",
                        said=f"begins at 0 again, though {event.data['optimizer']} is loaded here",
                        because="An optimizer's state dict has the rate of then, not the count.",
                        cure=f"{name}.load_state_dict({_beside(entry.source)})"
                        f"      # there by {name}.state_dict(), at the save",
                    )  # fmt: skip

    def judge_sign(self, one: Schedule) -> None:
        """Ask about a metric that is better when it is high, of which the schedule waits for lows."""
        entry, event, _ = one.calls[-1]
        known = [e.data["metric"] for _, e, _ in one.calls if e.data["metric"] is not None]
        mode = event.data["mode"]
        if mode not in ("min", "max") or len(known) < ENOUGH:
            return
        given = argument(entry.source, "step")
        words = _words(given)
        high, low = words & _BETTER_HIGH, words & _BETTER_LOW
        rises = known[-1] > known[0]
        wrong = (high and not low and rises) if mode == "min" else (low and not high and not rises)
        if given is not None and wrong:
            other = "max" if mode == "min" else "min"
            self.story.report(
                "scheduler-without-effect", "question", entry, event.subject, per="sign",
                said=f'has the mode "{mode}", and `{ast.unparse(given)}` goes from {known[0]:.3g} to {known[-1]:.3g}',
                because="It lowers the rate while the metric gets better, and keeps it while that "
                "gets worse.",
                cure=f'{event.subject} = torch.optim.lr_scheduler.{event.data["type"]}'
                f'({event.data["optimizer"]}, mode="{other}")',
            )  # fmt: skip

    def judge_length(self, one: Schedule, built: Entry | None) -> None:
        """Ask about a schedule whose length is counted in batches, and that steps once an epoch.

        Its length is the number of all steps of the optimizer; or, in a run that was cut short, a
        multiple of those between two of its own, and was computed from the length of a loader.
        """
        entry, event, _ = one.calls[-1]
        total, counts = event.data["total"], [count for _, _, count in one.calls]
        gaps = {b - a for a, b in zip(counts, counts[1:], strict=False)}
        if total is None or len(counts) < ENOUGH or len(gaps) != 1 or counts[0] not in gaps:
            return
        (each,) = gaps
        counted = built is not None and _IN_BATCHES.search(built.source) and total % each == 0
        made = each * len(counts)
        if each > 1 and (total == made or counted and total > made):
            self.story.report(
                "scheduler-without-effect", "question", entry, event.subject, per="length",
                said=f"has {total} steps and makes one for each {each} of {event.data['optimizer']}'s",
                because="Its length was counted in batches, so it never gets past its start.",
                cure=f"{entry.source}      # after each step of {event.data['optimizer']}",
            )  # fmt: skip


def _words(given: ast.expr | None) -> set[str]:
    """Return the words of the name of a metric; of a sum, a difference or a function's value, none.

    >>> sorted(_words(ast.parse("logs['valAccuracy'].item()", mode="eval").body))
    ['accuracy', 'val']
    >>> _words(ast.parse("1 - accuracy", mode="eval").body)
    set()
    """
    while isinstance(given, ast.Call) and isinstance(given.func, ast.Attribute) and not given.args:
        given = given.func.value  # loss.item()
    name: object = ""
    if isinstance(given, ast.Name):
        name = given.id
    elif isinstance(given, ast.Attribute):
        name = given.attr
    elif isinstance(given, ast.Subscript) and isinstance(given.slice, ast.Constant):
        name = given.slice.value
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+\d?|[A-Z]+\d?", str(name))}


def _beside(source: str) -> str:
    """Return a place for a scheduler's state, beside that of an optimizer which a statement loads.

    >>> _beside("optimizer.load_state_dict(state['o'])"), _beside("optimizer.load_state_dict(o)")
    ("state['scheduler']", 'scheduler_state')
    """
    given = argument(source, "load_state_dict")
    if isinstance(given, ast.Subscript):
        return f"{ast.unparse(given.value)}['scheduler']"
    return "scheduler_state"
