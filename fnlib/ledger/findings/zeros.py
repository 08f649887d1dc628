"""Who is trained? Weights whose gradient is there and is zero, in every backward pass of the recording."""

from __future__ import annotations

from dataclasses import dataclass, field

from fnlib.ledger.entries import Entry, Event
from fnlib.ledger.findings.story import Rule, Story, norm_after

ENOUGH = 5  # backward passes
_CURE = (
    "code = value + (value.round() - value).detach()      # rounds, and lets the gradient through\n"
    "probability = torch.sigmoid(value)      # for one output, instead of softmax"
)


@dataclass(eq=False, slots=True)
class Silent:
    """The backward passes that reach a layer's weights and leave only zeros: the last, and how many."""

    entry: Entry
    use: int
    passes: int = 0
    weights: set[str] = field(default_factory=set)


class Zeros(Rule):
    """Layers of which every weight has a gradient of zero, pass after pass.

    Rounding, a sign, a saturated function or a softmax over one value has a derivative of zero.
    A loss of zero has nothing to teach, and a factor of zero leaves what comes before the layer to
    the rest of the loss. One pass with another number is enough to be quiet: a gate that starts at zero, an expert.
    """

    whole = True

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.norms: dict[str, float | None] = {}
        self.open: list[tuple[Entry, Event]] = []
        self.silent: dict[str, Silent] = {}
        self.alive: set[str] = set()  # layers with a gradient that was not zero
        self.ran: dict[str, int] = {}  # when each layer ran last
        self.stepped: set[str] = set()

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "backward" and not event.data["raised"] and event.data["loss"] != 0.0:
            self.open.append((entry, event))
        elif event.kind == "forward":
            self.ran[event.subject] = event.order
        elif event.kind == "step":
            self.stepped.update(event.data["weights"])

    def after(self, entry: Entry) -> None:
        for change in self.story.own(entry):
            if change.state == "gradient":
                self.norms[change.label.removesuffix(".grad")] = norm_after(change)
        for at, event in [pair for pair in self.open if pair[0] is entry]:
            self.open.remove((at, event))
            reached = event.data["weights"]
            for layer in {weight.rpartition(".")[0] for weight in reached}:
                one = self.silent.setdefault(layer, Silent(entry, -1))
                one.entry, one.passes = entry, one.passes + 1
            for weight, uses in reached.items():
                layer = weight.rpartition(".")[0]
                one = self.silent[layer]
                one.use = max(uses, default=-1)
                one.weights.add(weight)
                if self.norms.get(weight) != 0.0:
                    self.alive.add(layer)

    def end(self) -> None:
        places = [
            weight.rpartition(".")[0]
            for one in self.story.entries[-1:]
            for weight in one.links.weights
        ]
        when = {layer: (self.run_of(layer), place) for place, layer in enumerate(places)}
        first = min((when[layer] for layer in self.alive if layer in when), default=None)
        for layer, one in self.silent.items():
            if layer in self.alive or one.passes < ENOUGH or not one.weights <= self.stepped:
                continue
            run = when.get(layer, (-1, 0))
            if first is not None and (run > first or run[0] < 0):
                continue  # its own part of the loss counts nothing: what comes before it is trained
            use = self.story.by_index.get(one.use)
            seen = "" if use is None else f", though line {use.line} uses it"
            for weight in sorted(one.weights):
                self.story.report(
                    "gradient-never-arrives", "question", one.entry, weight, per="zero", cure=_CURE,
                    said=f"got a gradient of zero in all {one.passes} backward passes{seen}",
                    because="Rounding, a sign, a saturated function, a softmax over one value, a "
                    "factor of zero, or a value minus itself has a derivative of zero, so nothing "
                    "before it is trained.",
                )  # fmt: skip

    def run_of(self, layer: str) -> int:
        """Return when a layer, or the module around it, ran last."""
        while layer and layer not in self.ran:
            layer = layer.rpartition(".")[0]
        return self.ran.get(layer, -1)
