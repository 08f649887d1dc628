"""Keeping track of what is watched: a copy of all of it, and between two looks the difference.

`Keeper.look` reads every watched place and returns a `Delta` for each that differs from the last look, by content,
identity or storage. Copies are never written to again, so a delta may hold the old one until it is told. Whoever calls it
does so inside of `fnlib.ledger.content.quietly`.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor

from fnlib.ledger.entries import Links, State
from fnlib.ledger.looks.aliases import Sites
from fnlib.ledger.looks.content import address, copied, is_cow, parts, same, span, unreadable
from fnlib.ledger.looks.memory import over, start_of, storage_address
from fnlib.ledger.looks.octets import view_of
from fnlib.ledger.looks.owners import Owners
from fnlib.ledger.looks.sighting import Delta, Seen, equal, rewritten, told_once
from fnlib.ledger.looks.still import Lay, Still
from fnlib.ledger.looks.watches import ModuleWatch, OptimizerWatch, TensorWatch, Watch

_SHORT = frozenset(
    {
        torch.float32,
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.uint8,
        torch.bool,
    }
)
_COMMON = frozenset({"gradient", "value"})
_LINKED = frozenset({"weight", "requires_grad flag", "group entry"})
_NOBODY = Watch("", None)


class Keeper(Owners):
    """All watched objects, and what stood in them at the last look."""

    def __init__(self, keep: bool, kinds: frozenset[str]) -> None:
        super().__init__()
        self.keep, self.kinds = keep, kinds
        self.unfollowed: dict[str, str] = {}
        self.links = Links()
        self._held: dict[int, tuple[str, ...]] = {}
        self._sites: Sites | None = None
        self._new = False
        self._deltas: list[Delta] = []
        self._watch, self._now = _NOBODY, dict[str, Seen]()
        self._was: dict[int, Seen | None] = {}

    def look(self) -> list[Delta]:
        """Read all places; return those that differ from the last look, in the order of the watches."""
        self._deltas = []
        self.at, self._was = {}, {}
        self._read(self.watches)
        if self._deltas:
            self._finish()
        return self._deltas

    def prime(self, watches: list[Watch]) -> None:
        """Begin to watch objects as they are now, which is no change; those that were watched before are seen afresh."""
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
        self._finish()
        self._deltas = []

    def close(self) -> None:
        """Let go of everything that was watched, and of the copies; labels stay."""
        for one in self.watches:
            one.forget()
            one.value = _gone
        self.at, self._was, self._deltas, self._now, self._tokens = {}, {}, [], {}, {}

    def _read(self, watches: list[Watch]) -> None:
        for one in watches:
            value = one.value()
            if value is None:  # it went with the name that held it; that is told of the name
                one.ids = {}  # they may be those of other objects from now on
                continue
            if type(one) is TensorWatch and self._glance_at_one(one, value):
                continue
            if one.still is not None and self._glance(one, value, one.still):
                continue
            before, self._now, self._watch, self._new = one.seen, {}, one, False
            one.read(value, self._tensor, self._plain)
            one.seen = self._now
            if self._new or len(before) != len(self._now):
                self._deltas.extend(
                    [Delta(seen, None) for place, seen in before.items() if place not in self._now]
                )
            one.still = Still.of(one.flat(value, self.kinds), self._now)

    def _glance(self, one: Watch, value: Any, still: Still) -> bool:
        """Look at an object as a whole; false if that does not tell all that differs."""
        lay = still.lay
        if not self.at.keys().isdisjoint(lay.at):
            return False
        changed = still.rewritten(one.flat(value, self.kinds))
        if changed is None:
            return False
        for known in changed:
            lay.update(known, self._rewritten(one, known, known.held))
        self.at.update(lay.at)
        if isinstance(one, ModuleWatch) and "gradient" in self.kinds:
            self._gradients(one, still)
        return True

    def _gradients(self, one: ModuleWatch, still: Still) -> None:
        """Look at the gradients of a module's weights, which come and go: all at once where they are the same objects."""
        gradients = [weight.grad for weight in still.weights]
        lay = still.gradients
        if (
            lay is not None
            and self.at.keys().isdisjoint(lay.at)
            and (other := lay.other(gradients)) is not None
        ):  # type: ignore[arg-type]
            sights = list(lay.at.values()) if other else []
            for at in other:
                lay.update(sights[at][0], self._rewritten(one, sights[at][0], sights[at][0].held))
            self.at.update(lay.at)
            return
        self._watch, self._now, seen = one, one.seen, one.seen
        for place, gradient in zip(still.places, gradients, strict=True):
            if gradient is not None:
                self._tensor(place, "gradient", gradient)
            elif place in seen:
                self._deltas.append(Delta(seen.pop(place), None))
        whole = all(
            gradient is not None for gradient in gradients
        )  # `in` would ask each tensor whether it equals None
        still.gradients = (
            Lay.of(gradients, [seen.get(place) for place in still.places], self.at)
            if whole
            else None
        )  # type: ignore[arg-type]

    def _glance_at_one(self, one: TensorWatch, value: Tensor) -> bool:
        """The same for a tensor by itself, without gradient: most of what names are bound to."""
        known = one.seen.get("")
        if known is None or known.stride is None:
            return False
        leaf = value.is_leaf
        if leaf != (len(one.seen) == 2):
            return False
        if leaf and (
            value.grad is not None or one.seen["requires_grad"].value is not value.requires_grad
        ):
            return False
        if self._spot_if_unmoved(value, known) is None:
            return False
        if known.unchanged(value):
            self.at[known.spots[0]] = [known]
        else:
            self.at[known.spots[0]] = [self._rewritten(one, known, value)]
        return True

    def _rewritten(self, one: Watch, known: Seen, tensor: Tensor) -> Seen:
        """Enter new bytes in an old place."""
        seen = one.seen[known.place] = rewritten(known, tensor)
        self._was[known.spots[0]] = known
        self._deltas.append(Delta(known, seen))
        return seen

    def _spot_if_unmoved(self, tensor: Tensor, known: Seen) -> int | None:
        """Where an ordinary tensor lies, if it lies as it did, in storage of its own."""
        spot, copy = start_of(tensor), known.copies[0]
        stays = spot == known.spots[0] and spot not in self.at and tensor.dtype is copy.dtype
        return (
            spot
            if stays and tensor.shape == copy.shape and tensor.stride() == known.stride
            else None
        )

    def _finish(self) -> None:
        """Draw the consequences of the differences: other names of a storage, labels of weights, links."""
        relink, self._deltas = False, told_once(self._deltas)
        for delta in self._deltas:
            one, before, after = delta.seen, delta.before, delta.after
            here = self.at.get(one.spots[-1], ()) if one.spots else ()
            if len(here) > 1:
                delta.also = tuple(other.label for other in here if other is not one)
            if before is None or after is None or before.spots != after.spots:
                self._sites = None
            if (
                before is not None
                and before.token is not None
                and not before.weak
                and (after is None or after.token != before.token)
            ):
                self.release(before.held)
            if one.state in _LINKED and (
                before is None or after is None or not after.copies or before.token != after.token
            ):
                relink = True
                if before is not None and before.token is not None:
                    self.unlabel(before)
        if relink:
            self._link()

    # --- one place -----------------------------------------------------------------------------

    def _plain(self, place: str, state: State, value: Any) -> None:
        """Compare a number, flag or text with the one of the last look."""
        before = self._watch.seen.get(place)
        if before is not None and (before.value is value or equal(before.value, value)):
            self._now[place] = before
        elif state in self.kinds:
            after = self._now[place] = Seen(
                self._watch, place, self._label(place), state, value=value
            )
            self._deltas.append(Delta(before, after))
            self._new = self._new or before is None

    def _tensor(self, place: str, state: State, tensor: Tensor) -> None:
        """Compare a tensor with the copy of the last look: which object, where, which bytes."""
        known = self._watch.seen.get(place)
        if (
            known is None
            or known.stride is None
            or (known.held() if known.weak else known.held) is not tensor
        ):
            if known is not None or not self._new_and_ordinary(place, state, tensor):
                self._tensor_at_length(place, state, tensor, known)
            return
        spot = self._spot_if_unmoved(tensor, known)
        if spot is None:
            self._tensor_at_length(place, state, tensor, known)
        elif known.unchanged(tensor):
            self.at[spot] = [known]
            self._now[place] = known
        else:
            self.at[spot] = [self._rewritten(self._watch, known, tensor)]
            self._now[place] = self.at[spot][0]

    def _new_and_ordinary(self, place: str, state: State, tensor: Tensor) -> bool:
        """Take in a gradient or a value that was not there before, if it is of the usual kind; false if it is not."""
        if tensor.dtype not in _SHORT or type(tensor) is not Tensor or state not in _COMMON:
            return False
        if state not in self.kinds or self._watch.order == 1:
            return False
        if not (
            tensor.is_cpu
            and tensor.layout is torch.strided
            and tensor.is_contiguous()
            and (size := tensor.nbytes)
        ):
            return False
        if is_cow(tensor) or tensor.is_neg() or tensor.is_nested or not storage_address(tensor):
            return False
        spot = start_of(tensor)
        if spot in self.at:
            return False
        view = view_of(spot, size)
        octets = bytearray(view)
        weak = tensor.grad_fn is not None
        label = self._label(place)
        held = weakref.ref(tensor) if weak else tensor
        token = self.token(tensor, weakly=weak)
        seen = Seen(
            self._watch,
            place,
            label,
            state,
            held,
            weak,
            token,
            (spot,),
            (over(octets, tensor),),
            None,
            False,
        )
        seen.stride, seen.span, seen.view, seen.octets = (
            tensor.stride(),
            (spot, spot + size),
            view,
            octets,
        )
        self._deltas.append(Delta(None, seen))
        self._now[place], self.at[spot], self._was[spot], self._new = seen, [seen], None, True
        return True

    def _label(self, place: str) -> str:
        return f"{self._watch.label}.{place}" if place else self._watch.label

    def _tensor_at_length(
        self, place: str, state: State, tensor: Tensor, known: Seen | None
    ) -> None:
        """The same for a tensor that is new, has a twin, or is of a rare kind."""
        if state == "weight":
            self.label_weight(
                tensor,
                self._label(place),
                weakly=state not in self.kinds or tensor.grad_fn is not None,
            )
        if state not in self.kinds:
            return
        why = unreadable(tensor)
        if why is not None:
            self.unfollowed[self._label(place)] = why
        dense = parts(tensor) if why is None else ()
        is_value = (
            self._watch.order == 1
        )  # an fnlib value hands out copy-on-write copies, new ones each time
        spots = () if is_value else tuple([address(part) for part in dense])
        spot = spots[-1] if spots else 0
        shape = (
            None
            if len(dense) == 1 or (why is not None and "no shape" in why)
            else tuple(tensor.shape)
        )
        seen = known
        unchanged = False
        if (
            known is not None
            and len(dense) == len(known.copies)
            and all(map(same, dense, known.copies))
        ):
            unchanged = known.value == shape and self._stays(known, tensor, dense, spots, is_value)
        if unchanged and known is not None and len(known.copies) == 1 and spot in self.at:
            first = self.at[spot][0]  # one copy for all names of a storage
            if first.copies[0].shape == tensor.shape and first.copies[0].dtype == tensor.dtype:
                known.copies = first.copies
                if known.stride is not None and first.stride is not None:
                    known.compare_quickly(tensor, first)
        if not unchanged:
            seen = self._sight(place, state, tensor, known, dense, spots, shape, is_value)
            if known is None or not self._follows_twin(known, tensor, spot, is_value):
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
        is_value: bool,
    ) -> bool:
        """Whether tensors with the same bytes as before are the same object in the same storage, too."""
        cow = bool(dense) and is_cow(dense[-1])
        if not (is_value or known.is_of(tensor)) or (
            known.spots != spots and not (known.cow or cow)
        ):
            return False
        known.spots, known.cow = (
            spots,
            cow,
        )  # a copy-on-write tensor may become real without any change
        return True

    def _follows_twin(self, known: Seen, tensor: Tensor, spot: int, is_value: bool) -> bool:
        """Whether a change in these bytes has been told under the first name of the storage: one place, two names."""
        if not spot or spot not in self.at or not (is_value or known.is_of(tensor)):
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
        shape: Any,
        is_value: bool,
    ) -> Seen:
        """Take a tensor in: its identity, and copies, shared with what is known to hold the same bytes."""
        twin: Seen | None = None
        first = self.at[spots[0]][0] if len(spots) == 1 and spots[0] in self.at else None
        if first is not None and len(first.copies) == 1 and same(dense[0], first.copies[0]):
            twin = first
        elif (
            known is not None
            and dense
            and not known.is_of(tensor)
            and len(dense) == len(known.copies)
        ):
            twin = known if all(map(same, dense, known.copies)) else None
        cow = bool(dense) and is_cow(dense[-1])
        weak = is_value or tensor.grad_fn is not None
        held = weakref.ref(tensor) if weak else tensor
        seen = Seen(
            self._watch,
            place,
            self._label(place),
            state,
            held,
            weak,
            None,
            spots,
            () if twin is None else twin.copies,
            shape,
            cow,
        )
        if not is_value:
            seen.token = self.token(tensor, weakly=weak)
        if (
            not (is_value or cow)
            and len(dense) == 1
            and dense[0] is tensor
            and spots[0]
            and tensor.dtype in _SHORT
            and not tensor.is_neg()
        ):
            seen.span = span(tensor, spots[0])
            seen.compare_quickly(tensor, twin)
        if twin is None and seen.octets is None:
            seen.copies = tuple([copied(part) for part in dense])
        return seen

    # --- who holds what ------------------------------------------------------------------------

    def _link(self) -> None:
        """Note which tensor stands where: the weights of modules, and what the optimizers hold."""
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
                        labels[token] = (
                            *labels.get(token, ()),
                            f"{one.label}.param_groups[{g}].params[{p}]",
                        )
                held[one.label] = tuple(tokens)
        self.links, self._held = Links(weights, held, flags), labels

    def sites(self) -> Sites:
        """Where everything lies, for `fnlib.ledger.aliases`; the same object for as long as nothing comes, goes or moves."""
        if self._sites is None or self._sites.held is not self._held:
            places = [
                (held[0].span, [(one.label, one.token) for one in held if one.watch.order != 1])
                for held in self.at.values()
            ]
            self._sites = Sites(places, self._held)
        return self._sites


def _gone() -> None:
    return None
