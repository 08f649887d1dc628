"""Who is trained? Weights that get a gradient, weights that optimizers hold, weights that a forward used.

The three sets are compared over the whole recording: a head that is unused for a few steps, or a
GAN's other half, is nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fnlib.ledger.entries import Entry, Event
from fnlib.ledger.findings.cuts import CUT, cut_behind, mended
from fnlib.ledger.findings.story import Rule, Severity, Story, rule_of
from fnlib.ledger.recording.hidden import NOWHERE

_MAKES = re.compile(r"\bnn\.(Linear|Conv\w+|Embedding|Parameter|LayerNorm|GRU|LSTM|Sequential)\(")
ENOUGH = 3  # steps or backward passes that a pattern takes
LONG = 6  # steps without a gradient, of an optimizer that had some


@dataclass(eq=False, slots=True)
class Stepped:
    """The steps of one optimizer: the last of them, how many, and which weights ever had a gradient."""

    entry: Entry
    event: Event
    steps: int = 0
    alive: bool = False
    closure: bool = False
    fed: set[str] = field(default_factory=set)
    starved: set[str] = field(default_factory=set)
    idle: int = 0  # of the latest steps in a row, those that found no gradient


@dataclass(eq=False, slots=True)
class Reached:
    """The backward passes that reach one weight: the last of them, how many, and its last use."""

    entry: Entry
    passes: int = 0
    first: int = 0
    last_use: int = -1


class Trained(Rule):
    """Compares the three sets at the end."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.optimizers: dict[int, Stepped] = {}
        self.reached: dict[str, Reached] = {}
        self.tokens: dict[str, set[int]] = {}  # of each weight reached
        self.held: set[int] = set()
        self.passes: list[tuple[Entry, Event]] = []
        self.called: dict[str, list[tuple[Entry, bool]]] = {}
        self.by_hand: set[str] = set()
        self.born: dict[str, int] = {}
        self.thawed: dict[str, Entry] = {}
        self.frozen: dict[str, Entry] = {}
        self.reads: dict[str, list[Entry]] = {}  # of the attributes that a forward reads
        self.loaded: set[str] = set()
        self.built = -1
        self.empty = False

    def go_on(self, story: Story) -> Rule:
        later = type(self)(story)
        later.optimizers, later.held, later.empty = self.optimizers, self.held, self.empty
        later.by_hand, later.loaded = self.by_hand, self.loaded
        return later

    def event(self, entry: Entry, event: Event) -> None:
        data = event.data
        if event.kind == "backward" and not data["raised"]:
            self.backward(entry, event)
        elif event.kind == "forward" and (data["grad_enabled"] or data["training"]):
            self.called.setdefault(event.subject, []).append((entry, data["training"]))
        elif event.kind == "optimizer built":
            self.built = entry.index
        elif event.kind == "load_state_dict":
            self.loaded.add(event.subject)
        elif event.kind == "step":
            self.step(entry, event)

    def backward(self, entry: Entry, event: Event) -> None:
        """Note which weights a backward pass reaches."""
        self.passes.append((entry, event))
        weights = entry.links.weights
        known = {label: [weights.get(label, 0)] for label in event.data["weights"]}
        known |= event.data["loose"]
        for label, tokens in known.items():
            one = self.reached.setdefault(label, Reached(entry, first=entry.index))
            one.entry, one.passes = entry, one.passes + 1
            one.last_use = max(event.data["weights"].get(label, [-1]), default=-1)
            self.tokens.setdefault(label, set()).update(tokens)

    def step(self, entry: Entry, event: Event) -> None:
        """Note which weights a step finds with a gradient, and which without."""
        data = event.data
        one = self.optimizers.setdefault(data["token"], Stepped(entry, event))
        one.entry, one.event, one.steps = entry, event, one.steps + 1
        finds = bool(data["weights"]) or data["dead"] < data["unwatched"]
        one.alive, one.idle = one.alive or finds, 0 if finds else one.idle + 1
        one.closure |= data["closure"] or data["wraps"]
        one.fed.update(data["weights"])
        one.starved.update(data["without"])
        self.held.update(token or 0 for group in data["held"] for token in group)
        self.empty |= any(not group for group in data["held"])

    def after(self, entry: Entry) -> None:
        self.held.update(token for some in entry.links.held.values() for token in some)
        stepped = any(
            event.kind == "step" for one in self.story.chain(entry) for event in one.events
        )
        if entry.grad_enabled and entry.function.endswith(".forward"):
            for read in entry.reads:
                if read.startswith("self."):
                    self.reads.setdefault(read.removeprefix("self."), []).append(entry)
        for change in self.story.own(entry):
            if change.state == "requires_grad flag" and change.before is not None:
                label = change.label.removesuffix(".requires_grad")
                if change.after:
                    self.thawed[label] = entry
                else:
                    self.frozen[label] = entry
                    self.thawed.pop(label, None)
            if change.state != "weight":
                continue
            if change.kind in ("created", "replaced") and self.built >= 0:
                self.born.setdefault(change.label, entry.index)
            elif change.overwritten and not stepped:
                self.by_hand.add(change.label)

    # --- at the end ----------------------------------------------------------------------------

    def end(self) -> None:
        if any(one.closure for one in self.optimizers.values()) or not self.passes:
            return
        held = self.held - {0}
        loose = [label for label in self.reached if not self.tokens[label] & held]
        nowhere = self.reached.get(NOWHERE)
        if nowhere is not None and nowhere.passes >= ENOUGH and NOWHERE in loose:
            loose.remove(NOWHERE)
            if len(self.tokens[NOWHERE]) >= 2 * nowhere.passes:
                self.judge_anew(nowhere.entry)
        for one in self.optimizers.values():
            if one.steps > 1 and not one.alive:
                self.judge_empty(one, loose)
            elif one.idle >= max(LONG, one.steps // 2):
                self.judge_frozen(one)
            elif one.steps >= ENOUGH:
                self.judge_cut(one)
        self.judge_loose(loose)

    def judge_anew(self, entry: Entry) -> None:
        """Ask about layers that each forward makes anew: no optimizer can hold them."""
        holder = next((one for one in self.optimizers.values() if one.alive), None)
        if holder is not None:
            layers = [
                one for one in self.story.by_index.values()
                if _MAKES.search(one.source) and one.index < entry.index and one.grad_enabled
            ]  # fmt: skip
            at = layers[-1] if layers else entry
            cure = f"self.layer = ...      # in __init__, instead of `{at.source}` in each forward"
            self.story.report(
                "weight-trained-by-nobody", "question", at, "a layer that each forward makes",
                optimizer=holder.event.subject, cure=cure,
            )  # fmt: skip

    def judge_empty(self, one: Stepped, loose: list[str]) -> None:
        """Judge an optimizer that never finds a gradient."""
        if self.story.reported("gradient-thrown-away", "weight-not-in-optimizer"):
            return
        entry, event = one.entry, one.event
        number = len(one.starved) + event.data["unwatched"]
        fields = {"optimizer": event.subject, "dead": f"{number} tensor{'s' * (number != 1)}"}
        passed = [pair for pair in self.passes if pair[0].index < entry.index]
        places = sorted(one.starved) or [event.subject]
        flags = entry.links.flags
        # Beside an optimizer that trains, it may be another's turn: a part is frozen at first.
        alone = one.steps >= ENOUGH and not any(other.alive for other in self.optimizers.values())
        severity: Severity = "certain" if alone else "question"
        if one.starved and not any(flags.get(label, True) for label in one.starved):
            self.story.report(
                "step-without-gradient", severity, entry, places[0], **fields, found=_never(one),
                said=f"its {fields['dead']} are all frozen", cure=_thaw(self.story, one.starved),
            )  # fmt: skip
        elif self.forgotten(loose):
            for label in self.forgotten(loose):
                fields |= rule_of(event)
                self.story.report("weight-not-in-optimizer", severity, entry, label, **fields)
        elif passed:
            at, last = passed[-1]
            cut = cut_behind(self.story, at, last.subject)
            fields |= {
                "said": f"neither this backward nor another one reaches its {fields['dead']}",
                "cure": cut or _CONNECT,
            }
            self.story.report(
                "step-without-gradient", severity, at, places[0], found=_never(one), **fields
            )  # fmt: skip

    def judge_frozen(self, one: Stepped) -> None:
        """Ask about an optimizer that trained, and whose weights have been frozen ever since."""
        flags, known = one.entry.links.flags, one.fed | one.starved
        if known and not any(flags.get(label, True) for label in known):
            place = min(known)
            self.story.report(
                "step-without-gradient", "question", self.frozen.get(place, one.entry), place,
                optimizer=one.event.subject,
                found=f"steps on and finds no gradient in its latest {one.idle} steps",
                said=f"its {len(known)} weights have been frozen here and never thawed", cure=_thaw(self.story, known),
            )  # fmt: skip

    def forgotten(self, loose: list[str]) -> list[str]:
        """Return the weights of watched modules that get a gradient and that no optimizer holds."""
        return [label for label in loose if not label.startswith("(")]

    def judge_cut(self, one: Stepped) -> None:
        """Ask about a part that is called with gradients on, and that no gradient ever reaches."""
        flags = one.entry.links.flags
        starved = {
            label for label in one.starved - one.fed - self.reached.keys() if flags.get(label, True)
        }
        parts: dict[str, Entry] = {}
        for part, calls in self.called.items():
            weights = {
                w for w in self.story.weights_of(part, one.entry.links) if flags.get(w, True)
            }
            if weights and weights <= starved and len(calls) >= ENOUGH:
                parts[part] = calls[-1][0]
        for part, at in self.read_in_vain(starved):
            parts.setdefault(part, at)
        outer = [part for part in parts if not any(part.startswith(f"{o}.") for o in parts)]
        for part in outer:
            at = parts[part]
            cut = _uncut(at, part) or cut_behind(self.story, at, "", within=part)
            said = (
                f"runs with gradients on and `{one.event.subject}` holds its weights, but no backward"
                f" has reached them in {one.steps} steps"
            )
            self.story.report(
                "gradient-never-arrives",
                "question",
                at,
                part,
                said=said,
                cure=cut or _CONNECT,
                because=CUT,
            )

    def read_in_vain(self, starved: set[str]) -> Iterator[tuple[str, Entry]]:
        """Yield parts and weights that a forward reads by a statement that cuts their graph."""
        labels = {label for some in self.story.entries[-1:] for label in some.links.weights}
        for path, entries in self.reads.items():
            entry, part = entries[-1], path
            if len(entries) < ENOUGH or not _uncut(entry, part):
                continue
            while part and not any(f".{part}." in f".{label}." for label in labels):
                part = part.rpartition(".")[0]  # self.scale.item
            mine = {label for label in labels if part and f".{part}." in f".{label}."}
            if mine and mine <= starved and not mine & self.by_hand:
                label = min(mine)
                yield label[: f".{label}.".index(f".{part}.") + len(part)], entry

    def judge_loose(self, loose: list[str]) -> None:
        """Ask about weights that get a gradient, that nobody trains, and that look forgotten."""
        steps = sum(one.steps for one in self.optimizers.values() if one.alive)
        if steps < 2 or self.story.reported("weight-not-in-optimizer"):
            return
        trained = {label for label in self.reached if label not in loose}
        if not trained:
            return
        latest = max(self.reached[label].last_use for label in trained)
        for label in loose:
            one = self.reached[label]
            owner, layer = self.story.owner(label), label.rpartition(".")[0]
            hidden = self.is_hidden(owner) or label not in one.entry.links.weights
            thawed = label in self.thawed
            often = 2 if hidden or thawed else max(2, len(self.passes) // 2)
            if label in self.by_hand or label.startswith("(") or one.passes < often:
                continue
            siblings = any(other.rpartition(".")[0] == layer for other in trained)
            young = self.born.get(label, -1) > self.built >= 0
            whole = not any(f"{other}.".startswith(f"{owner}.") for other in trained)
            apart = whole and one.last_use > latest and self.is_made_here(owner)
            if hidden or siblings or young or thawed or apart or (self.empty and not whole):
                holder = next(s for s in self.optimizers.values() if s.alive)
                fields = {"optimizer": holder.event.subject, "cure": self.cure(label, hidden)}
                self.story.report(
                    "weight-trained-by-nobody",
                    "question",
                    self.thawed.get(label, one.entry),
                    label,
                    **fields,
                )

    def is_hidden(self, owner: str) -> bool:
        """Say whether a watched module keeps another one without registering it."""
        starts = (owner[:at] for at, mark in enumerate(owner) if mark in ".[")
        return any(start in self.story.owners for start in starts)

    def is_made_here(self, owner: str) -> bool:
        """Say whether a module is in training mode and was not loaded: pretrained ones are meant to stay."""
        calls = [training for part, some in self.called.items() for _, training in some
                 if f"{part}.".startswith(f"{owner}.")]  # fmt: skip
        return bool(calls) and all(calls) and not self.loaded

    def cure(self, label: str, hidden: bool) -> str:
        """Write the lines that have a weight trained."""
        holder = next(s for s in self.optimizers.values() if s.alive).event.subject
        if hidden:
            place = label.partition("[")[0]
            model, _, attribute = place.rpartition(".")
            kind = "ModuleDict" if label.partition("[")[2][:1] in ("'", '"') else "ModuleList"
            return (
                f"self.{attribute} = nn.{kind}(self.{attribute})"
                f"      # in __init__ of {model}, before the optimizer is built"
            )
        part = label.rpartition(".")[0]
        return (
            f'{holder}.add_param_group({{"params": {part}.parameters()}})'
            "      # where it is made, or build the optimizer after it"
        )


_CONNECT = (
    "# no .item(), .detach(), .data, .numpy(), torch.tensor() or no_grad() between weights and loss"
)


def _uncut(entry: Entry, part: str) -> str:
    """Return a statement without what cuts the graph of an attribute that it reads."""
    if "checkpoint" in entry.source and "use_reentrant" in entry.source:
        return re.sub(r"use_reentrant=\w+", "use_reentrant=False", entry.source)
    name = re.escape(part.rpartition(".")[2])
    cut = re.search(rf"\b{name}\b(\.(item|detach|data|numpy|tolist)\b|\))", entry.source)
    return (mended(entry.source) or "") if cut or part.endswith(_CUTS) else ""


_CUTS = (".item", ".detach", ".data", ".numpy", ".tolist")


def _never(one: Stepped) -> str:
    return f"has stepped {one.steps} times and never found a gradient"


def _thaw(story: Story, labels: Iterable[str]) -> str:
    owners = dict.fromkeys(story.owner(label) for label in sorted(labels))
    return "\n".join(f"{owner}.requires_grad_(True)      # before the forward" for owner in owners)
