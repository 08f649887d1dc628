"""The global random state of PyTorch, NumPy and Python: has it moved since it was last looked at?

It is looked at between any two statements, so a look must be cheap. NumPy's and Python's Mersenne Twisters are compared as
raw bytes where a check at the start shows that these bytes are the state; otherwise through their public ``get_state``.
"""

from __future__ import annotations

import random
import struct
import sys
import zlib
from typing import Any

import torch

from fnlib.ledger.looks.octets import view_of, window

_WORDS = 624


class RandomState:
    """Remembers the global generators' states and says which of them moved."""

    def __init__(self) -> None:
        self._python = _find_python_state()
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
        if self._python is None or torch.cuda.is_initialized():
            return False
        state = torch.default_generator.get_state()
        if last["torch"] != window(state):
            return False
        words, held = last["python"]
        if words != self._python or vars(random._inst)["gauss_next"] is not held:
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
        return bool(known[0] == _known["view"])

    def stands(self, name: str) -> str:
        """A checksum of where a generator stood at the last look: equal ones will draw the same."""
        state = self._last.get(name)
        if type(state) is tuple and type(state[0]) is bytearray:
            state = bytes(state[0]), state[1]
        return f"{zlib.crc32(state if isinstance(state, bytearray) else repr(state).encode()):08x}"

    def _read(self) -> dict[str, Any]:
        states: dict[str, Any] = {"torch": _octets(torch.default_generator)}
        if torch.cuda.is_initialized():
            for number, generator in enumerate(torch.cuda.default_generators):
                states[f"cuda:{number}"] = _octets(generator)
        if "numpy" in sys.modules:
            states["numpy"] = _numpy_state()
        words = self._python
        states["python"] = (
            random.getstate()
            if words is None
            else (bytearray(words), vars(random._inst)["gauss_next"])
        )
        return states


def _octets(generator: torch.Generator) -> bytearray:
    state = generator.get_state()
    return bytearray(window(state))


def _find_python_state() -> memoryview | None:
    """A view of the state inside Python's shared generator, if its bytes are what ``getstate`` says."""
    try:
        address = id(random._inst) + object.__basicsize__
        size = 4 * (_WORDS + 1)
        if (
            sys.implementation.name != "cpython"
            or type(random._inst).__basicsize__ < object.__basicsize__ + size
        ):
            return None
        view = view_of(address, size)
        index, *words = struct.unpack(f"={_WORDS + 1}I", view)
        return view if random.getstate()[1] == (*words, index) else None
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
        _known["bits"], _known["view"] = bits, view_of(bits.ctypes.state_address, 4 * (_WORDS + 1))
    raw = bytearray(_known["view"])
    return raw, _held_back(generator, raw)


_known: dict[str, Any] = {"bits": None, "view": None, "raw": None, "held": None}


def _held_back(generator: Any, raw: bytearray) -> Any:
    """The normal number held back. While none is, taking one must move the other bytes, so they are enough."""
    if _known["raw"] == raw and _known["held"] == (0, 0.0):
        return _known["held"]
    state = generator.get_state(legacy=False)
    _known["raw"], _known["held"] = raw, (state["has_gauss"], state["gauss"])
    return _known["held"]
