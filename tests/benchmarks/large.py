"""The update of a large network alone, in a process of its own: its time and its peak memory.

`python -m tests.benchmarks.large SIDE RULE WEIGHTS` sets up one side, then answers on standard output, a line for a line:
`step` takes one update and answers its nanoseconds, `peak` answers the greatest memory since the start in bytes
(beyond what the imports took; 0 where the system does not say), `built` the same until the network was built and bound,
`sum` answers a checksum of the weights.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import fnlib

LAYERS = 4
SETTINGS: dict[str, dict[str, object]] = {"SGD": {"lr": 0.01}, "Adam": {"lr": 0.001, "fused": True}}
COPIES = {
    "SGD": 1,
    "Adam": 3,
}  # what an update replaces, in copies of the weights: Adam keeps two moments
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def memory(field: str) -> int:
    """Return VmRSS (now) or VmHWM (at most) in bytes; 0 where the system does not say."""
    if not _STATUS.exists():
        return 0
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def reset_peak() -> None:
    """Forget the greatest memory so far."""
    if _CLEAR.exists():
        _CLEAR.write_text("5")


def prepare(
    side: str, rule: str, weights: int
) -> tuple[Callable[[], None], Callable[[], int], int]:
    """Return a function that takes one update, one that sums the weights up, and the peak so far."""
    width = round((weights / LAYERS) ** 0.5)

    def build() -> nn.Module:
        return nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(LAYERS)))

    generator = torch.Generator().manual_seed(0)

    def slope() -> torch.Tensor:
        return torch.rand(width, width, generator=generator) - 0.5

    def checksum(tensors: object) -> int:
        return sum(
            int(tensor.detach().view(torch.int32).sum(dtype=torch.int64)) for tensor in tensors
        )  # type: ignore[attr-defined]

    if side == "stock":
        torch.manual_seed(0)
        network = build()
        built = memory("VmHWM")
        for weight in network.parameters():
            weight.grad = slope()
        optimizer = getattr(torch.optim, rule)(network.parameters(), **SETTINGS[rule])
        return optimizer.step, lambda: checksum(network.parameters()), built

    ModelFactory = fnlib.Factory(build, optimizer=getattr(fnlib, rule)(**SETTINGS[rule]))
    model = ModelFactory(fnlib.Parameters(seed=0))
    built = memory("VmHWM")
    value = fnlib.Gradient({name: slope() for name in model.parameters})

    def step() -> None:
        nonlocal model
        parameters = model.step(value, donate=side == "donated")
        model = ModelFactory(parameters)

    return step, lambda: checksum(model.parameters.values()), built


def serve(side: str, rule: str, weights: int) -> None:
    torch.set_num_threads(1)
    prepare(side, rule, LAYERS)[0]()  # PyTorch loads parts of itself at the first use
    before = memory("VmRSS")
    reset_peak()
    step, checksum, built = prepare(side, rule, weights)
    reset_peak()
    print("ready", flush=True)
    for line in sys.stdin:
        match line.strip():
            case "step":
                begin = time.perf_counter_ns()
                step()
                answer = time.perf_counter_ns() - begin
            case "peak":
                peak = memory("VmHWM")
                answer = peak and max(peak - before, 1)
            case "built":
                answer = built and max(built - before, 1)
            case _:
                answer = checksum()
        print(answer, flush=True)


class Worker:
    """One side, in a fresh process."""

    def __init__(self, side: str, rule: str, weights: int) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.large", side, rule, str(weights)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._read()

    def ask(self, question: str) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return int(self._read())

    def _read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"the process of {' '.join(self.process.args[3:])} ended: its message stands above"
            )  # type: ignore[index]
        return line

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
