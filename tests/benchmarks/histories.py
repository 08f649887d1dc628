"""What keeping a state costs: an append against a safetensors file that survives a power loss too."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import fnlib


@contextmanager
def on_disk() -> Iterator[Path]:
    """Make a folder on the disk of this repository: a temporary one may lie in memory."""
    build = Path(__file__).parents[2] / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build) as folder:
        yield Path(folder)


def values(weights: int, count: int, frozen: bool) -> list[fnlib.Parameters]:
    """Make states of four tensors, of which all change, or only the last one."""
    generator = torch.Generator().manual_seed(0)
    names = [f"{i}.weight" for i in range(4)]
    size = weights // 4
    first = fnlib.Parameters.from_module(
        nn.ModuleDict({str(i): nn.Linear(size, 1, bias=False) for i in range(4)})
    )
    made = []
    for _ in range(count):
        moving = ["3.weight"] if frozen else names
        made.append(
            first.replace(weights={n: torch.randn(1, size, generator=generator) for n in moving})
        )
    return made


class Sides:
    """Two ways to keep a state: `safetensors`, with fsync and rename, and `fnlib`.

    Args:
        folder: where to.
        weights: of a state.
        count: how often each side is called.
        frozen: whether three of its four tensors never change.
    """

    def __init__(self, folder: Path, weights: int, count: int, frozen: bool) -> None:
        made = values(weights, count, frozen)
        plain: list[dict[str, Tensor]] = [dict(value._held().weights) for value in made]
        self.folder, self.number = folder, itertools.count()
        self.history = fnlib.History(folder / "run")
        self.of_fnlib, self.of_safetensors = iter(made), iter(plain)
        (folder / "plain").mkdir()

    def fnlib(self) -> None:
        self.history.append(next(self.of_fnlib))

    def safetensors(self) -> None:
        path = self.folder / "plain" / f"{next(self.number)}.safetensors"
        part = path.with_name("part")
        save_file(next(self.of_safetensors), part)
        synchronise(part)
        os.replace(part, path)
        synchronise(path.parent)


def synchronise(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    os.fsync(opened)
    os.close(opened)


def seconds_to_open(count: int) -> float:
    """Measure opening a run of many small states and reading the last one."""
    with on_disk() as folder:
        history = fnlib.History(folder)
        for value in values(8, 2, frozen=False):
            history.append(value)
        history.close()
        for i in range(count - 1, 0, -1):
            if i > 1:
                os.link(folder / "000000.safetensors", folder / f"{i:06}.safetensors")
        return fastest(lambda: (len(fnlib.History(folder)), fnlib.History(folder)[1]))


def fastest(function: Callable[[], object]) -> float:
    taken = []
    for _ in range(3):
        begin = time.perf_counter()
        function()
        taken.append(time.perf_counter() - begin)
    return sorted(taken)[1]
