"""What is the rhythm? Schedules that wait for the wrong sign, begin anew, or never come to their end."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field

from fnlib.ledger.entries import Entry, Event
from fnlib.ledger.findings.story import Rule, Story

ENOUGH = 3
_BETTER_HIGH = re.compile(
    r"acc|f1|auc|iou|dice|bleu|rouge|reward|return|recall|precision|psnr|ssim|score", re.I
)
_IN_BATCHES = re.compile(r"len\(|steps_per_epoch|=\s*\w*(steps|iters)\b")
_BETTER_LOW = re.compile(r"loss|err|perplexity|ppl|nll|mse|mae|cost", re.I)


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
                        scheduler=event.subject, cure=f"{name}.load_state_dict(checkpoint['scheduler'])"
                        f"      # saved by {name}.state_dict()",
                    )  # fmt: skip

    def judge_sign(self, one: Schedule) -> None:
        """Ask about a metric that is better when it is high, of which the schedule waits for lows."""
        entry, event, _ = one.calls[-1]
        known = [e.data["metric"] for _, e, _ in one.calls if e.data["metric"] is not None]
        mode = event.data["mode"]
        if mode not in ("min", "max") or len(known) < ENOUGH:
            return
        metric = _argument(entry.source)
        high, low = _BETTER_HIGH.search(metric), _BETTER_LOW.search(metric)
        rises = known[-1] > known[0]
        wrong = (high and not low and rises) if mode == "min" else (low and not high and not rises)
        if wrong:
            other = "max" if mode == "min" else "min"
            self.story.report(
                "scheduler-without-effect", "question", entry, event.subject, per="sign",
                said=f'has the mode "{mode}", and `{metric}` goes from {known[0]:.3g} to {known[-1]:.3g}',
                because="It lowers the rate while the metric gets better, and keeps it while that "
                "gets worse.",
                cure=f'{event.subject} = torch.optim.lr_scheduler.{event.data["type"]}'
                f'({event.data["optimizer"]}, mode="{other}")',
            )  # fmt: skip

    def judge_length(self, one: Schedule, built: Entry | None) -> None:
        """Ask about a schedule whose length is counted in batches, and that steps once an epoch."""
        entry, event, _ = one.calls[-1]
        total, counts = event.data["total"], [count for _, _, count in one.calls]
        gaps = {b - a for a, b in zip(counts, counts[1:], strict=False)}
        if total is None or len(counts) < ENOUGH or len(gaps) != 1 or counts[0] not in gaps:
            return
        (each,) = gaps
        counted = built is not None and _IN_BATCHES.search(built.source)
        if each > 1 and counted and total % each == 0 and total >= each * len(counts):
            self.story.report(
                "scheduler-without-effect", "question", entry, event.subject, per="length",
                said=f"has {total} steps and makes one for each {each} of {event.data['optimizer']}'s",
                because="Its length was counted in batches, so it never gets past its start.",
                cure=f"{entry.source}      # after each step of {event.data['optimizer']}",
            )  # fmt: skip


def _argument(source: str) -> str:
    """Return what a statement gives to ``step``, as source text.

    >>> _argument("scheduler.step(val_acc)")
    'val_acc'
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            values = [*node.args, *(one.value for one in node.keywords)]
            if node.func.attr == "step" and values:
                return ast.unparse(values[0])
    return ""
