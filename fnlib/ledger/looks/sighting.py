"""What a watched place held at a look, how two looks differ, and what the table says of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import eq
from typing import Any

from torch import Tensor

from fnlib.ledger.entries import GIVEN_AWAY, Change, Entry, Kind, State, Summary
from fnlib.ledger.looks.bytes import (
    Form,
    distance,
    gapless,
    over,
    same,
    summarise,
    view_of,
)
from fnlib.ledger.looks.watches import Membership, Watch

ENOUGH = 1 << 20  # bytes of copies that may wait, if any of them is too large to be kept
SMALL = 1 << 16  # bytes of a tensor that are kept for the views: they have been copied anyway
KEPT = 1 << 25  # of these in all

NOBODY = Watch("", None)


@dataclass(eq=False, slots=True)
class Seen:
    """What a place held: which object, where its numbers were, and a copy of them.

    ``label`` is that of the place: ``model.0.weight``. ``held`` is the tensor itself, or a weak
    reference (``weak``) where holding it would hold a graph. ``copies`` are those of its dense
    parts: one for an ordinary tensor, made of its ``octets`` when asked for, none for a plain
    ``value``. Ordinary tensors have a ``form`` and can be compared quickly. Where such a one and
    its copy are single pieces of main memory, ``view`` shows its bytes as they are now, and
    ``octets`` are those of the copy. ``share``: the parts are this rank's share of a sharded tensor.
    """

    watch: Watch
    place: str
    label: str
    state: State
    held: Any = None
    weak: bool = False
    token: int | None = None
    spots: tuple[int, ...] = ()
    _copies: tuple[Tensor, ...] = ()
    value: Any = None
    cow: bool = False
    form: Form | None = None
    view: memoryview | None = None
    octets: bytearray | None = None
    share: bool = False
    summary: Summary | None = None

    @property
    def copies(self) -> tuple[Tensor, ...]:
        """Copies of its dense parts; nothing writes to them."""
        if not self._copies and self.octets is not None and self.form is not None:
            self._copies = (over(self.octets, self.form),)
        return self._copies

    @property
    def is_copied(self) -> bool:
        """Whether there are copies: it is a tensor whose numbers are followed."""
        return self.octets is not None or bool(self._copies)

    def is_of(self, tensor: Tensor) -> bool:
        """Say whether this very object was seen."""
        return (self.held() if self.weak else self.held) is tensor

    def leave(self) -> None:
        """Let go of the tensor and its watch; the copies stay."""
        self.held, self.view, self.weak, self.watch = None, None, False, NOBODY

    def size(self) -> int:
        """Return how many bytes its copies take."""
        if self.octets is not None:
            return len(self.octets)
        return sum([copy.nbytes for copy in self.copies])

    def compare_quickly(self, tensor: Tensor, form: Form, twin: Seen | None = None) -> None:
        """Set what quick comparisons go by: the copy of a twin in the same bytes, or a new one."""
        self.form, self.view, self.octets = form, None, None
        if twin is not None:
            if twin.octets is None or twin.form is None or twin.form[0] != form[0]:
                return
        if twin is not None or gapless(tensor):
            self.view = view_of(self.spots[0], tensor.nbytes)
            self.octets = bytearray(self.view) if twin is None else twin.octets

    def unchanged(self, tensor: Tensor) -> bool:
        """Say whether an ordinary tensor that hasn't moved has the bytes that it had."""
        if self.octets is not None:
            return bool(eq(self.octets, self.view))
        return same(tensor, self.copies[0])


def rewritten(known: Seen, tensor: Tensor) -> Seen:
    """Return the sight of an ordinary tensor that hasn't moved and has other bytes now."""
    octets = None if known.view is None else bytearray(known.view)
    copies = (tensor.clone(),) if octets is None else ()
    return Seen(
        *(known.watch, known.place, known.label, known.state, known.held, known.weak),
        *(known.token, known.spots, copies, known.value, False),
        *(known.form, known.view, octets),
    )


class Delta:
    """A place that differs between two looks; ``also`` labels the other places of its storage.

    ``seen`` is either side, the later one if there is one.
    """

    __slots__ = ("after", "also", "before", "seen")

    def __init__(self, before: Seen | None, after: Seen | None, also: tuple[str, ...] = ()) -> None:
        one = after or before
        assert one is not None
        self.before, self.after, self.also, self.seen = before, after, also, one


def once(deltas: list[Delta]) -> list[Delta]:
    """Keep one delta for each gradient and flag: a tied weight or a loop's ``p`` shows it twice."""
    found, met = [], set()
    for delta in deltas:
        identity = _identity(delta)
        if identity is None or identity not in met:
            found.append(delta)
            met.add(identity)
    return found


def _identity(delta: Delta) -> tuple[Any, ...] | None:
    """Say which gradients came and went, or of which tensor the flag is; ``None`` for the rest."""
    one = delta.seen
    if one.state == "gradient" and one.watch.order != 1:
        before, after = delta.before, delta.after
        tokens = before and before.token, after and after.token
        return None if tokens == (None, None) else tokens
    if one.state == "requires_grad flag":
        owner = one.watch.seen.get(one.place.removesuffix("requires_grad").removesuffix("."))
        return None if owner is None or owner.token is None else ("flag", owner.token)
    return None


def merge(earlier: list[Delta], later: Iterable[Delta]) -> list[Delta]:
    """Return the difference over two looks from the differences of each."""
    found = {(id(delta.seen.watch), delta.seen.place): delta for delta in earlier}
    for delta in later:
        key = (id(delta.seen.watch), delta.seen.place)
        first = found.pop(key, None)
        if first is None:
            found[key] = delta
        elif not _alike(first.before, delta.after):
            found[key] = Delta(first.before, delta.after, delta.also or first.also)
    return list(found.values())


def _alike(a: Seen | None, b: Seen | None) -> bool:
    """Say whether two sights of a place show the same."""
    if a is None or b is None:
        return a is b
    if a.token != b.token or len(a.copies) != len(b.copies):
        return False
    if a.spots != b.spots and not (a.cow or b.cow):
        return False
    return equal(a.value, b.value) and all(map(same, a.copies, b.copies))


def equal(a: Any, b: Any) -> bool:
    """Compare plain values: of one type, and NaN equal to itself."""
    return type(a) is type(b) and bool(a == b or (a != a and b != b))


# --- from differences to changes ----------------------------------------------------------------


class Pending:
    """Changes whose two sides aren't summed up yet; until they are, their copies are held.

    Small copies are kept for the views in any case, so they wait until the entries are read.
    """

    def __init__(self, keep: bool) -> None:
        self._keep, self._bytes, self._kept = keep, 0, 0
        self._large = False  # whether a copy waits that isn't kept afterwards
        self._waiting: list[tuple[Change, Delta]] = []

    def add(self, entry: Entry, deltas: list[Delta], others: list[Change]) -> None:
        """Enter what a statement changed: differences in what is watched, and other changes."""
        changes = [_change(delta, entry.named) for delta in deltas]
        entry.changes = (*changes, *others)
        self._waiting += zip(changes, deltas, strict=True)
        sizes = [delta.seen.size() for delta in deltas]
        self._bytes += sum(sizes)
        self._large = self._large or max(sizes, default=0) > SMALL
        if self._bytes > (ENOUGH if self._large else KEPT):
            self.settle()

    def close(self) -> None:
        """Let go of all that was watched, and of copies that aren't kept."""
        if self._large:
            self.settle()
        for _, delta in self._waiting:
            for seen in (delta.before, delta.after):
                if seen is not None:
                    seen.leave()

    def settle(self) -> None:
        """Sum up all that waits."""
        waiting, self._waiting, self._bytes, self._large = self._waiting, [], 0, False
        for change, delta in waiting:
            try:
                self._sum_up(change, delta)
            except Exception as error:  # a kind of number that PyTorch has no norm of
                change.note += "; " * bool(change.note) + f"could not be summed up: {error}"

    def _sum_up(self, change: Change, delta: Delta) -> None:
        before, after = delta.before, delta.after
        change.before, change.after = self._shown(before), self._shown(after)
        if before is not None and after is not None:
            if len(before.copies) == len(after.copies) == 1:
                change.moved = distance(before.copies[0], after.copies[0])

    def _shown(self, seen: Seen | None) -> Any:
        """Return what is kept of one side of a change: a summary of a tensor, or the plain value."""
        if seen is None:
            return None
        if not seen.is_copied and seen.token is None:
            return str(seen.value) if isinstance(seen.value, Membership) else seen.value
        if seen.summary is None:
            small = not self._keep and self._keeps(seen.size())
            seen.summary = summarise(
                seen.copies, seen.value, seen.token, self._keep, seen.octets, small
            )
            seen.summary.share = seen.share
        return seen.summary

    def _keeps(self, size: int) -> bool:
        """Say whether so many bytes are few enough to be kept without being asked for."""
        keep = size <= SMALL and self._kept + size <= KEPT
        self._kept += size if keep else 0
        return keep


def _change(delta: Delta, named: frozenset[str]) -> Change:
    one = delta.seen
    kind, note = _kind(delta.before, delta.after)
    owner = one.watch.label
    is_named, also = owner in named, delta.also
    return Change(owner, one.place, one.state, kind, named=is_named, also=also, note=note)


def _kind(before: Seen | None, after: Seen | None) -> tuple[Kind, str]:
    """Return which of the kinds of change it was, and what to add to it."""
    if before is None:
        return "created", ""
    if after is None:
        return "removed", GIVEN_AWAY if before.watch.given_away else ""
    if after.watch.replaced:
        return "replaced", ""
    if before.token != after.token and None not in (before.token, after.token):
        return "replaced", ""
    moved = before.is_copied and after.is_copied and before.spots != after.spots
    if moved and not (before.cow or after.cow):
        return "replaced", "the same tensor object, with other storage (.data, set_ or resize_)"
    return "changed in place", ""
