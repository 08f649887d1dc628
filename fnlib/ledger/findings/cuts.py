"""Which statement cuts a graph: ``.item()``, ``.detach()``, ``torch.tensor(...)`` between weights and loss."""

from __future__ import annotations

import ast

from fnlib.ledger.entries import Entry
from fnlib.ledger.findings.story import Story

_METHODS = {"item", "detach", "numpy", "tolist"}
_CALLS = {
    "torch.tensor",
    "torch.as_tensor",
    "torch.from_numpy",
    "torch.FloatTensor",
    "torch.Tensor",
}
_WORDS = {"float", "int"}
CUT = "The graph is cut on the way from the weights to the loss, and backward stops there."
LOOK_BACK = 400  # statements


class _Mend(ast.NodeTransformer):
    """Takes out what cuts a graph."""

    def __init__(self) -> None:
        self.cut = False

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        called = node.func
        if isinstance(called, ast.Attribute) and called.attr in _METHODS and not node.args:
            if not isinstance(called.value, ast.Name) or called.value.id != "torch":
                self.cut = True
                return called.value
        name = ast.unparse(called)
        if name.endswith("autograd.grad"):
            given = {one.arg for one in node.keywords}
            if "create_graph" not in given and None not in given:
                self.cut = True
                kept = [one for one in node.keywords if one.arg != "retain_graph"]
                node.keywords = [*kept, ast.keyword("create_graph", ast.Constant(True))]
        if (name in _CALLS or name in _WORDS) and len(node.args) == 1:
            if isinstance(node.args[0], ast.Name | ast.Call | ast.Attribute | ast.Subscript):
                self.cut = True
                return node.args[0]
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if node.attr == "data" and isinstance(node.ctx, ast.Load):
            self.cut = True
            return node.value
        return node


def mended(source: str) -> str | None:
    """Write a statement without what cuts its graph; ``None`` if nothing does.

    >>> mended("loss = loss - log_probs[0, arm].item() * gain")
    'loss = loss - log_probs[0, arm] * gain'
    >>> mended("x = torch.relu(x)")
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    mend = _Mend()
    whole = ast.unparse(mend.visit(tree))
    return whole if mend.cut else None


def cut_behind(story: Story, entry: Entry, name: str, *, within: str = "") -> str:
    """Return the mended statement that made a loss, or what it was made of, without a graph.

    Args:
        story: of the recording.
        entry: the statement that calls backward, or a part of the network.
        name: of the loss.
        within: label of a part; then the statement is looked for around its call, and after it.
    """
    entries = [one for one in story.by_index.values() if abs(one.index - entry.index) < LOOK_BACK]
    if within:
        later = [one for one in entries if one.index >= entry.index and one.grad_enabled]
        return next(filter(None, (_mended(one) for one in later if one.binds)), "")
    wanted = {name}
    for one in sorted(entries, key=lambda one: one.index, reverse=True):
        if one.index > entry.index or not wanted.intersection(one.binds):
            continue
        if one.function == entry.function and (fixed := _mended(one)):
            return fixed
        wanted.update(read.partition(".")[0] for read in one.reads)
    return ""


def _mended(entry: Entry) -> str:
    fixed = mended(entry.source) if entry.kind == "statement" else None
    return f"{fixed}      # instead of line {entry.line}, which cuts the graph" if fixed else ""
