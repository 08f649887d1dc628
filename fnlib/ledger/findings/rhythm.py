"""What is the rhythm? Rates that die or stay, schedulers without effect, optimizers made anew."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

from fnlib.ledger.entries import Entry, Event
from fnlib.ledger.findings.story import Rule, Story, norm_after
from fnlib.ledger.findings.texts import right_side

ENOUGH = 3
LONG = 8  # steps in which a weight does not move
LOWEST = 1e-2  # of the first rate; only questions ask it
_COUNTS = "A scheduler counts its own steps, whatever they are meant to be."
_LOST = "No step uses the rates that it computes."
_FACTOR = "LambdaLR multiplies the optimizer's rate by what its function returns."


@dataclass(eq=False, slots=True)
class Step:
    """One step of an optimizer: its rates, the loops around it, and whether a weight moved."""

    entry: Entry
    event: Event
    rates: tuple[float, ...]
    rounds: tuple[tuple[str, int, int], ...]
    strong: bool = False  # the gradient is about as large as at the beginning
    moved: bool = False
    stuck: frozenset[str] = frozenset()  # weights with a large gradient that did not move


def _number(rate: Any) -> float:
    try:
        return float(rate)
    except (TypeError, ValueError, RuntimeError):
        return float("nan")


class Rhythm(Rule):
    """Follows the rates from step to step, and whether the weights still move."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.steps: dict[int, list[Step]] = {}
        self.norms: dict[str, float] = {}
        self.largest: dict[str, float] = {}
        self.schedules: dict[int, list[tuple[Entry, Event]]] = {}
        self.built: list[tuple[Entry, Event]] = []
        self.open: list[Step] = []
        # the statement that set a rate since the last step, and whether it stepped a scheduler
        self.set: dict[str, tuple[Entry, Event]] = {}
        self.fates: dict[str, list[bool]] = {}  # of the rates that a scheduler set: used or not
        self.pauses = False  # a scheduler that steps between the recorded parts is not seen

    def go_on(self, story: Story) -> Rule:
        later = type(self)(story)
        later.largest, later.pauses = self.largest, True
        return later

    def event(self, entry: Entry, event: Event) -> None:
        token = event.data.get("token")
        if event.kind == "step" and not (event.data["closure"] or event.data["wraps"]):
            rates = tuple(map(_number, event.data["rates"]))
            one = Step(entry, event, rates, self.story.rounds(entry))
            weights = event.data["weights"]
            one.strong = any(
                self.norms.get(weight, 0.0) > LOWEST * self.largest.get(weight, 1.0)
                for weight in weights
            )
            self.steps.setdefault(token or 0, []).append(one)
            for place in [place for place in self.set if place.startswith(f"{event.subject}.")]:
                self.fates.setdefault(self.set.pop(place)[1].subject, []).append(True)
            self.open.append(one)
        elif event.kind == "scheduler step":
            self.schedules.setdefault(token or 0, []).append((entry, event))
        elif event.kind == "scheduler built":
            self.built.append((entry, event))

    def after(self, entry: Entry) -> None:
        schedules = [event for event in entry.events if event.kind == "scheduler step"]
        for change in self.story.own(entry):
            if change.state == "group entry" and change.place.endswith(".lr"):
                before = self.set.pop(change.label, None)
                if schedules:
                    self.set[change.label] = (entry, schedules[-1])
                elif before is not None:
                    self.fates.setdefault(before[1].subject, []).append(False)
        for change in entry.changes:
            if change.state == "gradient" and (norm := norm_after(change)) is not None:
                weight = change.label.removesuffix(".grad")
                self.norms[weight] = norm
                if any(event.kind == "backward" for event in entry.events):
                    self.largest.setdefault(weight, norm)
        mine = [one for one in self.open if one.entry is entry]
        for one in mine:
            self.open.remove(one)
            moves = [change for change in entry.changes if change.state == "weight"]
            weights = {label for change in moves for label in (change.label, *change.also)}
            norms = {place: self.norms.get(place, 0.0) for place in one.event.data["weights"]}
            large = LOWEST * max(norms.values(), default=0.0)
            stuck = (place for place, norm in norms.items() if norm > large > 0)
            one.stuck = frozenset(stuck) - weights
            one.moved = bool(weights & set(one.event.data["weights"])) or not weights_known(one)

    def end(self) -> None:
        for token, steps in self.steps.items():
            schedule = _busiest(self.schedules.get(token, []))
            if not self.judge_still(steps, schedule):
                self.judge_fall(steps, schedule)
                self.judge_stuck(steps)
            self.judge_groups(steps, schedule)
        if not self.pauses:
            self.judge_schedulers()

    def judge_still(self, steps: list[Step], schedule: list[tuple[Entry, Event]]) -> bool:
        """Report an optimizer whose last steps moved no bit, though the gradients are as they were."""
        still = 0
        for one in reversed(steps):
            if one.moved or not one.strong:
                break
            still += 1
        if still < max(5, len(steps) // 5):
            return False
        if _longest_pause(steps[:-still]) > still // 3:
            return False  # it moves its weights in some of its steps only
        last, tail = steps[-1], steps[-still:]
        zero = all(rate == 0.0 for one in tail for rate in one.rates)
        if zero and 2 * still < len(steps):
            return False  # at the end
        since = f"after step {len(steps) - still} of {len(steps)}"
        if still == len(steps):
            since = f"in {still} steps"
        at = schedule[-1][0] if schedule else last.entry
        self.story.report(
            "weights-stand-still", "question" if zero else "certain", at, last.event.subject,
            optimizer=last.event.subject, which="any weight", since=since,
            rate=f"{max(last.rates):.3g}",
            cure=_slower(schedule, last, steps[0]),
        )  # fmt: skip
        return True

    def judge_stuck(self, steps: list[Step]) -> None:
        """Ask about weights that no step moves, although their gradients are large."""
        if len(steps) < LONG or not all(one.rates and min(one.rates) > 0 for one in steps):
            return
        last = steps[-1]
        for place in sorted(frozenset.intersection(*(one.stuck for one in steps))):
            self.story.report(
                "weights-stand-still", "question", last.entry, place, which=place,
                optimizer=last.event.subject, since=f"in {len(steps)} steps",
                rate=f"{max(last.rates):.3g}", cure=_slower([], last, steps[0]),
            )  # fmt: skip

    def judge_fall(self, steps: list[Step], schedule: list[tuple[Entry, Event]]) -> None:
        """Ask about a schedule that falls by a constant factor after every batch."""
        if len(schedule) < ENOUGH or len(schedule) < 0.9 * len(steps) - 1:
            return
        at, event = schedule[-1]
        around = self.story.rounds(at)
        nested = len(around) > 1 and all(one.rounds[:-1] for one in steps)
        if not nested or around[-1][:2] not in {one.rounds[-1][:2] for one in steps}:
            return
        rates = [one.rates[0] for one in steps]
        drops = [b / a for a, b in zip(rates, rates[1:], strict=False) if a > 0 and b != a]
        constant = len(drops) > 1 and max(drops) < 1 and max(drops) - min(drops) < 0.02
        falls = constant and rates[-1] <= LOWEST * rates[0]
        turns = event.data["type"] == "CosineAnnealingLR" and any(drop > 1 for drop in drops)
        if falls or turns:
            said = f"steps after every batch{', more often than T_max' * turns}"
            self.story.report(
                "rate-out-of-range", "question", at, event.subject,
                optimizer=steps[-1].event.subject, way=_way(rates), steps=len(steps),
                scheduler=event.subject, said=said, because=_COUNTS,
                cure=_slower(schedule, steps[-1], steps[0]),
            )  # fmt: skip

    def judge_groups(self, steps: list[Step], schedule: list[tuple[Entry, Event]]) -> None:
        """Ask about a group whose rate stays, while a loop sets its neighbour's again and again."""
        number = len(steps[0].rates)
        if schedule or number < 2 or len(steps) < ENOUGH:
            return
        rows = [one.rates for one in steps if len(one.rates) == number]
        changes = [
            sum(a[at] != b[at] for a, b in zip(rows, rows[1:], strict=False))
            for at in range(number)
        ]
        moving = [at for at in range(number) if changes[at] >= ENOUGH - 1]
        staying = [at for at in range(number) if not changes[at]]
        if not moving or not staying:
            return
        optimizer = steps[-1].event.subject
        writes: dict[tuple[str, str, int], list[Entry]] = {}
        first, last = steps[0].entry.index, steps[-1].entry.index
        for entry in self.story.by_index.values():
            if ".param_groups[" in entry.source.replace(" ", "") and entry.kind == "statement":
                if first <= entry.index <= last and _constant_group(entry.source) in moving:
                    writes.setdefault(entry.where, []).append(entry)
        for entries in writes.values():
            group = _constant_group(entries[0].source) or 0
            twin = [at for at in staying if rows[0][at] == rows[0][group]]
            twice = len(entries) >= 2 * (len(steps) - 1)
            if twice or twin:
                value = right_side(entries[0].source)
                target = ast.unparse(ast.parse(entries[0].source).body[0].targets[0].value.value)  # type: ignore[attr-defined]
                numbers = sorted({group, *(twin or staying)})
                cure = f'for group in {numbers}:\n    {target}[group]["lr"] = {value}'
                self.story.report(
                    "rate-of-one-group", "question", entries[-1],
                    f"{optimizer}.param_groups[{(twin or staying)[0]}].lr", optimizer=optimizer,
                    group=group, rate=f"{rows[-1][(twin or staying)[0]]:.3g}",
                    steps=len(steps), cure=cure,
                )  # fmt: skip

    def judge_schedulers(self) -> None:
        """Ask about schedulers that never step, or whose rates no step uses."""
        free = [steps[-1].event.subject for token, steps in self.steps.items()
                if token not in self.schedules]  # fmt: skip
        for token, some in self.schedules.items():
            kinds: dict[str, dict[str, tuple[Entry, Event]]] = {}
            for entry, event in some:
                kinds.setdefault(event.data["type"], {})[event.subject] = (entry, event)
            for kind, named in kinds.items():
                if len(named) > 1 and len(free) == 1 and token in self.steps:
                    at, event = list(named.values())[-1]
                    said = (
                        f"is a second {kind} of {event.data['optimizer']}, and {free[0]} has none"
                    )
                    self.story.report(
                        "scheduler-without-effect", "question", at, event.subject, because=_LOST, said=said,
                        cure=f"{event.subject} = torch.optim.lr_scheduler.{kind}({free[0]}, ...)",
                    )  # fmt: skip
        for pairs in self.schedules.values():
            at, event = pairs[-1]
            fates = self.fates.get(event.subject, [])
            if len(fates) >= ENOUGH and not any(fates):
                self.story.report(
                    "scheduler-without-effect", "question", at, event.subject, cure=f"# {at.source}",
                    because=_LOST, said=f"sets {event.data['optimizer']}'s rate, which other code then sets before a step",
                )  # fmt: skip
        tokens = {token for token in self.steps}
        lines: dict[tuple[Any, ...], list[tuple[Entry, Event]]] = {}
        for entry, event in self.built:
            lines.setdefault((*entry.where, event.data["token"]), []).append((entry, event))
        for (*_, token), pairs in lines.items():
            entry, event = pairs[-1]
            if len(pairs) >= ENOUGH and self.steps.get(token) and self.schedules.get(token):
                name = next(iter(entry.binds), "scheduler")
                self.story.report(
                    "scheduler-without-effect", "question", entry, name,
                    because=_LOST, said=f"has been built {len(pairs)} times for one optimizer, and begins anew each time",
                    optimizer=event.data["optimizer"], cure=f"{entry.source}      # once, before the loop",
                )  # fmt: skip
        for entry, event in self.built:
            token, optimizer = event.data["token"], event.data["optimizer"]
            name = next(iter(entry.binds), "scheduler")
            own, steps = self.schedules.get(token, []), self.steps.get(token, [])
            outer = {one.rounds[:1] for one in steps}
            if (
                not any(self.schedules.values())
                and len(outer) >= ENOUGH
                and all(len(one.rounds) > 1 for one in steps)
            ):
                said = f"never steps, in {len(outer)} rounds of the outer loop"
                cure = f"{name}.step()      # once a round"
                self.story.report("scheduler-without-effect", "question", entry, name, because=_LOST, said=said,
                                  optimizer=optimizer, cure=cure)  # fmt: skip
            elif event.subject == "LambdaLR" and steps:
                self.judge_factor(entry, event, name, steps)
            elif (
                len(own) > 1
                and not steps
                and not optimizer.startswith("(")
                and any(len(self.steps[one]) > 1 for one in tokens)
            ):
                at = own[-1][0]
                said = (
                    f"sets the rate of the optimizer that it was given at line {entry.line}, "
                    "which never steps"
                )
                cure = f"{entry.source}      # move it below the optimizer that steps"
                self.story.report("scheduler-without-effect", "question", at, own[-1][1].subject,
                                  because=_LOST, said=said, optimizer=optimizer, cure=cure)  # fmt: skip

    def judge_factor(self, entry: Entry, event: Event, name: str, steps: list[Step]) -> None:
        """Ask about a function that makes the rate far smaller at once and never larger again."""
        for change in entry.changes:
            if change.state != "group entry" or not change.place.endswith(".lr"):
                continue
            before, after = _number(change.before), _number(change.after)
            highest = max(rate for one in steps for rate in one.rates)
            if 0 < after <= LOWEST * before and highest <= after * 1.001 and len(steps) > 5:
                self.story.report(
                    "rate-out-of-range", "question", entry, name, scheduler=name,
                    optimizer=event.data["optimizer"], steps=len(steps),
                    way=f"from {before:.3g} to {steps[-1].rates[0]:.3g}", said="gives a rate, not a factor",
                    because=_FACTOR, cure=f"{entry.source}      # the function divided by {before:g}",
                )  # fmt: skip


def _way(rates: list[float]) -> str:
    """Say how a rate goes: to its last value, or up and down.

    >>> _way([0.1, 0.01]), _way([0.1, 0.05, 0.0, 0.05, 0.1])
    ('from 0.1 to 0.01', 'up and down between 0 and 0.1, with 1 turn,')
    """
    if sorted(rates) in (rates, rates[::-1]):
        return f"from {rates[0]:.3g} to {rates[-1]:.3g}"
    rises = [b > a for a, b in zip(rates, rates[1:], strict=False) if b != a]
    turns = sum(a != b for a, b in zip(rises, rises[1:], strict=False))
    many = f"{turns} turn{'s' * (turns != 1)}"
    return f"up and down between {min(rates):.3g} and {max(rates):.3g}, with {many},"


def _busiest(schedule: list[tuple[Entry, Event]]) -> list[tuple[Entry, Event]]:
    """Return the steps at the line that steps schedulers most often."""
    lines: dict[tuple[str, str, int], list[tuple[Entry, Event]]] = {}
    for entry, event in schedule:
        lines.setdefault(entry.where, []).append((entry, event))
    return max(lines.values(), key=len, default=[])


def _longest_pause(steps: list[Step]) -> int:
    """Return how many steps in a row moved nothing, after the first that did."""
    longest = pause = 0
    begun = False
    for one in steps:
        begun |= one.moved
        pause = 0 if one.moved or not begun else pause + 1
        longest = max(longest, pause)
    return longest


def weights_known(one: Step) -> bool:
    """Say whether all weights of a step are watched, so that their moves are seen."""
    return not one.event.data["unwatched"] and bool(one.event.data["weights"])


def _slower(schedule: list[tuple[Entry, Event]], last: Step, first: Step) -> str:
    if schedule:
        return (
            f"{schedule[-1][0].source}      # once an epoch: after the loop over batches, not in it"
        )
    optimizer = last.event.subject
    rate = max(first.rates) if max(first.rates) > max(last.rates) else 100 * max(last.rates)
    return f'for group in {optimizer}.param_groups:\n    group["lr"] = {rate:g}'


def _constant_group(source: str) -> int | None:
    """Return the number of the group whose rate a statement sets.

    >>> _constant_group('optimizer.param_groups[0]["lr"] = lr')
    0
    >>> _constant_group('group["lr"] = lr')
    """
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return None
    target = body[0].targets[0] if body and isinstance(body[0], ast.Assign) else None
    if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Subscript):
        name, group = target.slice, target.value
        if isinstance(name, ast.Constant) and name.value == "lr":
            if isinstance(group.value, ast.Attribute) and group.value.attr == "param_groups":
                if isinstance(group.slice, ast.Constant) and isinstance(group.slice.value, int):
                    return group.slice.value
    return None


@dataclass(eq=False, slots=True)
class Built:
    """An optimizer that a statement built, and the weights that it has stepped."""

    entry: Entry
    token: int
    weights: frozenset[int] = frozenset()
    subject: str = ""
    steps: int = 0
    state: bool = False
    last: int = -1  # the statement of its last step
    epochs: set[Any] = field(default_factory=set)  # iterations of the loops around its steps
    written: int = -1  # the last statement before its first step that wrote a weight otherwise


class Anew(Rule):
    """Optimizers that one statement builds again and again for the same weights."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.built: dict[int, Built] = {}
        self.chains: dict[tuple[str, str, int], list[Built]] = {}
        self.written = -1

    def go_on(self, story: Story) -> Rule:
        later = type(self)(story)
        later.built, later.chains, later.written = self.built, self.chains, self.written
        return later

    def event(self, entry: Entry, event: Event) -> None:
        token = event.data.get("token")
        if event.kind == "optimizer built":
            one = self.built[token or 0] = Built(entry, token or 0)
            self.chains.setdefault(entry.where, []).append(one)
        elif event.kind == "step" and token in self.built:
            one = self.built[token or 0]
            one.weights = frozenset(t or 0 for group in event.data["held"] for t in group)
            if not one.steps:
                one.written = self.written
            one.steps, one.subject, one.last = one.steps + 1, event.subject, entry.index
            inner = self.story.rounds(entry)[len(self.story.rounds(one.entry)) :]
            one.epochs.add(inner[:-1])

    def after(self, entry: Entry) -> None:
        steps = {event.data["token"] for event in entry.events if event.kind == "step"}
        for token in steps & self.built.keys():
            self.built[token].state |= any(
                change.state == "optimizer state" and len(getattr(change.after, "shape", ()))
                for change in entry.changes
            )
        if not any(event.kind == "step" for one in self.story.chain(entry) for event in one.events):
            own = self.story.own(entry)
            if any(change.state == "weight" and change.kind != "removed" for change in own):
                self.written = entry.index

    def end(self) -> None:
        for chain in self.chains.values():
            used = [one for one in chain if one.steps]
            pairs = list(zip(used, used[1:], strict=False))
            lost = [
                (a, b)
                for a, b in pairs
                if a.weights == b.weights and a.state and b.written < a.last
            ]
            if len(lost) >= 2 and len(lost) == len(pairs):
                last = lost[-1][1]
                source = last.entry.source
                said = "and each new one starts without the moments of the one before"
                because = "Momentum and Adam need the moments of many steps."
                fixed = f"{source}      # once, before the loop"
                if len(used[0].epochs) > 1:  # as the folds of a cross-validation
                    said = "each time for several epochs, and the weights go on from the run before"
                    because = (
                        "A fold or a setting that is compared needs a model of its own; this "
                        "one has seen the data that it is scored on."
                    )
                    fixed = f"model = build_model()      # for each run, before line {last.entry.line}\n{source}"
                self.story.report(
                    "optimizer-made-anew", "question", last.entry, last.subject, number=len(used),
                    optimizer=last.subject, source=source, said=said, because=because, fixed=fixed,
                )  # fmt: skip
