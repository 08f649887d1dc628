"""Who is who among the watched objects: labels, tokens, and the owners that a value stands for."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer

from fnlib.ledger.looks.content import address, parts, unreadable
from fnlib.ledger.looks.watches import (
    ModuleWatch,
    OptimizerWatch,
    ValueWatch,
    Watch,
    held_in,
    wrapped_by,
)

if TYPE_CHECKING:
    from fnlib.ledger.looks.sighting import Seen


class Owners:
    """The watched objects by label. ``at`` maps the place of each storage to what was seen there, first owner first."""

    def __init__(self) -> None:
        self.watches: list[Watch] = []
        self.at: dict[int, list[Seen]] = {}
        self._tokens: dict[int, tuple[Any, int, bool]] = {}
        self._next_token, self._many = 1, 1000
        self._weights: dict[int, str] = {}
        self.before_renaming: Callable[[], None] = lambda: None

    def add(self, watches: Iterable[Watch]) -> None:
        """Watch more objects; storage that several share belongs to the first in order."""
        self.watches = sorted([*self.watches, *watches], key=lambda one: one.order)

    def drop(self, gone: Iterable[Watch]) -> None:
        """Stop watching: a name that was followed was bound to something else."""
        out = set()
        for one in gone:
            one.forget()
            out.add(id(one))
        self.watches = [one for one in self.watches if id(one) not in out]

    def renamed(self, label: str) -> None:
        """A name is bound to another value than the one watched under it: that one is the earlier one from now on."""
        for one in self.watches:
            if one.label == label:
                self.before_renaming()
                one.label = f"{label} (earlier)"
                for seen in one.seen.values():
                    seen.label = f"{one.label}.{seen.place}" if seen.place else one.label
                one.let_go()

    def free_label(self, label: str) -> str:
        """A label that no other watched object has."""
        taken, number, found = (
            {one.label for one in self.watches if one.value() is not None},
            1,
            label,
        )
        while found in taken:
            number += 1
            found = f"{label} ({number})"
        return found

    # --- tokens and labels ---------------------------------------------------------------------

    def token(self, value: Any, *, weakly: bool = True) -> int | None:
        """A number for an object, the same for as long as the object lives; ``None`` if it cannot be told apart.

        Not ``weakly``, the object is held until it is `release`d: PyTorch refuses to swap a tensor that has weak references.
        """
        key = id(value)
        known = self._tokens.get(key)
        if known is not None and (known[0]() if known[2] else known[0]) is value:
            return known[1]
        number = self._next_token
        try:
            self._tokens[key] = (weakref.ref(value) if weakly else value, number, weakly)
        except TypeError:
            return None
        self._next_token += 1
        if len(self._tokens) > self._many:
            self._tokens = {
                key: one for key, one in self._tokens.items() if not one[2] or one[0]() is not None
            }
            self._many = 2 * len(self._tokens) + 1000
        return number

    def release(self, value: Any) -> None:
        """Hold an object no longer; it keeps its number while it lives."""
        known = self._tokens.get(id(value))
        if known is not None and not known[2]:
            self._tokens[id(value)] = (weakref.ref(value), known[1], True)

    def label_weight(self, tensor: Tensor, label: str, *, weakly: bool) -> None:
        """A tensor is the weight of this label; its first label stays."""
        if (token := self.token(tensor, weakly=weakly)) is not None:
            self._weights.setdefault(token, label)

    def unlabel(self, seen: Seen) -> None:
        """A tensor has left its place: it is the weight of that label no longer."""
        if seen.token is not None and self._weights.get(seen.token) == seen.label:
            del self._weights[seen.token]

    def weight_label(self, tensor: Tensor) -> str | None:
        """``model.0.weight`` for a weight of a watched module or a watched tensor, else ``None``."""
        token = self.token(tensor)
        return None if token is None else self._weights.get(token)

    def module_label(self, module: Any) -> str | None:
        """``model`` or ``model.1`` for a watched module or a part of one, else ``None``."""
        key = id(module)
        for one in self.watches:
            if (
                key in one.ids
                and isinstance(one, (ModuleWatch, ValueWatch))
                and one.value() is not None
            ):
                part = one.ids[key]
                return f"{one.label}.{part}" if part else one.label
        return None

    def label_of(self, value: Any) -> str:
        """Label of a watched object, or its class in brackets."""
        for one in self.watches:
            if one.value() is value:
                return one.label
        return self.module_label(value) or f"({type(value).__name__})"

    # --- what a statement's names stand for ----------------------------------------------------

    def owners(self, value: Any) -> set[str]:
        """Labels of the watched objects that a value is, is part of, contains, or is a tensor of."""
        if isinstance(value, Tensor):
            found = {one.label for one in self.watches if one.value() is value}
            if unreadable(value) is None:
                found.update(
                    seen.watch.label
                    for part in parts(value)
                    for seen in self.at.get(address(part), ())
                )
            return found
        key = id(value)
        found = {one.label for one in self.watches if key in one.ids and one.value() is not None}
        if isinstance(value, nn.Module):
            found |= self._held_by(value)
        elif isinstance(value, Optimizer):
            for inner in wrapped_by(value).values():
                found |= self.owners(inner)
        return found

    def _held_by(self, module: nn.Module) -> set[str]:
        """Labels of the watched modules and optimizers that a module or a part of it holds, as a part or an attribute."""
        roots = [
            (one, one.value())
            for one in self.watches
            if isinstance(one, (ModuleWatch, OptimizerWatch))
        ]
        others = {id(root): one.label for one, root in roots if root is not module}
        if not others:
            return set()
        for one, root in roots:
            if root is module and isinstance(one, ModuleWatch):
                return one.holds(module, others)
        table = module.__dict__
        return held_in(
            ModuleWatch("", module).tables(module) if table["_modules"] else [table], others
        )
