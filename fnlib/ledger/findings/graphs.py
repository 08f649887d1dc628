"""Graphs: values that changed between a forward and its backward, totals that keep every graph, graphs used twice."""

from __future__ import annotations

from fnlib.ledger.entries import Change, Entry, Event
from fnlib.ledger.findings.story import Rule, Story

IN_PLACE = "modified by an inplace operation"
TWICE = "backward through the graph a second time"
CODES = {"buffer": "statistics-moved-before-backward", "weight": "weights-moved-before-backward"}


class Graphs(Rule):
    """What a backward needs, and what has become of it since the forward."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.changed: dict[str, tuple[int, Change]] = {}
        self.passes = 0
        self.bound_at: dict[str, tuple[int | None, int]] = {}
        self.grown: dict[str, list[Entry]] = {}

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind not in ("backward", "grad"):
            return
        raised = event.data["raised"]
        if event.kind == "backward" and not raised:
            self.passes += 1
            self.grown.pop(event.subject, None)
        for place, uses in event.data["weights" if raised else "saved"].items():
            when, change = self.changed.get(place, (-1, None))
            used = [use for use in uses if use < when < entry.index]
            if change is None or not used:
                continue
            if raised and (
                IN_PLACE not in (entry.raised or "") or len(getattr(change.after, "shape", ())) < 2
            ):
                continue  # adding a bias saves nothing
            code = CODES.get(change.state, "saved-value-changed")
            self.story.report(code, "certain", entry, place, earlier=self.story.line(used[-1]))

    def after(self, entry: Entry) -> None:
        for change in self.story.own(entry):
            if change.state in ("weight", "buffer", "value") and change.overwritten:
                self.changed.update(
                    dict.fromkeys((change.label, *change.also), (entry.index, change))
                )
            elif change.state == "name" or (
                change.state == "graph" and change.kind == "changed in place"
            ):
                self.name(entry, change)
        if entry.raised and TWICE in entry.raised and not entry.inside:
            carried = [name for name, grown in self.grown.items() if grown]
            through = f", by way of `{carried[0]}`" if carried else ""
            self.story.report("graph-used-twice", "certain", entry, carried[0] if carried else "loss",
                              through=through, name=carried[0] if carried else "hidden")  # fmt: skip

    def name(self, entry: Entry, change: Change) -> None:
        """A name has a new value: does its graph hold the graph of the value before, which a backward has used?"""
        name, before, now = change.owner, change.before, change.after
        token, since = self.bound_at.get(name, (None, self.passes))
        self.bound_at[name] = (getattr(now, "token", None), self.passes)
        if (
            now is None or not now.carries_previous or before is None or before.token != token
        ):  # another call's name
            self.grown.pop(name, None)
            return
        grown = self.grown.setdefault(name, [])
        if self.passes > since:
            grown.append(entry)
        if len(grown) == 2:
            fields = {"name": name, "nodes": now.nodes, "fixed": f"{name} += loss.item()"}
            self.story.report("graph-kept", "certain", entry, name, **fields)
