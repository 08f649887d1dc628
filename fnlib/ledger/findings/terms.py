"""Which terms of a loss train nothing: a term without a graph is a constant, whatever it measures."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from fnlib.ledger.entries import Entry, Event
from fnlib.ledger.findings.cuts import CUT, mended
from fnlib.ledger.findings.story import Rule, Scopes, Story

ENOUGH = 3  # backward passes of a loss with such a term
FAR = 40  # names that are followed back from a term


@dataclass(eq=False, slots=True)
class Made:
    """The statement that bound a name, whether the value has a graph, and what it was made from."""

    entry: Entry
    type: str
    nodes: int
    parts: dict[str, Made] = field(default_factory=dict)


class Terms(Rule):
    """Losses that are a sum, one term of which depends on the weights and has no graph."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.names = Scopes()
        self.sums: dict[str, tuple[Entry, list[Made]]] = {}  # by the name of the loss
        self.seen: dict[tuple[str, str, int], int] = {}

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "backward" and not event.data["raised"] and event.subject in self.sums:
            at, dead = self.sums.pop(event.subject)
            for made in dead:
                found = _cut(made)
                if found is None:
                    continue
                times = self.seen[at.where] = self.seen.get(at.where, 0) + 1
                if times >= ENOUGH:
                    name = made.entry.binds[0]
                    said = f"has no graph, so this term of `{at.source}` trains nothing"
                    self.story.report(
                        "gradient-never-arrives",
                        "question",
                        at,
                        name,
                        said=said,
                        cure=found,
                        because=CUT,
                    )

    def after(self, entry: Entry) -> None:
        self.names.leave(entry)
        names = self.names.of(entry)
        parts = {read.partition(".")[0] for read in entry.reads} & names.keys()
        made_of = {name: names[name] for name in parts}
        for change in entry.changes:
            if change.state != "name" or change.after is None:
                continue
            if change.after.nodes:
                dead = [
                    names[name]
                    for name in _dead(entry.source, change.owner, names)
                    if name in names
                ]
                self.sums.pop(change.owner, None)
                if dead and entry.kind == "statement":
                    self.sums[change.owner] = (entry, dead)
            kind = getattr(change.after, "type", "")
            names[change.owner] = Made(entry, kind, change.after.nodes, made_of)


def _dead(source: str, target: str, names: dict[str, Made]) -> Iterator[str]:
    """Yield names in a sum that have no graph, in terms in which nothing else has one."""
    try:
        node = ast.parse(source).body[0]
    except (SyntaxError, IndexError):
        return
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == target:
        terms = list(_terms(node.value))
    elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add | ast.Sub):
        terms = [ast.Name(target), *_terms(node.value)]
    else:
        return
    for term in terms if len(terms) > 1 else ():
        inside = list(ast.walk(term))
        if any(isinstance(one, ast.Call | ast.Subscript | ast.IfExp) for one in inside):
            continue  # what it computes has no name
        known = [one.id for one in inside if isinstance(one, ast.Name) and one.id in names]
        if known and target not in known and not any(names[name].nodes for name in known):
            yield from (name for name in known if names[name].type in ("Tensor", "float"))


def _terms(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        yield from _terms(node.left)
        yield from _terms(node.right)
    else:
        yield node


def _cut(made: Made) -> str | None:
    """Return the mended statement that cut a term from the weights; ``None`` if none is known."""
    waiting = [made]
    seen: set[int] = set()
    while waiting and len(seen) < FAR:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        of_weights = bool(one.entry.named) or any(part.nodes for part in one.parts.values())
        if of_weights and not one.nodes:
            fixed = mended(one.entry.source)
            if fixed:
                return f"{fixed}      # line {one.entry.line}"
            if not one.entry.grad_enabled:
                return f"{one.entry.source}      # line {one.entry.line}, outside of no_grad"
        waiting += [part for part in one.parts.values() if not part.nodes]
    return None


class Squashed(Rule):
    """Losses that take softmax or sigmoid of what was squashed before, or no logarithm at all."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.seen: dict[tuple[str, str, int], int] = {}

    def event(self, entry: Entry, event: Event) -> None:
        squashed = event.data["squashed"] if event.kind == "backward" else None
        if squashed is None:
            return
        loss, made = (name.removesuffix("Backward0").lower() for name in squashed[:2])
        user, maker = (self.story.by_index.get(index, entry) for index in squashed[2:])
        at = user if loss.startswith("nll") else maker
        self.seen[at.where] = times = self.seen.get(at.where, 0) + 1
        if times < ENOUGH:
            return
        raw = _raw(at.source)
        hint = "raw scores" if raw != at.source else "without its last softmax or sigmoid"
        said = f"gives the {made} of its scores to the loss at line {user.line}, which squashes them again"
        because = "Between 0 and 1 the gradient stays small, and the loss never comes near 0."
        cure = f"{raw}      # {hint}: the loss takes care of it"
        if at is user:
            said = f"gives nll_loss what {_LAYERS.get(made, made)} has made, and it expects log-probabilities"
            because = "It takes no logarithm, so it isn't bounded below and nothing is normalised."
            cure = at.source.replace("nll_loss", "cross_entropy")
            cure = cure if cure != at.source else "criterion = nn.CrossEntropyLoss()"
            cure += "      # cross entropy takes raw scores"
        self.story.report(
            "gradient-never-arrives", "question", at, f"`{at.source}`", per="squashed",
            said=said, because=because, cure=cure,
        )  # fmt: skip


_LAYERS = {"addmm": "a linear layer", "mm": "a linear layer", "convolution": "a convolution"}
_SPACES = ("F", "torch", "nn", "functional")


class _Bare(ast.NodeTransformer):
    """Replaces a softmax or sigmoid by what it is taken of."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = ast.unparse(node.func)
        if name.rpartition(".")[2] not in ("softmax", "sigmoid"):
            return node
        if isinstance(node.func, ast.Attribute) and name.partition(".")[0] not in _SPACES:
            return node.func.value
        return node.args[0] if node.args else node


def _raw(source: str) -> str:
    """Write a statement without the softmax or sigmoid in it.

    >>> _raw("return F.softmax(self.fc(x), dim=1)"), _raw("p = scores.sigmoid()")
    ('return self.fc(x)', 'p = scores')
    """
    try:
        return ast.unparse(_Bare().visit(ast.parse(source)))
    except SyntaxError:
        return source
