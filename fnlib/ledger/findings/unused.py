"""Who is trained? A layer that never runs, beside a like one that runs twice in each forward."""

from __future__ import annotations

from fnlib.ledger.entries import Entry, Event
from fnlib.ledger.findings.story import Rule, Story

ENOUGH = 3  # forwards of the model


class Unused(Rule):
    """Layers that an optimizer holds and no forward calls, while a twin is called in their place.

    An unused head is nothing. A layer of the same shapes that runs several times in every forward
    of the model, once for itself and once for each twin that doesn't run, looks like one name that
    was typed twice.
    """

    whole = True

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.calls: dict[str, list[Entry]] = {}
        self.without: set[str] = set()
        self.fed: set[str] = set()
        self.shapes: dict[str, tuple[int, ...]] = {}

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "forward":
            self.calls.setdefault(event.subject, []).append(entry)
        elif event.kind == "backward":
            self.fed.update(event.data["weights"])
        elif event.kind == "step":
            self.without.update(event.data["without"])
            self.shapes.update(event.data["shapes"])

    def after(self, entry: Entry) -> None:
        for change in self.story.own(entry):
            if change.state == "weight" and (shape := getattr(change.after, "shape", None)):
                self.shapes.setdefault(change.label, shape)

    def end(self) -> None:
        layers: dict[str, dict[str, tuple[int, ...]]] = {}
        for entry in self.story.entries[-1:]:
            for label in entry.links.weights:
                layer, _, name = label.rpartition(".")
                if label in self.shapes:
                    layers.setdefault(layer, {})[name] = self.shapes[label]
        for layer, shapes in layers.items():
            labels = {f"{layer}.{name}" for name in shapes}
            if layer in self.calls or not labels <= self.without - self.fed:
                continue
            parent = layer.rpartition(".")[0]
            holder = parent
            while holder and holder not in self.calls:
                holder = holder.rpartition(".")[0]  # a ModuleList never runs
            alike = [
                one for one, other in layers.items()
                if other == shapes and one.rpartition(".")[0] == parent
            ]  # fmt: skip
            runs = len(self.calls.get(holder, ()))
            if sum(len(self.calls.get(one, ())) for one in alike) == runs * len(alike):
                for twin in alike:
                    self.judge(layer, twin, self.calls.get(twin, []), holder)

    def judge(self, layer: str, twin: str, calls: list[Entry], holder: str) -> None:
        """Ask about a layer whose twin runs several times in each run of what holds both."""
        runs = len(self.calls.get(holder, ()))
        times, rest = divmod(len(calls), runs) if runs else (0, 0)
        if runs >= ENOUGH and times > 1 and not rest:
            at = max(calls, key=lambda entry: entry.line)
            inner = len(holder) + 1
            unused, used = _in_class((layer[inner:], twin[inner:]), at.source)
            fixed = f"# {unused}, in one of the places of {used}"
            if at.source.count(used) == 1 and len({entry.where for entry in calls}) == times:
                fixed = at.source.replace(used, unused)
            self.story.report(
                "gradient-never-arrives",
                "question",
                at,
                layer,
                per=layer,
                cure=fixed,
                said=f"never runs, and {twin} of the same shapes runs {times} times in each forward",
                because="The optimizer holds a layer that no forward uses.",
            )


def _in_class(layers: tuple[str, str], source: str) -> tuple[str, str]:
    """Write two layers of one module as the statement writes the second.

    >>> _in_class(("fc2", "fc1"), "x = self.fc1(self.fc1(x))")
    ('self.fc2', 'self.fc1')
    >>> _in_class(("parts.key", "parts.query"), 'k = self.parts["query"](x)')
    ('self.parts["key"]', 'self.parts["query"]')
    """
    pairs = [layer.rpartition(".") for layer in layers]
    forms = ("self.{}{}{}", "self.{0}[{2}]", 'self.{0}["{2}"]', "self.{0}['{2}']")
    for form in forms:
        written = tuple(form.format(*pair) for pair in pairs)
        if written[1] in source:
            break
    return written[0], written[1]
