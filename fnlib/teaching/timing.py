"""Compare the time of several loops on this machine."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from time import perf_counter
from typing import Any


def ratios(turns: int = 9, **loops: Callable[[], Any]) -> dict[str, float]:
    """Time loops in turns, as multiples of the first one.

    Args:
        turns: how often each loop is timed.
        loops: the loops by name; the first one is the measure.

    Returns:
        For each other loop the median ratio of its time to the first one's, rounded to two digits.

    Examples:
        >>> list(ratios(turns=1, stock=lambda: sum(range(9)), other=lambda: sum(range(99))))
        ['other']
    """
    first, *others = loops
    times: dict[str, list[float]] = {name: [] for name in loops}
    for loop in loops.values():
        loop()  # the first call pays for memory and caches
    gc.collect()
    for _ in range(turns):
        for name, loop in loops.items():
            begin = perf_counter()
            loop()
            times[name].append(perf_counter() - begin)
    return {
        name: round(
            statistics.median(b / a for a, b in zip(times[first], times[name], strict=True)), 2
        )
        for name in others
    }
