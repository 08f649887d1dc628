"""The global random state of PyTorch, NumPy and Python: has it moved since it was last looked at?

It is looked at between any two statements, so a look must be cheap. NumPy's and Python's Mersenne Twisters are compared as
raw bytes where a check at the start shows that these bytes are the state; otherwise through their public ``get_state``.
"""

from __future__ import annotations

import ctypes
import random
import struct
import sys
import zlib
from typing import Any

import torch

from fnlib.ledger.memory import differs
from fnlib.octets import octets

_WORDS = 624


class RandomState:
    """Remembers the global generators' states and says which of them moved."""

    def __init__(self) -> None:
        self._python_at = _find_python_state()
        self._last = self._read()

    def moved(self) -> list[str]:
        """Names of the generators that moved since the last call: "torch", "cuda:0", "numpy", "python"."""
        if self._stands_still():
            return []
        now, before = self._read(), self._last
        if now == before:
            return []
        self._last = now
        return [name for name, state in now.items() if state != before.get(name)]

    def _stands_still(self) -> bool:
        """Whether nothing moved, told from the bytes where they lie; false where that cannot tell."""
        last = self._last
        if differs is None or self._python_at is None or torch.cuda.is_initialized():
            return False
        state, known = torch.default_generator.get_state(), last["torch"]
        if state.nbytes != len(known) or differs(state.data_ptr(), known, len(known)):
            return False
        at, size = self._python_at
        words, held = last["python"]
        if differs(at, words, size) or vars(random._inst)["gauss_next"] is not held:
            return False
        numpy = sys.modules.get("numpy")
        if numpy is None:
            return "numpy" not in last
        known = last.get("numpy")
        try:
            bits = numpy.random.mtrand._rand._bit_generator
        except AttributeError:
            return False
        if type(known) is not tuple or known[1] != (0, 0.0) or _known["bits"] is not bits:
            return False
        return not differs(_known["address"], known[0], len(known[0]))

    def stands(self, name: str) -> str:
        """A checksum of where a generator stood at the last look: equal ones will draw the same."""
        state = self._last.get(name)
        return f"{zlib.crc32(state if isinstance(state, bytes) else repr(state).encode()):08x}"

    def _read(self) -> dict[str, Any]:
        states: dict[str, Any] = {"torch": octets(torch.default_generator.get_state())}
        if torch.cuda.is_initialized():
            for number, generator in enumerate(torch.cuda.default_generators):
                states[f"cuda:{number}"] = octets(generator.get_state())
        if "numpy" in sys.modules:
            states["numpy"] = _numpy_state()
        where = self._python_at
        states["python"] = random.getstate() if where is None else (ctypes.string_at(*where), vars(random._inst)["gauss_next"])
        return states


def _find_python_state() -> tuple[int, int] | None:
    """Address and size of the state inside Python's shared generator, if its bytes are what ``getstate`` says."""
    try:
        address = id(random._inst) + object.__basicsize__
        size = 4 * (_WORDS + 1)
        if sys.implementation.name != "cpython" or type(random._inst).__basicsize__ < object.__basicsize__ + size:
            return None
        index, *words = struct.unpack(f"={_WORDS + 1}I", ctypes.string_at(address, size))
        return (address, size) if random.getstate()[1] == (*words, index) else None
    except (AttributeError, struct.error):
        return None


def _numpy_state() -> Any:
    """NumPy's global state. The legacy generator may hold one normal number back, which only ``get_state`` tells."""
    numpy = sys.modules["numpy"]
    try:
        generator = numpy.random.mtrand._rand
        bits = generator._bit_generator
    except AttributeError:
        return None
    if type(bits).__name__ != "MT19937":
        return repr(bits.state)
    if _known["bits"] is not bits:
        _known["bits"], _known["address"] = bits, bits.ctypes.state_address
    raw = ctypes.string_at(_known["address"], 4 * (_WORDS + 1))
    return raw, _held_back(generator, raw)


_known: dict[str, Any] = {"bits": None, "address": 0, "raw": None, "held": None}


def _held_back(generator: Any, raw: bytes) -> Any:
    """The normal number held back. While none is, taking one must move the other bytes, so they are enough."""
    if _known["raw"] == raw and _known["held"] == (0, 0.0):
        return _known["held"]
    state = generator.get_state(legacy=False)
    _known["raw"], _known["held"] = raw, (state["has_gauss"], state["gauss"])
    return _known["held"]
