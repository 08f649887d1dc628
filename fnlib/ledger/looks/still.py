"""Judging a whole object at once: most statements leave most objects as they are, or write into tensors and do no more.

A look at one place costs microseconds of Python. `Still` compares an object with the last look in a few passes that run in
C, and answers either which of its tensors hold other bytes, or "look closely".
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import is_, ne
from typing import Any

from torch import Tensor

from fnlib.ledger.looks.memory import storage_address
from fnlib.ledger.looks.sighting import Seen

_size, _stride, _offset, _dtype = (
    Tensor.size,
    Tensor.stride,
    Tensor.storage_offset,
    Tensor.dtype.__get__,
)  # type: ignore[attr-defined]
Flat = tuple[
    list[Any], list[Tensor]
]  # all plain values and identities, and all tensors, in a fixed order


class Lay:
    """Ordinary tensors, each with its storage to itself: which objects, where, how large, and where their copies are.

    Args:
        sights: what was seen of them at the last look.
        tensors: the same objects.

    ``at`` maps where each tensor lies to what was seen of it.
    """

    __slots__ = (
        *("_dtypes", "_offsets", "_sizes", "_storages", "_strides"),
        *("_gapless", "_held", "_octets", "_same", "_spots", "_views", "at"),
    )

    def __init__(self, tensors: list[Tensor], sights: list[Seen]) -> None:
        self._storages, self._offsets = (
            list(map(storage_address, tensors)),
            list(map(_offset, tensors)),
        )
        self._sizes, self._strides = list(map(_size, tensors)), list(map(_stride, tensors))
        self._dtypes = list(map(_dtype, tensors))
        self._spots, self._views = (
            [seen.spots[0] for seen in sights],
            [seen.view for seen in sights],
        )
        self._octets = [seen.octets for seen in sights]
        self._gapless = all([octets is not None for octets in self._octets])
        self._held: list[Any] = [seen.held for seen in sights]
        self._same: list[Tensor] = []  # a list that is known to hold them
        self.at = {seen.spots[0]: [seen] for seen in sights}

    def other(self, tensors: list[Tensor]) -> list[int] | None:
        """Which of them hold other bytes now, by number; ``None`` if they are others, or lie elsewhere or otherwise."""
        if tensors is not self._same:
            if len(tensors) != len(self._held) or not all(map(is_, tensors, self._held)):
                return None
            self._same = tensors
        if not (
            list(map(storage_address, tensors)) == self._storages
            and list(map(_offset, tensors)) == self._offsets
            and list(map(_size, tensors)) == self._sizes
            and list(map(_stride, tensors)) == self._strides
            and list(map(_dtype, tensors)) == self._dtypes
        ):
            return None
        if self._gapless:
            other = list(map(ne, self._octets, self._views))
        else:
            other = [
                not one[0].unchanged(tensor)
                for one, tensor in zip(self.at.values(), tensors, strict=True)
            ]
        return [at for at, one in enumerate(other) if one] if any(other) else []

    def update(self, before: Seen, after: Seen) -> None:
        """Remember the new bytes of one tensor."""
        at = self._spots.index(before.spots[0])
        self._octets[at] = after.octets
        self.at[before.spots[0]] = [after]

    @staticmethod
    def of(
        tensors: list[Tensor], sights: list[Seen | None], at: Mapping[int, list[Seen]] | None = None
    ) -> Lay | None:
        """Make one, if every tensor is an ordinary one with its storage to itself, also among all that stands ``at`` a place."""
        found = [
            one for one in sights if one is not None and one.stride is not None and not one.weak
        ]
        if at is not None:
            found = [one for one in found if len(at[one.spots[0]]) == 1]
        if len(found) != len(tensors) or len({one.spots for one in found}) != len(found):
            return None
        return Lay(tensors, found)


class Still:
    """What an object looked like at the last look, in flat lists.

    Args:
        flat: its plain values and its tensors then.
        lay: its tensors then.
        ranks: where each of them comes in the order of the object's places.

    ``weights`` are those of a module, ``places`` those of their gradients, and ``gradients`` what these were.
    """

    __slots__ = ("_flat", "_ranks", "_types", "gradients", "lay", "places", "weights")

    def __init__(self, flat: Flat, lay: Lay, ranks: list[int]) -> None:
        self._flat, self._types = flat, list(map(type, flat[0]))
        self.lay, self._ranks = lay, ranks
        sights = [one[0] for one in lay.at.values() if one[0].state == "weight"]
        self.weights: list[Tensor] = [seen.held for seen in sights]
        self.places = [f"{seen.place}.grad" for seen in sights]
        self.gradients: Lay | None = None

    @classmethod
    def of(cls, flat: Flat | None, seen: dict[str, Seen]) -> Still | None:
        """Make one, if every tensor is an ordinary one and each has its storage to itself."""
        if flat is None:
            return None
        by_object = {
            id(one.held): (one, rank)
            for rank, one in enumerate(seen.values())
            if one.stride is not None and not one.weak
        }
        found = [by_object.get(id(tensor), (None, 0)) for tensor in flat[1]]
        lay = Lay.of(flat[1], [one for one, _ in found])
        return None if lay is None else cls(flat, lay, [rank for _, rank in found])

    def rewritten(self, flat: Flat | None) -> list[Seen] | None:
        """What was seen of the tensors that hold other bytes now, in the order of their places.

        ``None`` if anything else differs: a plain value, which tensor objects there are, where they lie, how large they are.
        """
        if flat is not self._flat:
            if flat is None or flat[0] != self._flat[0] or list(map(type, flat[0])) != self._types:
                return None
            self._flat = flat
        other = self.lay.other(flat[1])
        if not other:
            return other  # type: ignore[return-value]
        sights = list(self.lay.at.values())
        return [sights[at][0] for at in sorted(other, key=self._ranks.__getitem__)]
