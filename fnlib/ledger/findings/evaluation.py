"""Does evaluation leave no trace and repeat itself? Masks, weights, and the data of the next step."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from fnlib.ledger.entries import Change, Entry, Event
from fnlib.ledger.findings.story import Rule, Scopes, Story
from fnlib.ledger.findings.texts import code_of

# Masks only: a VAE and a diffusion model draw noise in evaluation on purpose.
_MASKED = re.compile(r"dropout_p\s*=|bernoulli|torch\.\w*dropout")  # what C code draws
_DROPS = re.compile(
    r"drop(?!na|_last|_duplicates)", re.IGNORECASE
)  # names of classes and functions
_RANDOM = re.compile(r"rand(_like)?\(|uniform_\(|bernoulli")


class Masks(Rule):
    """Dropout masks that are drawn in the forward of a model in evaluation mode."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.masks: list[Event] = []
        self.drawn: list[Entry] = []  # by hand, in a forward whose mode isn't known yet

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "mask":
            self.masks.append(event)

    def after(self, entry: Entry) -> None:
        for event in self.masks:
            self.report(entry, event.subject)
        if not self.masks and not entry.inside and _draws_mask(entry):
            self.drawn.append(entry)
        self.masks.clear()
        calls = [event for event in entry.events if event.kind == "forward"]
        if calls and self.drawn:
            inside = [one for one in self.drawn if one.index >= entry.index]
            self.drawn = [one for one in self.drawn if one.index < entry.index]
            if not any(event.data["training"] or event.data["grad_enabled"] for event in calls):
                for one in inside:
                    self.report(one, calls[0].subject)

    def report(self, entry: Entry, place: str) -> None:
        """Report a mask at the statement that draws it."""
        fields = {"source": entry.source, "fixed": _with_mode(entry.source)}
        self.story.report("mask-in-evaluation", "question", entry, place, **fields)


def _draws_mask(entry: Entry) -> bool:
    """Say whether a statement draws a mask otherwise than by torch.nn.functional's dropout."""
    if not any(change.label == "random.torch" for change in entry.changes):
        return False
    by_hand = _DROPS.search(entry.function) and _RANDOM.search(entry.source)
    return bool(by_hand or _MASKED.search(entry.source))


def _with_mode(source: str) -> str:
    """Write a statement that draws a mask so that it follows the mode of its module.

    >>> _with_mode("x = F.dropout(self.fc(x), 0.5)")
    'x = F.dropout(self.fc(x), 0.5, training=self.training)'
    >>> _with_mode("return nn.Dropout(0.1)(x)")
    'return nn.Dropout(0.1).train(self.training)(x)'
    >>> _with_mode("y = attend(q, k, v, dropout_p=0.1)")
    'y = attend(q, k, v, dropout_p=(0.1) if self.training else 0.0)'
    """
    given = re.search(r"dropout_p=([\w.]+)", source)
    if given:
        return source.replace(given[0], f"dropout_p=({given[1]}) if self.training else 0.0")
    if "training=" in source:
        return re.sub(r"training=[\w.]+", "training=self.training", source)
    layer = re.search(r"\b(nn\.)?\w*Dropout\w*\(", source)
    call = layer or re.search(r"\b[\w.]*dropout\w*\(", source)
    if call is None:
        first, *rest = source.splitlines()
        return "\n    ".join(["if self.training:", first, *rest])
    end = _closing(source, call.end())
    if layer:
        return f"{source[: end + 1]}.train(self.training){source[end + 1 :]}"
    return f"{source[:end]}, training=self.training{source[end:]}"


def _closing(source: str, start: int) -> int:
    """Return where the bracket closes that was opened before a position."""
    depth = 1
    for at in range(start, len(source)):
        depth += {"(": 1, ")": -1}.get(source[at], 0)
        if not depth:
            return at
    return len(source)


# --- weights that are changed to evaluate -------------------------------------------------------


@dataclass(eq=False, slots=True)
class Swap:
    """Weights of a model that a copy has overwritten since its last step, and what they were."""

    entry: Entry
    before: dict[str, str] = field(default_factory=dict)
    evaluated: bool = False


_COPIES = re.compile(
    r"\.copy_\(|load_state_dict|\.data\s*=|\.set_\(|_foreach_copy_|\.data\s*,|\.half\("
)


class Swapped(Rule):
    """Weights that are copied into a model to evaluate, and are still there when training goes on.

    A write that is undone before the next training forward is nothing, nor is one that brings back
    values that the model had before (a rollback), or that only takes weights away (pruning).
    """

    whole = True

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.had: dict[str, set[str]] = {}
        self.stepped: set[str] = set()
        self.swaps: dict[str, Swap] = {}
        self.used: dict[tuple[str, int], bool] = {}  # whether each write of a line was evaluated

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "forward":
            owner = self.story.owner(event.subject)
            swap = self.swaps.get(owner)
            if swap is None:
                return
            if not event.data["grad_enabled"]:
                swap.evaluated = True
            elif event.data["training"]:
                self.judge(owner, self.swaps.pop(owner))
        elif event.kind == "step":
            self.stepped.update(event.data["weights"])
            for weight in event.data["weights"]:
                self.swaps.pop(self.story.owner(weight), None)

    def judge(self, owner: str, swap: Swap) -> None:
        """Report weights that were evaluated and are trained on."""
        where = (swap.entry.file, swap.entry.line)
        self.used[where] = swap.evaluated and self.used.get(where, True)
        if swap.before and self.used[where]:
            for weight in swap.before:
                self.story.report(
                    "changed-to-evaluate", "question", swap.entry, weight, model=owner,
                    source=swap.entry.source,
                )  # fmt: skip

    def after(self, entry: Entry) -> None:
        for known in self.swaps.values() if entry.inside else ():
            evaluates = any(event.kind == "forward" for event in entry.all_events)
            if entry.index < known.entry.index and not evaluates:
                known.entry = entry  # the statement that called `copy_to`
        steps = any(event.kind in ("step", "backward") for event in entry.all_events)
        for change in self.story.own(entry):
            if change.state != "weight":
                continue
            before, after = (
                getattr(one, "fingerprint", None) for one in (change.before, change.after)
            )
            if before is None or after is None or before == after:
                continue
            had = self.had.setdefault(change.label, {before})
            owner = self.story.owner(change.label)
            swap = self.swaps.get(owner)
            if not steps and change.label in self.stepped:
                copied = after not in had and _COPIES.search(entry.source) and not _prunes(change)
                if copied and swap is None:
                    swap = self.swaps[owner] = Swap(entry)
                if copied and swap is not None:
                    swap.before.setdefault(change.label, before)
                elif swap is not None and swap.before.get(change.label) == after:
                    del swap.before[change.label]
            had.update((before, after))


def _prunes(change: Change) -> bool:
    """Say whether a write set some of the numbers to zero and left the others as they are."""
    before, after = (getattr(one, "norm", None) for one in (change.before, change.after))
    if before is None or after is None or change.moved is None or not change.moved:
        return False
    return bool(abs(before**2 - after**2 - change.moved**2) <= 1e-5 * before**2)


class Stepping(Rule):
    """Steps on a model in evaluation mode, between phases in which it trains in training mode.

    Training in evaluation mode throughout, or from some epoch on, is meant; steps that a load
    takes back are (fine-tuning to evaluate).
    """

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.mode: dict[str, Event] = {}  # a model's last forward with gradients
        self.trained: set[str] = set()
        self.asleep: dict[str, tuple[Entry, str]] = {}
        self.phases: dict[str, list[tuple[Entry, str]]] = {}

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "forward" and event.data["grad_enabled"]:
            if event.subject == self.story.owner(event.subject):
                self.mode[event.subject] = event
        elif event.kind == "load_state_dict":
            self.asleep.pop(event.subject, None)
        elif event.kind == "step":
            for owner in {self.story.owner(weight) for weight in event.data["weights"]}:
                forward = self.mode.get(owner)
                if forward is None:
                    continue
                if forward.data["training"]:
                    self.trained.add(owner)
                    if owner in self.asleep:
                        self.phases.setdefault(owner, []).append(self.asleep.pop(owner))
                elif owner in self.trained:
                    self.asleep[owner] = (entry, forward.data["type"])

    def after(self, entry: Entry) -> None:
        if self.asleep and not any(event.kind == "step" for event in entry.all_events):
            for change in self.story.own(entry):
                if change.state == "weight":
                    self.asleep.pop(self.story.owner(change.label), None)

    def end(self) -> None:
        for owner, phases in self.phases.items():
            if len(phases) > 1:
                entry, kind = phases[-1]
                self.story.report(
                    "trained-in-eval-mode", "question", entry, owner, type=kind,
                    since="It trains in training mode before and after, so this is an evaluation",
                    cure=f"if {code_of(owner)}.training:\n    {entry.source}",
                )  # fmt: skip


# --- validation data that is trained on ----------------------------------------------------------

_Key = tuple[str, str, str]  # file, function, name


class Leftovers(Rule):
    """Names that the validation part binds, and that the next training step still finds bound.

    A batch may be evaluated before it is trained on. So the name must have two sources: one that
    is always evaluated first, and one that is trained on and never evaluated before.
    """

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.bound = Scopes()  # the statement that bound each name
        self.evaluated: dict[int, Entry] = {}  # by the index of the statement that bound the name
        self.left: dict[tuple[_Key, int], list[Entry]] = {}
        self.clean: dict[_Key, set[int]] = {}

    def after(self, entry: Entry) -> None:
        calls = [event.data for event in entry.all_events if event.kind == "forward"]
        quiet = bool(calls) and not any(data["grad_enabled"] for data in calls)
        loud = any(data["grad_enabled"] and data["training"] for data in calls)
        self.bound.leave(entry)
        bound = self.bound.of(entry)
        for name in entry.reads if quiet or loud else ():
            key = (entry.file, entry.function, name)
            binding = bound.get(name)
            if binding is None or binding is entry:
                continue
            if quiet:
                self.evaluated.setdefault(binding.index, entry)
            elif binding.index in self.evaluated:
                self.left.setdefault((key, binding.line), []).append(binding)
            else:
                self.clean.setdefault(key, set()).add(binding.line)
        for change in entry.changes:
            if change.state == "name" and getattr(change.after, "type", "") == "Tensor":
                bound[change.owner] = entry

    def end(self) -> None:
        for (key, line), bindings in self.left.items():
            clean = self.clean.get(key, set())
            if line not in clean and clean and len(bindings) > 1:
                binding = bindings[0]
                used = self.evaluated[binding.index]
                names = [
                    name
                    for other, at in self.left
                    if other[:2] == key[:2] and at == line
                    for name in other[2:]
                ]
                fields = {"source": binding.source, "fixed": _renamed(binding, used, names)}
                fields["said"] = (
                    f"This line binds `{key[2]}` for the evaluation at line {used.line}, and the next "
                    "training step still uses it"
                )
                fields["because"] = (
                    "Validation and training share a name, so a validation batch is trained on."
                )
                self.story.report(
                    "trained-on-validation-data", "question", binding, key[2], **fields
                )


def _renamed(binding: Entry, used: Entry, names: list[str]) -> str:
    """Write the statement that binds and the one that evaluates with names of their own."""
    if binding.kind == "header":
        lines = [f"{binding.source}", *(f"    {used.source}".splitlines())]
    else:
        lines = [binding.source, used.source]
    pattern = "|".join(map(re.escape, names))
    return re.sub(rf"(?<![\w.])({pattern})\b", r"valid_\1", "\n".join(lines))
