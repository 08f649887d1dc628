"""The difference between two looks at all that is watched.

`Keeper.look` reads every watched place and returns a `Delta` for each that differs from the last
look, by content, identity or storage. Copies are never written to again, so a delta may hold the
old one until it is summed up. Callers do so inside of `fnlib.torch_private.quietly`.

A fault in looking at one place or object is noted under its label; the other ones are looked at.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from itertools import compress, islice
from operator import is_, ne
from typing import Any

from torch import Tensor

from fnlib.ledger.entries import Links, State
from fnlib.ledger.looks.bytes import (
    address,
    copied,
    forms_of,
    ordinary,
    parts,
    same,
    unreadable,
)
from fnlib.ledger.looks.owners import Owners, Sites
from fnlib.ledger.looks.sighting import NOBODY, Delta, Seen, equal, once, rewritten
from fnlib.ledger.looks.watches import (
    FOLLOWED,
    Flat,
    ModuleWatch,
    OptimizerWatch,
    TensorWatch,
    Watch,
)
from fnlib.torch_private import is_cow
from fnlib.values.protect import is_share

_LINKED = frozenset({"weight", "requires_grad flag", "group entry"})
_VALUE = 1  # the order of fnlib values, which give a new copy-on-write copy at each look


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
        self._read(self.watches, self._compare())
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
        self._read(watches, {})
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

    def _read(self, watches: list[Watch], compared: Mapping[Watch, tuple[Seen, ...]]) -> None:
        for one in watches:
            before, self._now, self._watch, self._new = one.seen, {}, one, False
            try:
                if one in compared and self._keep(one, one.whole, compared[one]):
                    continue
                value = one.value()
                if value is None:  # it went with the name that held it, which has a change
                    one.ids = {}  # they may be those of other objects from now on
                    continue
                one.read(value, self._tensor, self._plain)
                if self._new or len(before) != len(self._now):
                    gone = [seen for place, seen in before.items() if place not in self._now]
                    self._deltas.extend([Delta(seen, None) for seen in gone])
                one.seen = self._now
                one.whole = Whole.of(one, one.flat(value, self.kinds), "gradient" in self.kinds)
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

    # --- fast: whole objects, all at once ------------------------------------------------------

    def _compare(self) -> Mapping[Watch, tuple[Seen, ...]]:
        """Compare objects as wholes; return what was seen of their tensors with other bytes.

        An object that differs in more than bytes and gradients is left out.
        """
        found: dict[Watch, list[Seen]] = {}
        tensors: list[Tensor] = []
        sights: list[Seen] = []
        for one in self.watches:
            if (whole := one.whole) is None or (value := one.value()) is None:
                continue
            try:
                if whole.stays(one.flat(value, self.kinds)):
                    found[one] = whole.sights
                    sights += whole.sights
                    tensors += [value] if whole.weak else whole.tensors
            except Exception as error:
                self.fault(one.label, error)
        if forms_of(tensors) != [seen.form for seen in sights]:
            return {}
        octets, views = [seen.octets for seen in sights], [seen.view for seen in sights]
        if True not in (differs := list(map(ne, octets, views))):
            return dict.fromkeys(found, ())
        each = iter(differs)
        return {one: tuple(compress(some, each)) for one, some in found.items()}

    def _keep(self, one: Watch, whole: Whole, other: tuple[Seen, ...]) -> bool:
        """Enter what differs in an object that was compared; False if it shares memory."""
        if not self.at.keys().isdisjoint(whole.at):
            return False
        self._now = one.seen
        for known in other:
            whole.at[known.spots[0]] = [self._rewritten(one, known, known.held)]
        self.at.update(whole.at)
        if (given := whole.given) is not None:
            for (place, _), gradient in zip(one.deposits, given, strict=True):
                if gradient is not None:
                    self._tensor(place, "gradient", gradient)
                elif place in one.seen:
                    self._deltas.append(Delta(one.seen.pop(place), None))
            whole.take_gradients(one)
        elif other:
            whole.settle()
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
            if known is None or known.form is None or known.spots[0] in self.at:
                self._tensor_at_length(place, state, tensor, known)
            elif not known.is_of(tensor) or ordinary(tensor) != known.form:
                self._tensor_at_length(place, state, tensor, known)
            else:
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
        if known.form is not None and (form := ordinary(tensor)) not in (None, known.form):
            known.compare_quickly(tensor, form)
        return True

    @staticmethod
    def _share_copy(known: Seen, first: Seen, tensor: Tensor) -> None:
        """Keep one copy for all names of a storage."""
        if first.copies[0].shape == tensor.shape and first.copies[0].dtype == tensor.dtype:
            known._copies = first.copies
            if known.form is not None and first.form is not None:
                known.compare_quickly(tensor, known.form, first)

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
        if not is_value and (form := ordinary(tensor)) is not None:
            seen.compare_quickly(tensor, form, twin)
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
                (spot, one.form, one.label, one.token)
                for spot, held in self.at.items()
                for one in held
                if one.watch.order != _VALUE
            ]
            self._sites = Sites(places, self._held)
        return self._sites


class Whole:
    """Fast path: an object at the last look as flat lists, which Python compares in C.

    Made only if each tensor is an ordinary one with its storage to itself. Gradients may differ,
    as they come and go twice a step. ``at`` maps storages to sights; a ``weak`` one is not held.
    """

    def __init__(self, one: Watch, flat: Flat, sights: list[Seen], gradients: bool) -> None:
        self._flat = flat
        self.weak = any([seen.weak for seen in sights])
        self.at = {seen.spots[0]: [seen] for seen in sights}
        self._count = len(self.at)
        self.given: list[Tensor | None] | None = None  # gradients, if others than at the last look
        self._weights = [weight for _, weight in one.deposits] if gradients else []
        self.take_gradients(one)

    @classmethod
    def of(cls, one: Watch, flat: Flat | None, gradients: bool) -> Whole | None:
        """Make one of what a slow look has just seen, or ``None``."""
        if flat is None:
            return None
        sights = [
            seen for seen in one.seen.values() if seen.held is not None and seen.state != "gradient"
        ]
        alone = isinstance(one, TensorWatch)
        if not all([seen.octets is not None and (alone or not seen.weak) for seen in sights]):
            return None
        found = cls(one, flat, sights, gradients)
        return found if found._count == len(sights) else None

    def stays(self, flat: Flat | None) -> bool:
        """Say whether an object differs in nothing but the bytes of its tensors and its gradients."""
        if flat is not self._flat:
            if flat is None or flat[0] != self._flat[0] or len(flat[1]) != len(self._flat[1]):
                return False
            if not all(map(is_, flat[1], self._flat[1])):
                return False
        if self._weights:
            given = list(map(_gradient, self._weights))
            if not all(map(is_, given, self._gradients)):
                self.given, self.at = given, dict(islice(self.at.items(), self._count))
                self.settle()
        return True

    def take_gradients(self, one: Watch) -> None:
        """Remember the gradients that were just seen; rare ones are read each time."""
        self.given = None
        self._gradients: list[Any] = []
        for place, _ in one.deposits if self._weights else ():
            seen = one.seen.get(place)
            held = None if seen is None else _RARE
            if seen is not None and seen.octets is not None and not seen.weak:
                if seen.spots[0] not in self.at:
                    held, self.at[seen.spots[0]] = seen.held, [seen]
            self._gradients.append(held)
        self.settle()

    def settle(self) -> None:
        """List what is in ``at``."""
        self.sights = [held[0] for held in self.at.values()]
        self.tensors = [] if self.weak else [seen.held for seen in self.sights]


_RARE: Any = object()  # stands for a gradient that is no ordinary tensor with its storage to itself
_gradient: Callable[[Tensor], Tensor | None] = Tensor.grad.__get__  # type: ignore[union-attr]


def _gone() -> None:
    return None
