"""The functional wing: what can be seen of its own bugs."""

from __future__ import annotations

import ast

from fnlib.ledger.entries import Entry
from fnlib.ledger.findings.story import Rule


class Functional(Rule):
    """A functional step whose result goes nowhere."""

    def after(self, entry: Entry) -> None:
        if entry.shares_line == 1 and any(
            event.kind == "functional step" for event in entry.events
        ):
            try:
                body = ast.parse(entry.source).body
            except SyntaxError:
                return
            call = body[0].value if body and isinstance(body[0], ast.Expr) else None
            if (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Attribute)
                and call.func.attr == "step"
            ):
                self.story.report(
                    "result-ignored",
                    "certain",
                    entry,
                    ast.unparse(call.func.value),
                    source=ast.unparse(call),
                )
