"""Judging a whole object at once: most statements leave most objects as they are, or write into tensors and do no more.

A look at one place costs microseconds of Python. `Still` compares an object with the last look in a few passes that run in
C, and answers either which of its tensors hold other bytes, or "look closely".
"""

from __future__ import annotations

from operator import is_
from typing import Any

from torch import Tensor

from fnlib.ledger.content import storage_address
from fnlib.ledger.memory import differs
from fnlib.ledger.seen import Seen

_size, _stride, _offset, _dtype = Tensor.size, Tensor.stride, Tensor.storage_offset, Tensor.dtype.__get__  # type: ignore[attr-defined]
Flat = tuple[list[Any], list[Tensor]]  # all plain values and identities, and all tensors, in a fixed order


class Still:
    """What an object looked like at the last look, in flat lists.

    Args:
        flat: its plain values and its tensors then.
        sights: what was seen of these tensors.
        ranks: where each of them comes in the order of the object's places.

    ``at`` maps where each tensor lies to what was seen of it, ``weights`` lists (place of its gradient, weight).
    """

    __slots__ = (
        *("_plain", "_types", "_held", "_storages", "_offsets", "_sizes", "_strides", "_dtypes"),
        *("_spots", "_copies", "_lengths", "_ranks", "at", "weights"),
    )

    def __init__(self, flat: Flat, sights: list[Seen], ranks: list[int]) -> None:
        self._plain, tensors = flat
        self._types = list(map(type, self._plain))
        self._storages, self._offsets = list(map(storage_address, tensors)), list(map(_offset, tensors))
        self._sizes, self._strides = list(map(_size, tensors)), list(map(_stride, tensors))
        self._dtypes = list(map(_dtype, tensors))
        self._spots, self._copies = [seen.spots[0] for seen in sights], [seen.copy_at for seen in sights]
        self._lengths = [seen.size for seen in sights]
        self._held: list[Any] = [seen.held for seen in sights]
        self._ranks = ranks
        self.at = {seen.spots[0]: [seen] for seen in sights}
        self.weights = [(f"{seen.place}.grad", seen.held) for seen in sights if seen.state == "weight"]

    @classmethod
    def of(cls, flat: Flat | None, seen: dict[str, Seen]) -> Still | None:
        """Make one, if every tensor is an ordinary one and each has its storage to itself."""
        if flat is None:
            return None
        by_object = {id(one.held): (one, rank) for rank, one in enumerate(seen.values()) if one.live is not None and not one.weak}
        found = [one for tensor in flat[1] if (one := by_object.get(id(tensor))) is not None]
        if len(found) != len(flat[1]) or len({one.spots for one, _ in found}) != len(found):
            return None
        return cls(flat, [one for one, _ in found], [rank for _, rank in found])

    def rewritten(self, flat: Flat | None) -> list[Seen] | None:
        """What was seen of the tensors that hold other bytes now, in the order of their places.

        ``None`` if anything else differs: a plain value, which tensor objects there are, where they lie, how large they are.
        """
        if flat is None:
            return None
        plain, tensors = flat
        if not (
            plain == self._plain
            and list(map(type, plain)) == self._types
            and len(tensors) == len(self._held)
            and all(map(is_, tensors, self._held))
            and list(map(storage_address, tensors)) == self._storages
            and list(map(_offset, tensors)) == self._offsets
            and list(map(_size, tensors)) == self._sizes
            and list(map(_stride, tensors)) == self._strides
            and list(map(_dtype, tensors)) == self._dtypes
        ):
            return None
        if differs is not None and all(self._lengths):
            other = list(map(differs, self._spots, self._copies, self._lengths))
        else:
            other = [not one[0].unchanged() for one in self.at.values()]
        if not any(other):
            return []
        sights = list(self.at.values())
        return [sights[at][0] for at in sorted([at for at, one in enumerate(other) if one], key=self._ranks.__getitem__)]

    def update(self, before: Seen, after: Seen) -> None:
        """Remember the new bytes of one tensor."""
        at = self._spots.index(before.spots[0])
        self._copies[at], self._lengths[at] = after.copy_at, after.size
        self.at[before.spots[0]] = [after]
