"""The global generators: preserved, or seeded for one forward pass."""

from __future__ import annotations

import contextlib
import hashlib
import operator
import random
import sys
import threading
from collections.abc import Iterator
from typing import Any

import torch

from fnlib import errors

# PyTorch's generator is one for all threads; reentrant for nested models.
one_at_a_time = threading.RLock()


def checked_seed(seed: Any, right: str) -> int | None:
    """Return a seed as Python's int, or raise `WrongParameters`: True and 1.5 are mistakes."""
    if seed is None:
        return None
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise errors.WrongParameters("seed= takes an integer or None", f"got {seed!r}", right)
    return operator.index(seed)


def _cuda_devices() -> list[int]:
    initialized = torch.cuda.is_available() and torch.cuda.is_initialized()
    return list(range(torch.cuda.device_count())) if initialized else []


@contextlib.contextmanager
def preserved() -> Iterator[None]:
    """Put the generators of PyTorch, NumPy and Python back where they were on leaving."""
    state = random.getstate()
    numpy = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy else None
    with one_at_a_time, torch.random.fork_rng(devices=_cuda_devices()):
        try:
            yield
        finally:
            random.setstate(state)
            if numpy:
                numpy.random.set_state(numpy_state)


@contextlib.contextmanager
def seeded(seed: int, step_count: int, others: bool = False) -> Iterator[None]:
    """Seed the generators from a seed and a step count, and put them back where they were.

    Args:
        seed, step_count: what they are seeded from.
        others: seed those of Python and NumPy too, from which no layer of torch.nn draws.
    """
    digest = hashlib.blake2b(f"{seed}/{step_count}".encode(), digest_size=8).digest()
    folded = int.from_bytes(digest, "little") >> 1
    if not others:
        with one_at_a_time, torch.random.fork_rng(devices=_cuda_devices()):
            torch.manual_seed(folded)
            yield
        return
    with preserved():
        torch.manual_seed(folded)
        random.seed(folded)
        if numpy := sys.modules.get("numpy"):
            numpy.random.seed(folded % 2**32)
        yield


def other_generators() -> tuple[Any, ...]:
    """Return where Python's and NumPy's generators are, to see whether something draws from them."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return (random.getstate(),)
    _, words, position, *_ = numpy.random.get_state()
    return random.getstate(), words.tobytes(), position
