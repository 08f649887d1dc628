"""Who is who among the watched objects: labels, tokens, owners, and who shares storage."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from fnlib.ledger.entries import Alias
from fnlib.ledger.looks.bytes import Form, address, parts, span_of, unreadable
from fnlib.ledger.looks.sighting import Seen
from fnlib.ledger.looks.watches import (
    FOLLOWED,
    ModuleWatch,
    OptimizerWatch,
    TensorWatch,
    ValueWatch,
    Watch,
    held_in,
    wrapped_by,
)


class Owners:
    """The watched objects; ``at`` maps where each storage is to what was seen there, owner first."""

    def __init__(self) -> None:
        self.watches: list[Watch] = []
        self.at: dict[int, list[Seen]] = {}
        self._tokens: dict[int, tuple[Any, int, bool]] = {}
        self._next_token, self._many = 1, 1000
        self._weights: dict[int, str] = {}

    def add(self, watches: Iterable[Watch]) -> None:
        """Watch more objects; storage that several share belongs to the first of them in order."""
        self.watches = sorted([*self.watches, *watches], key=lambda one: one.order)

    def drop(self, gone: list[Watch]) -> None:
        """Stop watching what a name was bound to before."""
        out = {id(one) for one in gone}
        for one in gone:
            one.forget()
        self.watches = [one for one in self.watches if id(one) not in out]

    def renamed(self, label: str) -> None:
        """Label what is watched under a rebound name as the earlier value from now on."""
        for one in self.watches:
            if one.label == label:
                one.label = f"{label} (earlier)"
                for seen in one.seen.values():
                    seen.label = f"{one.label}.{seen.place}" if seen.place else one.label
                one.let_go()

    def free_label(self, label: str) -> str:
        """Return a label that no other watched object has."""
        taken = {one.label for one in self.watches if one.value() is not None}
        number, found = 1, label
        while found in taken:
            number += 1
            found = f"{label} ({number})"
        return found

    # --- tokens and labels ---------------------------------------------------------------------

    def token(self, value: Any, *, weakly: bool = True) -> int | None:
        """Return a number that an object keeps while it lives; ``None`` if it takes no reference.

        Not ``weakly``, the object is held until `release`, as PyTorch refuses to swap a tensor that
        has weak references.
        """
        if (known := self._known_token(value)) is not None:
            return known
        key, number = id(value), self._next_token
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

    def _known_token(self, value: Any) -> int | None:
        known = self._tokens.get(id(value))
        if known is None or (known[0]() if known[2] else known[0]) is not value:
            return None
        return known[1]

    def release(self, value: Any) -> None:
        """Hold an object no longer; it keeps its number while it lives."""
        known = self._tokens.get(id(value))
        if known is not None and not known[2]:
            self._tokens[id(value)] = (weakref.ref(value), known[1], True)

    def label_weight(self, tensor: Tensor, label: str, *, weakly: bool) -> None:
        """Label a weight; its first label stays."""
        if (token := self.token(tensor, weakly=weakly)) is not None:
            self._weights.setdefault(token, label)

    def unlabel(self, seen: Seen) -> None:
        """Forget the label of a tensor that has left its place."""
        if seen.token is not None and self._weights.get(seen.token) == seen.label:
            del self._weights[seen.token]

    def weight_label(self, tensor: Tensor) -> str | None:
        """Return ``model.0.weight`` for a weight of a watched object, else ``None``."""
        token = self._known_token(tensor)
        if token is not None and token in self._weights:
            return self._weights[token]
        # A tensor that is watched by itself has its name before the first look at it.
        return next((one.label for one in self.watches if _asked_for(one, tensor)), None)

    def module_label(self, module: Any) -> str | None:
        """Return ``model`` or ``model.1`` for a watched module or a part of one, else ``None``."""
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
        """Return the label of a watched object, or its class in brackets."""
        for one in self.watches:
            if one.value() is value:
                return one.label
        return self.module_label(value) or f"({type(value).__name__})"

    # --- what a statement's names stand for ----------------------------------------------------

    def owners(self, value: Any) -> set[str]:
        """Return labels of the watched objects that a value is, is in, contains or is a tensor of."""
        if isinstance(value, Tensor):
            by_itself = [one for one in self.watches if one.value() is value]
            seen = by_itself[0].seen.get("") if by_itself else None  # by the look a moment ago
            spots: Iterable[int] = () if seen is None else seen.spots
            if seen is None and unreadable(value) is None:
                spots = map(address, parts(value))
            found = {one.label for one in by_itself}
            return found.union([one.watch.label for at in spots for one in self.at.get(at, ())])
        key = id(value)
        found = {one.label for one in self.watches if key in one.ids and one.value() is not None}
        if isinstance(value, nn.Module):
            found |= self._held_by(value)
        elif isinstance(value, Optimizer):
            for inner in wrapped_by(value).values():
                found |= self.owners(inner)
        return found

    def _held_by(self, module: nn.Module) -> set[str]:
        """Return labels of the watched modules and optimizers that a module or its parts hold."""
        own, others = ModuleWatch("", module), dict[int, str]()
        for one in self.watches:
            if isinstance(one, (ModuleWatch, OptimizerWatch)) and (root := one.value()) is not None:
                if root is not module:
                    others[id(root)] = one.label
                elif isinstance(one, ModuleWatch):
                    own = one
        return held_in(own.tables(module), others) if others else set()


@dataclass(eq=False, slots=True)
class Sites:
    """Where the watched tensors were after a statement; who shares storage is worked out when asked.

    ``places`` has the storage, form, label and token of each place, by storage; ``held`` maps tokens
    of tensors to the places in optimizers that hold them.
    """

    places: list[tuple[int, Form | None, str, int | None]]
    held: Mapping[int, tuple[str, ...]]
    found: tuple[Alias, ...] | None = None

    def aliases(self) -> tuple[Alias, ...]:
        """Return the sets of labels in the same bytes, and the pairs that overlap."""
        if self.found is None:
            at: dict[int, list[tuple[Form | None, str, int | None]]] = {}
            for spot, form, label, token in self.places:
                at.setdefault(spot, []).append((form, label, token))
            same = [alias for here in at.values() if (alias := self._same(here)) is not None]
            self.found = (*same, *_overlaps(at.values()))
        return self.found

    def _same(self, here: list[tuple[Form | None, str, int | None]]) -> Alias | None:
        tokens = dict.fromkeys(token for _, _, token in here if token is not None)
        labels = dict.fromkeys(label for _, label, _ in here)
        for token in tokens:
            labels.update(dict.fromkeys(self.held.get(token, ())))
        if len(labels) < 2:
            return None
        return Alias(tuple(labels), "same tensor" if len(tokens) == 1 else "same storage")


def _overlaps(places: Iterable[list[tuple[Form | None, str, int | None]]]) -> list[Alias]:
    first = [here[0] for here in places]
    spans = sorted((span_of(form), label) for form, label, _ in first if form is not None)
    found = []
    reach, holder = 0, ""
    for (start, end), label in spans:
        if start < reach:
            found.append(Alias((holder, label), "overlap"))
        if end > reach:
            reach, holder = end, label
    return found


def _asked_for(one: Watch, tensor: Tensor) -> bool:
    return isinstance(one, TensorWatch) and one.order < FOLLOWED and one.value() is tensor
