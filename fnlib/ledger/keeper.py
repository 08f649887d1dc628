"""Keeping track of what is watched: a copy of all of it, and between two looks the difference.

`Keeper.look` reads every watched place and returns a `Delta` for each that differs from the last look, by content,
identity or storage. The copies are never written to again, so a delta may hold the old one until it is told.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from fnlib.ledger.aliases import aliases_of
from fnlib.ledger.content import address, copied, is_cow, parts, quietly, same, unreadable
from fnlib.ledger.entries import Alias, Links, State, Summary
from fnlib.ledger.watch import ModuleWatch, OptimizerWatch, TensorWatch, ValueWatch, Watch


@dataclass(eq=False, slots=True)
class Seen:
    """What stood in a place at the last look: which object, where its numbers lay, and a copy of them."""

    state: State
    ref: Callable[[], Any]
    token: int | None
    addresses: tuple[int, ...]
    copies: tuple[Tensor, ...]
    value: Any = None
    cow: bool = False
    summary: Summary | None = None


@dataclass(eq=False, slots=True)
class Delta:
    """A place that differs between two looks; ``also`` are the other places in the same storage."""

    watch: Watch
    place: str
    before: Seen | None
    after: Seen | None
    also: tuple[str, ...] = ()


class Keeper:
    """All watched objects, and what stood in them at the last look."""

    def __init__(self, keep: bool, kinds: frozenset[str]) -> None:
        self.keep, self.kinds = keep, kinds
        self.watches: list[Watch] = []
        self.unfollowed: dict[str, str] = {}
        self.at: dict[int, list[tuple[Watch, str, Tensor]]] = {}
        self.links = Links()
        self._tokens: dict[int, tuple[Any, int]] = {}
        self._next_token = 1
        self._weights: dict[int, str] = {}
        self._now: dict[str, Seen] = {}
        self._deltas: list[Delta] = []
        self._watch: Watch = None  # type: ignore[assignment]
        self._done: dict[int, tuple[Seen | None, Seen]] = {}
        self._aliased: tuple[object, tuple[Alias, ...]] = (None, ())

    # --- who is who ----------------------------------------------------------------------------

    def add(self, watches: Iterable[Watch]) -> None:
        """Watch more objects; storage that several share belongs to the first in order."""
        self.watches = sorted([*self.watches, *watches], key=lambda one: one.order)

    def renamed(self, label: str) -> None:
        """A name is bound to another value than the one watched under it: that one is the earlier one from now on."""
        for one in self.watches:
            if one.label == label:
                one.label = f"{label} (earlier)"
                one.let_go()

    def free_label(self, label: str) -> str:
        """A label that no other watched object has."""
        taken, number, found = {one.label for one in self.watches}, 1, label
        while found in taken:
            number += 1
            found = f"{label} ({number})"
        return found

    def aliases(self) -> tuple[Alias, ...]:
        """Who shares storage with whom; worked out again only when a tensor has come, gone or moved."""
        shape = tuple((start, len(held)) for start, held in self.at.items())
        if shape != self._aliased[0]:
            with quietly():
                places = [(name(one, place), tensor) for held in self.at.values() for one, place, tensor in held if one.order != 1]
                places += [
                    (f"{one.label}.param_groups[{g}].params[{p}]", weight)
                    for one in self.watches
                    if isinstance(one, OptimizerWatch) and one.value() is not None
                    for g, group in enumerate(one.value().param_groups)
                    for p, weight in enumerate(group["params"])
                ]
                self._aliased = (shape, aliases_of(places))
        return self._aliased[1]

    def drop(self, gone: Iterable[Watch]) -> None:
        """Stop watching: a name that was followed was bound to something else."""
        out = set(map(id, gone))
        self.watches = [one for one in self.watches if id(one) not in out]

    def token(self, value: Any) -> int | None:
        """A number for an object, the same for as long as the object lives; ``None`` if it cannot be told apart."""
        known = self._tokens.get(id(value))
        if known is not None and known[0]() is value:
            return known[1]
        key, number = id(value), self._next_token
        try:
            self._tokens[key] = (weakref.ref(value, lambda _: self._forget(key, number)), number)
        except TypeError:
            return None
        self._next_token += 1
        return number

    def _forget(self, key: int, number: int) -> None:
        if (known := self._tokens.get(key)) is not None and known[1] == number:
            del self._tokens[key]

    def weight_label(self, tensor: Tensor) -> str | None:
        """``model.0.weight`` for a weight of a watched module or a watched tensor, else ``None``."""
        return self._weights.get(id(tensor))

    def module_label(self, module: Any) -> str | None:
        """``model`` or ``model.1`` for a watched module or a part of one, else ``None``."""
        for one in self.watches:
            if isinstance(one, (ModuleWatch, ValueWatch)) and id(module) in one.ids:
                part = one.ids[id(module)]
                return f"{one.label}.{part}" if part else one.label
        return None

    def label_of(self, value: Any) -> str:
        """Label of a watched object, or its class in brackets."""
        for one in self.watches:
            if one.value() is value:
                return one.label
        return self.module_label(value) or f"({type(value).__name__})"

    def owners(self, value: Any) -> set[str]:
        """Labels of the watched objects that a value is, is part of, contains, or is a tensor of."""
        if isinstance(value, Tensor):
            with quietly():
                if unreadable(value):
                    return {one.label for one in self.watches if one.value() is value}
                return {held[0].label for part in parts(value) for held in self.at.get(address(part), ())} | {
                    one.label for one in self.watches if one.value() is value
                }
        key = id(value)
        found = {one.label for one in self.watches if key in one.ids}
        if isinstance(value, nn.Module):
            roots = {id(one.value()): one.label for one in self.watches if isinstance(one, (ModuleWatch, OptimizerWatch))}
            waiting, met = [value], {id(value)}
            while waiting:
                tables = waiting.pop().__dict__
                for held in (*tables.get("_modules", {}).values(), *tables.values()):
                    if id(held) in roots:
                        found.add(roots[id(held)])
                    if isinstance(held, nn.Module) and id(held) not in met:
                        met.add(id(held))
                        waiting.append(held)
        return found

    # --- looking -------------------------------------------------------------------------------

    def look(self) -> list[Delta]:
        """Read all places; return those that differ from the last look, in the order of the watches."""
        self._deltas = []
        self.at, self._done, self._weights = {}, {}, {}
        with quietly():
            self._read(self.watches)
            for delta in self._deltas:
                self._complete(delta)
            if any(map(_relinks, self._deltas)):
                self.links = self._link()
        return self._deltas

    def prime(self, watches: list[Watch]) -> None:
        """Begin to watch objects as they are now, which is no change."""
        self.add(watches)
        with quietly():
            self._deltas = []
            self._read(watches)
            self.links = self._link()

    def _read(self, watches: list[Watch]) -> None:
        for one in watches:
            self._now, self._watch = {}, one
            value = one.value()
            if value is not None:
                one.read(value, self._tensor, self._plain)
            before, one.seen = one.seen, self._now
            if value is None:
                continue  # it went with the name that held it; that is told of the name
            if before.keys() != one.seen.keys():
                self._deltas.extend(Delta(one, place, seen, None) for place, seen in before.items() if place not in one.seen)

    def _plain(self, place: str, state: State, value: Any) -> None:
        """Compare a number, flag or text with the one of the last look."""
        if state not in self.kinds:
            return
        before = self._watch.seen.get(place)
        if before is not None and (before.value is value or _equal(before.value, value)):
            self._now[place] = before
            return
        after = self._now[place] = Seen(state, _gone, None, (), (), value)
        self._deltas.append(Delta(self._watch, place, before, after))

    def _tensor(self, place: str, state: State, tensor: Tensor) -> None:
        """Compare a tensor with the copy of the last look: which object, where, which bytes."""
        one = self._watch
        if state == "weight":
            self._weights.setdefault(id(tensor), name(one, place))
        if state not in self.kinds:
            return
        known = one.seen.get(place)
        why = unreadable(tensor)
        if why is not None:
            self.unfollowed[name(one, place)] = why
        dense = parts(tensor) if why is None else ()
        spots = tuple([address(part) for part in dense])
        start = spots[-1] if spots else 0
        if start:
            self.at.setdefault(start, []).append((one, place, tensor))
        twin = self._done.get(start) if start and len(dense) == 1 else None
        if twin is not None and twin[1].copies[0].shape != tensor.shape:
            twin = None  # another view of the same storage: a place of its own
        is_value = one.order == 1  # an fnlib value hands its tensors out anew each time
        shape = None if len(dense) == 1 or (why is not None and "no shape" in why) else tuple(tensor.shape)
        if known is not None and (is_value or known.ref() is tensor) and len(dense) == len(known.copies) and known.value == shape:
            if twin is not None and twin[0] is not None and twin[0].copies is known.copies:
                # One place with two names: what happened to it is told under the first name alone.
                self._now[place] = known if twin[0] is twin[1] else replace(known, copies=twin[1].copies, addresses=spots)
                return
            cow = bool(dense) and is_cow(dense[-1])
            if (known.addresses == spots or known.cow or cow) and all(map(same, dense, known.copies)):
                known.addresses, known.cow = spots, cow
                self._now[place] = known
                if start:
                    self._done.setdefault(start, (known, known))
                return
        copies = None
        if known is not None and len(dense) == len(known.copies) and all(map(same, dense, known.copies)):
            copies = known.copies
        elif twin is not None:
            copies = twin[1].copies
        after = self._now[place] = Seen(
            state,
            weakref.ref(tensor),
            None if is_value else self.token(tensor),
            spots,
            tuple(map(copied, dense)) if copies is None else copies,
            shape,
            bool(dense) and is_cow(dense[-1]),
        )
        if start:
            self._done.setdefault(start, (known, after))
        self._deltas.append(Delta(one, place, known, after))

    def _complete(self, delta: Delta) -> None:
        """Add the other names of the storage that a delta is about."""
        seen = delta.after or delta.before
        if seen is not None and seen.addresses:
            here = self.at.get(seen.addresses[-1], ())
            delta.also = tuple(name(w, p) for w, p, _ in here if (w, p) != (delta.watch, delta.place))

    def _link(self) -> Links:
        """Which tensor stands where: the weights of modules, and what the optimizers hold."""
        weights: dict[str, int] = {}
        held: dict[str, tuple[int, ...]] = {}
        flags: dict[str, bool] = {}
        for one in self.watches:
            value = one.value()
            if isinstance(one, (ModuleWatch, TensorWatch)):
                for place, seen in one.seen.items():
                    if seen.state == "weight" and seen.token is not None:
                        weights[name(one, place)] = seen.token
                    elif seen.state == "requires_grad flag":
                        flags[name(one, place.removesuffix("requires_grad").rstrip("."))] = seen.value
            elif isinstance(one, OptimizerWatch) and value is not None:
                tokens = [self.token(entry) or 0 for group in value.param_groups for entry in group["params"]]
                held[one.label] = tuple(tokens)
        return Links(weights, held, flags)


def name(one: Watch, place: str) -> str:
    """Label of a place: ``model.0.weight``, ``best['0.weight']`` is written ``best.0.weight``."""
    return f"{one.label}.{place}" if place else one.label


def _gone() -> None:
    return None


def _equal(a: Any, b: Any) -> bool:
    return type(a) is type(b) and (a == b or (a != a and b != b))


def _relinks(delta: Delta) -> bool:
    """Whether a delta tells of another tensor in a weight's place, another group, or another flag."""
    seen = delta.after or delta.before
    if seen is None or seen.state not in ("weight", "requires_grad flag", "group entry"):
        return False
    return delta.before is None or delta.after is None or delta.before.token != delta.after.token or not delta.after.copies


def merge(earlier: list[Delta], later: Iterable[Delta]) -> list[Delta]:
    """The difference over two looks from the differences of each."""
    found = {(id(delta.watch), delta.place): delta for delta in earlier}
    for delta in later:
        key = (id(delta.watch), delta.place)
        first = found.pop(key, None)
        if first is None:
            found[key] = delta
            continue
        joined = Delta(delta.watch, delta.place, first.before, delta.after, delta.also or first.also)
        if not _alike(joined.before, joined.after):
            found[key] = joined
    return list(found.values())


def _alike(a: Seen | None, b: Seen | None) -> bool:
    """Whether nothing is to be told between two sights of a place."""
    if a is None or b is None:
        return a is b
    if a.token != b.token or a.addresses != b.addresses or len(a.copies) != len(b.copies):
        return False
    return _equal(a.value, b.value) and all(map(same, a.copies, b.copies))
