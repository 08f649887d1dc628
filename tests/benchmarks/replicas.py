"""What a step costs on two ranks: DistributedDataParallel and values, in turns."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Protocol

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import fnlib
from tests.benchmarks.loops import same_bits
from tests.distributed.ranks import on_ranks


class Side(Protocol):
    def step(self) -> None: ...


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10), nn.LogSoftmax(dim=1))


class Ddp:
    def __init__(self, feature: torch.Tensor, label: torch.Tensor) -> None:
        torch.manual_seed(0)
        self.model = DistributedDataParallel(build())
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.feature, self.label = feature, label

    def step(self) -> None:
        self.optimizer.zero_grad()
        nn.functional.nll_loss(self.model(self.feature), self.label).backward()
        self.optimizer.step()


class Values:
    def __init__(self, feature: torch.Tensor, label: torch.Tensor) -> None:
        self.factory = fnlib.Factory(build, optimizer=fnlib.SGD(lr=0.01))
        self.parameters = self.factory(fnlib.Parameters(seed=0)).parameters
        self.feature, self.label = feature, label

    def step(self) -> None:
        model = self.factory(self.parameters)
        loss = nn.functional.nll_loss(model(self.feature), self.label)
        self.parameters = model.step(fnlib.distributed.all_reduce(model.backward(loss)))


def medians(rounds: int, steps: int) -> dict[str, float]:
    """Return microseconds a step of both sides, as rank 0 of two measured them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "taken.json")
        on_ranks(2, lambda rank: _measure(rank, rounds, steps, path))
        found: dict[str, float] = json.loads(path.read_text())
    return found


def _measure(rank: int, rounds: int, steps: int, path: Path) -> None:
    generator = torch.Generator().manual_seed(rank)
    feature = torch.randn(32, 128, generator=generator)
    label = torch.randint(10, (32,), generator=generator)
    ddp, values = Ddp(feature, label), Values(feature, label)
    taken: dict[str, list[float]] = {"stock": [], "fnlib": []}
    sides: list[tuple[str, Side]] = [("stock", ddp), ("fnlib", values)]
    for turn in range(rounds + 1):
        for name, side in sides:
            dist.barrier()
            begin = time.perf_counter_ns()
            for _ in range(steps):
                side.step()
            taken[name] += [(time.perf_counter_ns() - begin) / steps / 1000] if turn else []
    module = ddp.model.module
    same_bits(dict(values.parameters), {n: w.detach() for n, w in module.named_parameters()})
    if rank == 0:
        path.write_text(json.dumps({name: statistics.median(t) for name, t in taken.items()}))
