"""Graphs: values that changed between a forward and its backward, totals that keep every graph, graphs used twice."""

from __future__ import annotations

import ast

from fnlib.ledger.entries import Change, Entry, Event
from fnlib.ledger.findings.story import Rule, Story, in_iteration
from fnlib.ledger.findings.texts import right_side

IN_PLACE = "modified by an inplace operation"
TWICE = "backward through the graph a second time"
CARRIED = "State that is carried from batch to batch keeps the graph of the previous batch."
CODES = {"buffer": "statistics-moved-before-backward", "weight": "weights-moved-before-backward"}


class Graphs(Rule):
    """What a backward needs, and what has become of it since the forward."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.changed: dict[str, tuple[int, Change]] = {}
        self.passes = 0
        self.bound_at: dict[str, tuple[int | None, int]] = {}
        self.grown: dict[str, list[Entry]] = {}
        self.several: dict[str, None] = {}  # names of tuples made of what they were before

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
            noticed = (
                "PyTorch noticed and raised an error, so the gradient is missing or incomplete"
            )
            if not raised:
                noticed = (
                    "PyTorch doesn't notice changes through .data or a fused step, "
                    "so the gradient is wrong"
                )
            earlier = str(self.story.line(used[-1]))
            if self.story.rounds(self.story.by_index[used[-1]]) < self.story.rounds(entry):
                earlier = f"{earlier} in an earlier iteration"
            self.story.report(
                code, "certain", entry, place, earlier=earlier, noticed=noticed,
                cure=self.cure(entry, change, self.story.by_index[when]), backward=entry.source,
                moved=self.story.line(when),
            )  # fmt: skip

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
            carried, cuts = self.carried()
            self.story.report(
                "graph-used-twice", "certain", entry, carried[0] if carried else "loss",
                through=f"Through `{carried[0]}`, this backward reaches"
                if carried
                else "This backward runs through",
                because=CARRIED if carried else "A backward frees the graph that it has used.",
                cure=f"{entry.source}\n{cuts}" if carried else _anew(self.story, entry),
            )  # fmt: skip

    def carried(self) -> tuple[list[str], str]:
        """Return the names whose values keep the graph of the round before, and what cuts it."""
        names = [name for name, grown in self.grown.items() if grown]
        cuts = [f"{name} = {name}.detach()" for name in names]
        if not names:  # the state of an LSTM is a pair
            names = list(self.several)
            cuts = [f"{name} = tuple(one.detach() for one in {name})" for name in names]
        return names, "\n".join(cuts) + "      # the next batch starts a graph of its own"

    def cure(self, entry: Entry, change: Change, at: Entry) -> str:
        """Write where the statement belongs that changed what this backward needs."""
        at = next((one for one in self.story.chain(at) if one.function == entry.function), at)
        if change.state == "value":
            copied = (
                f"shown = {change.label}.detach().clone()      # line {at.line}: change the copy"
            )
            shown = at.source.replace(f"{change.label}.data", "shown")
            return copied if shown == at.source else f"{copied}\n{shown}"
        earlier = self.story.rounds(at) < self.story.rounds(entry)
        carried, cuts = self.carried()
        if earlier and carried:
            return f"{entry.source}\n{cuts}"
        if change.state == "weight" and any(event.kind == "step" for event in at.all_events):
            return _anew(self.story, entry)
        before = [entry.source]
        if change.state == "weight" and (step := self.step_after(entry)):
            before.append(step.source)  # which would undo a limit on the weights
        moved = f"{_with_loop(self.story, at, entry)}      # line {at.line}, moved here"
        return "\n".join([*before, moved])

    def step_after(self, entry: Entry) -> Entry | None:
        """Return the optimizer's step that follows a backward in the same round."""
        around = self.story.around.get(entry.index)
        for one in self.story.entries if around is None else around.inside:
            here = (one.function, one.iterations) == (entry.function, entry.iterations)
            if here and one.index > entry.index and any(e.kind == "step" for e in one.events):
                return one
        return None

    def name(self, entry: Entry, change: Change) -> None:
        """A name has a new value: does its graph hold the graph of the value before, which a backward has used?"""
        name, before, now = change.owner, change.before, change.after
        self.several.pop(name, None)
        if getattr(now, "type", "") == "tuple" and name in entry.reads and name in entry.binds:
            self.several[name] = None
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
            fields = {
                "name": name,
                "nodes": now.nodes,
                "when": in_iteration(entry),
                "fixed": _without_graph(entry.source, name),
            }
            self.story.report("graph-kept", "certain", entry, name, **fields)


def _anew(story: Story, entry: Entry) -> str:
    """Write the statements that compute a loss, from the weights to its backward."""
    wanted = {read.partition(".")[0] for read in entry.reads}
    lines: dict[int, str] = {}
    for one in sorted(story.by_index.values(), key=lambda one: one.index, reverse=True):
        here = (one.file, one.function) == (entry.file, entry.function)
        if one.index >= entry.index or not here or one.line in lines:
            continue
        graphs = (c for c in one.changes if c.state == "name" and c.after is not None)
        if one.kind == "statement" and any(c.owner in wanted and c.after.nodes for c in graphs):
            lines[one.line] = one.source
            wanted.update(read.partition(".")[0] for read in one.reads)
    made = [lines[line] for line in sorted(lines)]
    if not made:
        return f"# compute the loss again first\n{entry.source}"
    return "\n".join([f"# in place of line {entry.line}:", *made, entry.source])


def _with_loop(story: Story, at: Entry, entry: Entry) -> str:
    """Write a statement with its own loop and its `no_grad`, if another statement isn't in them."""
    around = {line for line, _ in entry.iterations}
    source = at.source
    for line, _ in reversed(at.iterations):
        header = next(
            (one for one in story.by_index.values()
             if (one.file, one.line, one.kind) == (at.file, line, "header")),
            None,
        )  # fmt: skip
        if line not in around and header is not None:
            source = f"{header.source}\n    " + source.replace("\n", "\n    ")
    if entry.grad_enabled and not at.grad_enabled:
        source = "with torch.no_grad():\n    " + source.replace("\n", "\n    ")
    return source


def _without_graph(source: str, name: str) -> str:
    """Write a statement that adds to a total without the graph of what it adds.

    >>> _without_graph("total += loss", "total"), _without_graph("total = total + a * loss", "total")
    ('total += loss.item()', 'total = (total + a * loss).detach()')
    """
    node = ast.parse(source).body[0]
    if isinstance(node, ast.AugAssign):
        value = ast.unparse(node.value)
        simple = isinstance(node.value, ast.Name | ast.Attribute | ast.Call)
        sign = ast.unparse(node)[len(name) :].split()[0]
        return f"{name} {sign} {value if simple else f'({value})'}.item()"
    return f"{name} = ({right_side(source, name) or name}).detach()"
