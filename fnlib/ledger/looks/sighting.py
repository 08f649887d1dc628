"""What stood in a watched place at the last look, and how two looks differ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import eq
from typing import Any

from torch import Tensor

from fnlib.ledger.entries import State, Summary
from fnlib.ledger.looks.content import same
from fnlib.ledger.looks.memory import gapless, over
from fnlib.ledger.looks.octets import view_of
from fnlib.ledger.looks.watches import FOLLOWED, Watch


@dataclass(eq=False, slots=True)
class Seen:
    """What stood in a place: which object, where its numbers lay, and a copy of them that nobody writes to.

    ``label`` is that of the place: ``model.0.weight``. ``held`` is the tensor itself, or a weak reference (``weak``) where
    holding it would hold a graph. ``copies`` are those of its dense parts: one for an ordinary tensor, none for a plain
    ``value``. Ordinary tensors, which can be compared quickly, have a ``stride``. Where such a one and its copy lie in main
    memory without gaps, ``view`` shows its bytes as they are now, to be read only while it lies there, and ``octets`` are
    those of the copy.
    """

    watch: Watch
    place: str
    label: str
    state: State
    held: Any = None
    weak: bool = False
    token: int | None = None
    spots: tuple[int, ...] = ()
    copies: tuple[Tensor, ...] = ()
    value: Any = None
    cow: bool = False
    stride: tuple[int, ...] | None = None
    span: tuple[int, int] | None = None
    view: memoryview | None = None
    octets: bytearray | None = None
    summary: Summary | None = None

    def is_of(self, tensor: Tensor) -> bool:
        """Whether it was this very object that was seen."""
        return (self.held() if self.weak else self.held) is tensor

    def compare_quickly(self, tensor: Tensor, twin: Seen | None = None) -> None:
        """Set what quick comparisons of an ordinary tensor go by: the copy that it has, or shares with a twin, or a new one."""
        self.stride, self.view, self.octets = tensor.stride(), None, None
        if twin is not None:
            self.octets = twin.octets if twin.stride == self.stride else None
        elif gapless(tensor):
            self.octets = bytearray(view_of(self.spots[0], tensor.nbytes))
            self.copies = (over(self.octets, tensor),)
        if self.octets is not None:
            self.view = view_of(self.spots[0], tensor.nbytes)

    def unchanged(self, tensor: Tensor) -> bool:
        """Whether an ordinary tensor that still lies where it lay holds the bytes that it held."""
        if self.octets is not None:
            return bool(eq(self.octets, self.view))
        return same(tensor, self.copies[0])


@dataclass(eq=False, slots=True)
class Delta:
    """A place that differs between two looks; ``also`` are the labels of the other places in the same storage."""

    before: Seen | None
    after: Seen | None
    also: tuple[str, ...] = ()

    @property
    def seen(self) -> Seen:
        """Either side, the later one if there is one."""
        one = self.after or self.before
        assert one is not None
        return one


_OF_A_TENSOR = (
    "gradient",
    "requires_grad flag",
)  # what a tensor has, under whatever names it is known


def told_once(deltas: list[Delta]) -> list[Delta]:
    """Leave out what befell the gradient or the flag of a followed name, where its module tells it: ``p`` of a loop is the weight."""
    twice = [
        delta
        for delta in deltas
        if delta.seen.watch.order == FOLLOWED and delta.seen.state in _OF_A_TENSOR
    ]
    if not twice:
        return deltas
    told = {
        _identity(delta)
        for delta in deltas
        if delta.seen.watch.order < FOLLOWED and delta.seen.state in _OF_A_TENSOR
    }
    return [delta for delta in deltas if delta not in twice or _identity(delta) not in told]


def _identity(delta: Delta) -> tuple[Any, ...]:
    """Which gradients came and went, or whose flag it was."""
    one = delta.seen
    if one.state == "gradient":
        return tuple(None if side is None else side.token for side in (delta.before, delta.after))
    owner = one.watch.seen.get(one.place.removesuffix("requires_grad").removesuffix("."))
    return ("flag", id(one) if owner is None else owner.token)


def rewritten(known: Seen, tensor: Tensor) -> Seen:
    """The same ordinary tensor in the same place, with other bytes: those that it holds now."""
    octets = None if known.view is None else bytearray(known.view)
    copy = tensor.clone() if octets is None else over(octets, tensor)
    return Seen(
        known.watch,
        known.place,
        known.label,
        known.state,
        known.held,
        known.weak,
        known.token,
        known.spots,
        (copy,),
        known.value,
        False,
        known.stride,
        known.span,
        known.view,
        octets,
    )


def merge(earlier: list[Delta], later: Iterable[Delta]) -> list[Delta]:
    """The difference over two looks from the differences of each."""
    found = {(id(delta.seen.watch), delta.seen.place): delta for delta in earlier}
    for delta in later:
        key = (id(delta.seen.watch), delta.seen.place)
        first = found.pop(key, None)
        if first is None:
            found[key] = delta
        elif not alike(first.before, delta.after):
            found[key] = Delta(first.before, delta.after, delta.also or first.also)
    return list(found.values())


def alike(a: Seen | None, b: Seen | None) -> bool:
    """Whether there is nothing to tell between two sights of a place."""
    if a is None or b is None:
        return a is b
    if (
        a.token != b.token
        or len(a.copies) != len(b.copies)
        or (a.spots != b.spots and not (a.cow or b.cow))
    ):
        return False
    return equal(a.value, b.value) and all(map(same, a.copies, b.copies))


def equal(a: Any, b: Any) -> bool:
    """Equality of plain values: of one type, and NaN equal to itself."""
    return type(a) is type(b) and bool(a == b or (a != a and b != b))
