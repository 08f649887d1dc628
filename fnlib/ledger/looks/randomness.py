"""The global random state of PyTorch, NumPy and Python: whether it has moved since the last look.

A public ``getstate`` of a Mersenne Twister takes 15 us (Python) and 55 us (NumPy), six times a
step of 140 us. So its words are compared where they are, and `getstate` is asked when they differ.
"""

from __future__ import annotations

import random
import sys
import zlib
from typing import Any

import torch

from fnlib.ledger.looks.bytes import view_of, window
from fnlib.torch_private import numpy_words, python_words


class RandomState:
    """Remember the states of the global generators and say which of them moved."""

    def __init__(self) -> None:
        self._last: dict[str, Any] = {}
        self._twisters = {"python": _Python()}
        self.moved()

    def moved(self) -> list[str]:
        """Name the generators that moved since the last call: "torch", "cuda:0", "numpy", "python"."""
        moved = []
        generators = {"torch": torch.default_generator}
        if torch.cuda.is_initialized():
            cuda = enumerate(torch.cuda.default_generators)
            generators |= {f"cuda:{number}": generator for number, generator in cuda}
        for name, generator in generators.items():
            state = generator.get_state()
            if self._last.get(name) != window(state):
                moved += [name] if name in self._last else []
                self._last[name] = bytearray(window(state))
        if "numpy" not in self._twisters and hasattr(sys.modules.get("numpy"), "random"):
            self._twisters["numpy"] = _NumPy()
        for name, twister in self._twisters.items():
            if not twister.stands_still():
                state = twister.full()
                moved += [name] if self._last.get(name, state) != state else []
                self._last[name] = state
        return moved

    def stands(self, name: str) -> str:
        """Return a checksum of a state at the last look; equal ones will draw the same numbers."""
        state = self._last.get(name)
        octets = state if isinstance(state, bytearray) else repr(state).encode()
        return f"{zlib.crc32(octets):08x}"


class _Python:
    """Python's global generator. It may hold a normal number back, which no word tells."""

    def __init__(self) -> None:
        self.holds = True
        self.words: Any = None
        self.view = self._view()

    def _view(self) -> memoryview | None:
        place = python_words()
        return None if place is None else view_of(*place)

    def stands_still(self) -> bool:
        """Say whether nothing moved; False where only `full` can tell."""
        return not self.holds and self.view is not None and self.words == self.view

    def full(self) -> Any:
        """Return the state by the public function, in a form that compares by value."""
        self.words = None if self.view is None else bytearray(self.view)
        state = random.getstate()
        self.holds = state[2] is not None
        return state


class _NumPy(_Python):
    """NumPy's global generator, whatever was put in its place."""

    def _view(self) -> memoryview | None:
        self.bits = sys.modules["numpy"].random.get_bit_generator()
        place = numpy_words(self.bits)
        return None if place is None else view_of(*place)

    def stands_still(self) -> bool:
        same = sys.modules["numpy"].random.get_bit_generator() is self.bits
        return same and super().stands_still()

    def full(self) -> Any:
        self.view = self._view()
        self.words = None if self.view is None else bytearray(self.view)
        state = sys.modules["numpy"].random.get_state(legacy=False)
        self.holds = bool(state.get("has_gauss", True))
        return repr({**state, "state": {**state["state"], "key": _octets(state["state"])}})


def _octets(state: dict[str, Any]) -> Any:
    key: Any = state.get("key")
    return key.tobytes() if hasattr(key, "tobytes") else key
