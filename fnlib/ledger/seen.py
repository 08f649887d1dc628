"""What stood in a watched place at the last look, and how two looks differ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fnlib.ledger.content import same, storage_address
from fnlib.ledger.entries import State, Summary
from fnlib.ledger.memory import differs, solid
from fnlib.ledger.watch import Watch


@dataclass(eq=False, slots=True)
class Seen:
    """What stood in a place: which object, where its numbers lay, and a copy of them that nobody writes to.

    ``label`` is that of the place: ``model.0.weight``. ``held`` is the tensor itself, or a weak reference (``weak``) where
    holding it would hold a graph. ``copies`` are those of its dense parts: one for an ordinary tensor, none for a plain
    ``value``. For ordinary tensors ``live`` and ``bits`` are the tensor and the copy as integers, so that NaN equals itself
    and -0.0 does not equal 0.0. Where both lie in main memory without gaps, ``copy_at`` is the address of the copy and
    ``size`` the bytes to compare; else ``size`` is 0.
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
    live: Tensor | None = None
    bits: Tensor | None = None
    span: tuple[int, int] | None = None
    copy_at: int = 0
    size: int = 0
    summary: Summary | None = None

    def is_of(self, tensor: Tensor) -> bool:
        """Whether it was this very object that was seen."""
        return (self.held() if self.weak else self.held) is tensor

    def enliven(self, live: Tensor, bits: Tensor) -> None:
        """Set what quick comparisons go by; both are views as integers."""
        self.live, self.bits = live, bits
        if solid(live, bits):
            self.copy_at, self.size = int(storage_address(bits) + bits.storage_offset() * bits.itemsize), live.nbytes

    def unchanged(self) -> bool:
        """Whether an ordinary tensor that still lies where it lay holds the bytes that it held."""
        if self.size and differs is not None:
            return not differs(self.spots[0], self.copy_at, self.size)
        return torch.equal(self.live, self.bits)  # type: ignore[arg-type]


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


def rewritten(known: Seen) -> Seen:
    """The same tensor in the same place, with other bytes: those that it holds now."""
    live = known.live
    assert live is not None
    bits = live.clone()
    seen = Seen(
        known.watch,
        known.place,
        known.label,
        known.state,
        known.held,
        known.weak,
        known.token,
        known.spots,
        (bits.view(known.copies[0].dtype),),
        known.value,
        False,
        span=known.span,
    )
    if known.size and bits.is_contiguous() and live.is_contiguous():
        seen.live, seen.bits, seen.copy_at, seen.size = live, bits, storage_address(bits), known.size
    else:
        seen.enliven(live, bits)
    return seen


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
    if a.token != b.token or len(a.copies) != len(b.copies) or (a.spots != b.spots and not (a.cow or b.cow)):
        return False
    return equal(a.value, b.value) and all(map(same, a.copies, b.copies))


def equal(a: Any, b: Any) -> bool:
    """Equality of plain values: of one type, and NaN equal to itself."""
    return type(a) is type(b) and bool(a == b or (a != a and b != b))
