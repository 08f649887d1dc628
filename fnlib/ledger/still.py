"""Judging a whole object at once: most statements leave most objects as they are.

A look at one place costs microseconds of Python. `Still` compares an object with the last look in a few passes that run in
C, and answers only "nothing differs" or "look closely".
"""

from __future__ import annotations

from operator import is_
from typing import Any

import torch
from torch import Tensor

from fnlib.ledger.content import storage_address
from fnlib.ledger.seen import Seen

_size, _stride, _offset = Tensor.size, Tensor.stride, Tensor.storage_offset
Flat = tuple[list[Any], list[Tensor]]  # all plain values and identities, and all tensors, in a fixed order


class Still:
    """What an object looked like at the last look, in flat lists.

    Args:
        flat: its plain values and its tensors then.
        seen: what was seen in its places.
    """

    __slots__ = ("_bits", "_live", "_plain", "_sizes", "_offsets", "_storages", "_strides", "_tensors", "_types", "at")

    def __init__(self, flat: Flat, sights: list[Seen]) -> None:
        self._plain, tensors = flat
        self._types = list(map(type, self._plain))
        self._storages, self._offsets = list(map(storage_address, tensors)), list(map(_offset, tensors))
        self._live = [seen.live for seen in sights]
        self._bits = [seen.bits for seen in sights]
        self._sizes, self._strides = list(map(_size, tensors)), list(map(_stride, tensors))
        self._tensors: list[Any] = [seen.held for seen in sights]
        self.at = {seen.spots[0]: [seen] for seen in sights}

    @classmethod
    def of(cls, flat: Flat | None, seen: dict[str, Seen]) -> Still | None:
        """Make one, if every tensor is an ordinary one and each has its storage to itself."""
        if flat is None:
            return None
        by_object = {id(one.held): one for one in seen.values() if one.live is not None and not one.weak}
        sights = [by_object.get(id(tensor)) for tensor in flat[1]]
        found = [one for one in sights if one is not None]
        if len(found) != len(sights) or len({one.spots for one in found}) != len(found):
            return None
        return cls(flat, found)

    def holds(self, flat: Flat | None) -> bool:
        """Whether nothing differs: the same values, the same tensor objects, in the same storage, with the same bytes."""
        if flat is None:
            return False
        plain, tensors = flat
        return (
            plain == self._plain
            and list(map(type, plain)) == self._types
            and len(tensors) == len(self._tensors)
            and all(map(is_, tensors, self._tensors))
            and list(map(storage_address, tensors)) == self._storages
            and list(map(_offset, tensors)) == self._offsets
            and list(map(_size, tensors)) == self._sizes
            and list(map(_stride, tensors)) == self._strides
            and all(map(torch.equal, self._live, self._bits))  # type: ignore[arg-type]
        )
