"""How the benchmark measures: sides that take turns in one process, and the medians of many short rounds."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Step = Callable[[], object]


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Args:
        rounds: how often each side takes its turn.
        steps: training steps in a turn.
        warm_up: steps before the first turn.
        weights: size of the large network.
        updates: steps of the large network.
        starts: how often a fresh Python imports the package.
    """

    rounds: int = 150
    steps: int = 10
    warm_up: int = 50
    weights: int = 64_000_000
    updates: int = 15
    starts: int = 15


QUICK = Effort(rounds=2, steps=2, warm_up=1, weights=4_000_000, updates=2, starts=1)


def interleaved(sides: Mapping[str, Step], effort: Effort) -> dict[str, float]:
    """Let the sides take turns, so that what else the machine does meets all of them alike.

    Args:
        sides: for each, a function that takes one training step. Each side takes the same number of steps.

    Returns:
        For each side, microseconds a step: the median over the rounds.
    """
    names = list(sides)
    for step in sides.values():
        for _ in range(effort.warm_up):
            step()
    taken: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.freeze()  # the collections between rounds need not look at PyTorch
    try:
        for turn in range(effort.rounds):
            for name in (
                names[turn % len(names) :] + names[: turn % len(names)]
            ):  # nobody is always first
                step = sides[name]
                gc.disable()
                begin = time.perf_counter_ns()
                for _ in range(effort.steps):
                    step()
                end = time.perf_counter_ns()
                gc.enable()
                gc.collect()
                taken[name].append((end - begin) / effort.steps / 1000)
    finally:
        gc.enable()
        gc.unfreeze()
    return {name: statistics.median(times) for name, times in taken.items()}
