"""The difference between two looks at all that is watched.

`Keeper.look` reads every watched place and returns a `Delta` for each that differs from the last
look, by content, identity or storage. Copies are never written to again, so a delta may hold the
old one until it is summed up. Callers do so inside of `fnlib.torch_private.quietly`.

A fault in looking at one place or object is noted under its label; the other ones are looked at.
"""

from __future__ import annotations

import weakref
from operator import is_, ne
from typing import Any

import torch
from torch import Tensor

from fnlib.ledger.entries import Links, State
from fnlib.ledger.looks.bytes import address, copied, parts, same, span, unreadable
from fnlib.ledger.looks.owners import Owners, Sites
from fnlib.ledger.looks.sighting import NOBODY, Delta, Seen, equal, once, rewritten
from fnlib.ledger.looks.watches import (
    FOLLOWED,
    ModuleWatch,
    OptimizerWatch,
    TensorWatch,
    Watch,
)
from fnlib.torch_private import is_cow, storage_address
from fnlib.values.protect import is_share

_ORDINARY = frozenset(
    {
        *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.uint8, torch.bool),
    }
)
_LINKED = frozenset({"weight", "requires_grad flag", "group entry"})
_VALUE = 1  # the order of fnlib values, which give a new copy-on-write copy at each look
Flat = tuple[list[Any], list[Tensor]]


class Keeper(Owners):
    """All watched objects, and what was seen of them at the last look.

    Args:
        keep: whether changes keep copies of the tensors.
        kinds: of state that are watched.
    """

    def __init__(self, keep: bool, kinds: frozenset[str]) -> None:
        super().__init__()
        self.keep, self.kinds = keep, kinds
        self.unfollowed: dict[str, str] = {}
        self.faults: dict[str, Exception] = {}
        self.links = Links()
        self._held: dict[int, tuple[str, ...]] = {}
        self._sites: Sites | None = None
        self._new = False
        self._deltas: list[Delta] = []
        self._watch, self._now = NOBODY, dict[str, Seen]()
        self._was: dict[int, Seen | None] = {}

    def look(self) -> list[Delta]:
        """Read all places; return those that differ from the last look, in order of the watches."""
        self._deltas = []
        self.at, self._was = {}, {}
        self._read(self.watches)
        if self._deltas:
            self._finish()
        return self._deltas

    def prime(self, watches: list[Watch]) -> None:
        """Begin to watch objects as they are now, which is no change."""
        new = [one for one in watches if one not in self.watches]
        if new:
            self.add(new)
        for one in watches:
            for spot in {seen.spots[-1] for seen in one.seen.values() if seen.spots}:
                if others := [seen for seen in self.at.get(spot, ()) if seen.watch is not one]:
                    self.at[spot] = others
                else:
                    self.at.pop(spot, None)
            one.forget()
        self._deltas = []
        self._read(watches)
        if any([delta.seen.watch.order < FOLLOWED for delta in self._deltas]):
            self._finish()
        self._deltas, self._sites = [], None

    def rest(self) -> None:
        """Let go of what was seen, until `wake` looks again."""
        for one in self.watches:
            for seen in one.seen.values():
                if seen.state != "weight" and seen.token is not None and not seen.weak:
                    self._tokens.pop(id(seen.held), None)  # a gradient, say: it need not live on
            one.forget()
        self.at, self._was, self._deltas, self._now, self._sites = {}, {}, [], {}, None

    def wake(self) -> None:
        """Look at everything as it is now, which is no change."""
        self._weights = {}
        self.watches = [one for one in self.watches if one.value() is not None]
        self.prime(self.watches)
        held = {id(seen.held) for one in self.watches for seen in one.seen.values()}
        for key, (value, _, weakly) in list(self._tokens.items()):
            if not weakly and key not in held:
                self.release(value)

    def close(self) -> None:
        """Let go of everything that was watched, and of the copies; labels stay."""
        for one in self.watches:
            one.forget()
            one.value = _gone
        self.at, self._was, self._deltas, self._now, self._tokens = {}, {}, [], {}, {}

    def fault(self, label: str, error: Exception) -> None:
        """Note that something could not be looked at."""
        self.faults.setdefault(label, error)

    def _read(self, watches: list[Watch]) -> None:
        for one in watches:
            before, self._now, self._watch, self._new = one.seen, {}, one, False
            try:
                value = one.value()
                if value is None:  # it went with the name that held it, which has a change
                    one.ids = {}  # they may be those of other objects from now on
                    continue
                if one.whole is not None and self._read_whole(one, value, one.whole):
                    continue
                one.read(value, self._tensor, self._plain)
                if self._new or len(before) != len(self._now):
                    gone = [seen for place, seen in before.items() if place not in self._now]
                    self._deltas.extend([Delta(seen, None) for seen in gone])
                one.seen = self._now
                one.whole = Whole.of(one.flat(value, self.kinds), one.seen)
            except Exception as error:
                self.fault(one.label, error)
                one.seen, one.whole = {**before, **self._now}, None

    def _finish(self) -> None:
        """Draw the consequences: other names of a storage, labels of weights, links."""
        relink, self._deltas = False, once(self._deltas)
        for delta in self._deltas:
            one, before, after = delta.seen, delta.before, delta.after
            here = self.at.get(one.spots[-1], ()) if one.spots else ()
            if len(here) > 1:
                delta.also = tuple(other.label for other in here if other is not one)
            if before is None or after is None or before.spots != after.spots:
                self._sites = None
            replaced = before is not None and (after is None or after.token != before.token)
            if before is not None and replaced and before.token is not None and not before.weak:
                self.release(before.held)
                before.held = None  # a gradient that is freed is freed here too
            if one.state in _LINKED and (before is None or replaced or not one.is_copied):
                relink = True
                if before is not None and before.token is not None:
                    self.unlabel(before)
        if relink:
            self._link()

    # --- fast: a whole object ------------------------------------------------------------------

    def _read_whole(self, one: Watch, value: Any, whole: Whole) -> bool:
        """Compare an object as a whole; False if that does not tell all that differs."""
        if not self.at.keys().isdisjoint(whole.at):
            return False
        changed = whole.rewritten(one.flat(value, self.kinds))
        if changed is None:
            return False
        for known in changed:
            whole.update(known, self._rewritten(one, known, known.held))
        self.at.update(whole.at)
        if isinstance(one, ModuleWatch) and "gradient" in self.kinds:
            self._now, seen = one.seen, one.seen
            for place, weight in whole.weights:
                if (gradient := weight.grad) is not None:
                    self._tensor(place, "gradient", gradient)
                elif place in seen:
                    self._deltas.append(Delta(seen.pop(place), None))
        return True

    def _rewritten(self, one: Watch, known: Seen, tensor: Tensor) -> Seen:
        """Enter new bytes in an old place."""
        seen = one.seen[known.place] = rewritten(known, tensor)
        self._was[known.spots[0]] = known
        self._deltas.append(Delta(known, seen))
        return seen

    # --- slow: one place -----------------------------------------------------------------------

    def _plain(self, place: str, state: State, value: Any) -> None:
        """Compare a number, flag or text with the one of the last look."""
        before = self._watch.seen.get(place)
        if before is not None and (before.value is value or equal(before.value, value)):
            self._now[place] = before
        elif state in self.kinds:
            label = self._label(place)
            after = self._now[place] = Seen(self._watch, place, label, state, value=value)
            self._deltas.append(Delta(before, after))
            self._new = self._new or before is None

    def _tensor(self, place: str, state: State, tensor: Tensor) -> None:
        """Compare a tensor with the copy of the last look: which object, where, which bytes."""
        known = self._watch.seen.get(place)
        try:
            quick = known is not None and known.form is not None and known.spots[0] not in self.at
            if known is None or not (quick and known.has_stayed(tensor)):
                self._tensor_at_length(place, state, tensor, known)
                return
            if not known.unchanged(tensor):
                known = self._rewritten(self._watch, known, tensor)
            self._now[place] = known
            self.at[known.spots[0]] = [known]
        except Exception as error:
            self.fault(self._label(place), error)
            if known is not None:
                self._now[place] = known

    def _label(self, place: str) -> str:
        return f"{self._watch.label}.{place}" if place else self._watch.label

    def _tensor_at_length(
        self, place: str, state: State, tensor: Tensor, known: Seen | None
    ) -> None:
        """Compare a tensor that is new, has moved, shares memory, or is of a rare kind."""
        if state == "weight":
            weakly = state not in self.kinds or tensor.grad_fn is not None
            self.label_weight(tensor, self._label(place), weakly=weakly)
        if state not in self.kinds:
            return
        why = unreadable(tensor)
        if why is not None:
            self.unfollowed[self._label(place)] = why
        dense = parts(tensor) if why is None else ()
        is_value = self._watch.order == _VALUE
        spots = () if is_value else tuple([address(part) for part in dense])
        spot = spots[-1] if spots else 0
        lazy = why is not None and "no shape" in why
        shape = None if len(dense) == 1 or lazy else tuple(tensor.shape)
        seen = known
        if known is not None and self._stays(known, tensor, dense, spots, shape):
            if len(known.copies) == 1 and spot in self.at:
                self._share_copy(known, self.at[spot][0], tensor)
        else:
            seen = self._sight(place, state, tensor, known, dense, spots, shape)
            if known is None or not self._follows_twin(known, tensor, spot):
                self._deltas.append(Delta(known, seen))
        assert seen is not None
        self._now[place] = seen
        self._new = self._new or known is None
        if spot:
            if spot not in self.at:
                self._was[spot] = known
            self.at[spot] = [*self.at.get(spot, ()), seen]

    def _stays(
        self,
        known: Seen,
        tensor: Tensor,
        dense: tuple[Tensor, ...],
        spots: tuple[int, ...],
        shape: tuple[int, ...] | None,
    ) -> bool:
        """Say whether a tensor is the same object with the same bytes in the same storage."""
        if len(dense) != len(known.copies) or not all(map(same, dense, known.copies)):
            return False
        if known.value != shape or not (self._watch.order == _VALUE or known.is_of(tensor)):
            return False
        cow = bool(dense) and is_cow(dense[-1])
        if known.spots != spots and not (known.cow or cow):
            return False
        known.spots, known.cow = spots, cow  # a copy-on-write tensor becomes real without a change
        return True

    @staticmethod
    def _share_copy(known: Seen, first: Seen, tensor: Tensor) -> None:
        """Keep one copy for all names of a storage."""
        if first.copies[0].shape == tensor.shape and first.copies[0].dtype == tensor.dtype:
            known._copies = first.copies
            if known.form is not None and first.form is not None:
                known.compare_quickly(tensor, first)

    def _follows_twin(self, known: Seen, tensor: Tensor, spot: int) -> bool:
        """Say whether another name of these bytes has this change: one place, two names."""
        if not spot or spot not in self.at:
            return False
        if not (self._watch.order == _VALUE or known.is_of(tensor)):
            return False
        before = self._was.get(spot)
        return before is not None and known.copies is before.copies

    def _sight(
        self,
        place: str,
        state: State,
        tensor: Tensor,
        known: Seen | None,
        dense: tuple[Tensor, ...],
        spots: tuple[int, ...],
        shape: tuple[int, ...] | None,
    ) -> Seen:
        """Take a tensor in; copies are shared with what is known to have the same bytes."""
        is_value = self._watch.order == _VALUE
        first = self.at[spots[0]][0] if len(spots) == 1 and spots[0] in self.at else None
        twin: Seen | None = None
        if first is not None and len(first.copies) == 1 and same(dense[0], first.copies[0]):
            twin = first
        elif known is not None and dense and not known.is_of(tensor):
            if len(dense) == len(known.copies) and all(map(same, dense, known.copies)):
                twin = known
        cow = bool(dense) and is_cow(dense[-1])
        weak = is_value or tensor.grad_fn is not None
        held = weakref.ref(tensor) if weak else tensor
        token = None if is_value else self.token(tensor, weakly=weak)
        copies = () if twin is None else twin.copies
        label = self._label(place)
        seen = Seen(self._watch, place, label, state, held, weak, token, spots, copies, shape, cow)
        plain = not (is_value or cow) and len(dense) == 1 and dense[0] is tensor and bool(spots[0])
        if plain and tensor.dtype in _ORDINARY and not tensor.is_neg():
            seen.span = span(tensor, spots[0])
            seen.compare_quickly(tensor, twin)
        if twin is None and seen.octets is None:
            seen._copies = tuple([copied(part) for part in dense])
        seen.share = is_share(tensor)
        return seen

    # --- who holds what ------------------------------------------------------------------------

    def _link(self) -> None:
        """Note which tensor is which weight of a module, and which of them the optimizers hold."""
        weights: dict[str, int] = {}
        held: dict[str, tuple[int, ...]] = {}
        flags: dict[str, bool] = {}
        labels: dict[int, tuple[str, ...]] = {}
        for one in self.watches:
            value = one.value()
            if isinstance(one, (ModuleWatch, TensorWatch)):
                for place, seen in one.seen.items():
                    if seen.state == "weight" and seen.token is not None:
                        weights[seen.label] = seen.token
                    elif seen.state == "requires_grad flag" and isinstance(one, ModuleWatch):
                        flags[f"{one.label}.{place.removesuffix('.requires_grad')}"] = seen.value
            elif isinstance(one, OptimizerWatch) and value is not None:
                tokens = []
                for g, group in enumerate(value.param_groups):
                    for p, weight in enumerate(group["params"]):
                        token = self.token(weight) or 0
                        tokens.append(token)
                        place = f"{one.label}.param_groups[{g}].params[{p}]"
                        labels[token] = (*labels.get(token, ()), place)
                held[one.label] = tuple(tokens)
        self.links, self._held = Links(weights, held, flags), labels

    def sites(self) -> Sites:
        """Return where everything is; the same object while nothing comes, goes or moves."""
        if self._sites is None or self._sites.held is not self._held:
            places = [
                (held[0].span, [(one.label, one.token) for one in held if one.watch.order != 1])
                for held in self.at.values()
            ]
            self._sites = Sites(places, self._held)
        return self._sites


class Whole:
    """Fast path: an object at the last look as flat lists, which Python compares in C.

    It takes 10 to 15 % off a recorded step of the 128-64-10 network (`make bench`). Made only if
    each tensor is an ordinary one with its storage to itself; ``at`` maps storages to sights.
    """

    def __init__(self, flat: Flat, sights: list[Seen], ranks: list[int]) -> None:
        self._plain, tensors = flat
        self._types = list(map(type, self._plain))
        self._ranks = ranks
        self._held = tensors
        self._form = _form(tensors)
        self._views = [seen.view for seen in sights]
        self._octets = [seen.octets for seen in sights]
        weights = [seen for seen in sights if seen.state == "weight"]
        self.weights = [(f"{seen.place}.grad", seen.held) for seen in weights]  # of a module
        self.at = {seen.spots[0]: [seen] for seen in sights}
        self._numbers = {spot: number for number, spot in enumerate(self.at)}

    @classmethod
    def of(cls, flat: Flat | None, seen: dict[str, Seen]) -> Whole | None:
        """Make one of what a slow look has just seen, or ``None``."""
        if flat is None:
            return None
        by_object = {
            id(one.held): (one, rank)
            for rank, one in enumerate(seen.values())
            if one.octets is not None and not one.weak
        }
        if any(id(tensor) not in by_object for tensor in flat[1]):
            return None
        found = [by_object[id(tensor)] for tensor in flat[1]]
        if len({one.spots for one, _ in found}) != len(found):
            return None
        return cls(flat, [one for one, _ in found], [rank for _, rank in found])

    def rewritten(self, flat: Flat | None) -> list[Seen] | None:
        """Return what was seen of the tensors with other bytes, in the order of their places.

        ``None`` if anything else differs: a plain value, an object, where it is, how large it is.
        """
        if flat is None or flat[0] != self._plain or list(map(type, flat[0])) != self._types:
            return None
        tensors = flat[1]
        if len(tensors) != len(self._held) or not all(map(is_, tensors, self._held)):
            return None
        if _form(tensors) != self._form:
            return None
        other = list(map(ne, self._octets, self._views))
        if not any(other):
            return []
        numbers = [number for number, one in enumerate(other) if one]
        sights = list(self.at.values())
        return [sights[number][0] for number in sorted(numbers, key=self._ranks.__getitem__)]

    def update(self, before: Seen, after: Seen) -> None:
        """Remember the new bytes of one tensor."""
        spot = before.spots[0]
        self._octets[self._numbers[spot]] = after.octets
        self.at[spot] = [after]


_dtype = Tensor.dtype.__get__  # type: ignore[attr-defined]


def _form(tensors: list[Tensor]) -> tuple[list[Any], ...]:
    """Return where tensors are and how large; comparing it costs a few passes in C."""
    aspects = (storage_address, Tensor.storage_offset, Tensor.size, Tensor.stride, _dtype)
    return tuple([list(map(aspect, tensors)) for aspect in aspects])


def _gone() -> None:
    return None
