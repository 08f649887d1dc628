"""Compare all models, two at a time, each in a process of its own, and print what became of them."""

from __future__ import annotations

import collections
import gc
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import torch

from tests.real_models.compare import Model, Result, compare
from tests.real_models.models import REFUSED, load

AT_ONCE = min(2, os.cpu_count() or 1)
SECONDS = 120  # for one model


def main(words: Sequence[str]) -> int:
    """Run the models that the words name; return 0 if all is as the table says."""
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "DIFFUSERS_OFFLINE"):
        os.environ[variable] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    begin = time.monotonic()
    models, missing = load()
    chosen = [m for m in models if not words or any(word in m.name for word in words)]
    found = []
    for result in results(chosen):
        found.append(result)
        if result.kind != "exact" or os.environ.get("ALL"):
            print(f"{result.kind:8} {result.name}  {result.detail}", flush=True)
    for line in missing:
        print("missing ", line)
    count = collections.Counter(result.kind for result in found)
    print(", ".join(f"{count[kind]} {kind}" for kind in KINDS if count[kind]))
    print(f"{len(found)} models in {time.monotonic() - begin:.0f} s")
    return int(any(not expected(result) for result in found) or bool(missing))


KINDS = {
    "exact": "the bits of stock PyTorch",
    "refused": "a named error",
    "stock": "stock PyTorch doesn't run it, or two of its runs differ",
    "wrong": "other bits",
    "crashed": "an error without a name",
}


def expected(result: Result) -> bool:
    """Say whether a result is exact, or refused as the table says."""
    if result.kind == "refused":
        return result.detail.startswith(REFUSED.get(result.name, "?"))
    return result.kind == "exact" and result.name not in REFUSED


def results(models: Sequence[Model]) -> Iterator[Result]:
    """Compare each model in a fork, so that none sees what another left."""
    gc.collect()
    gc.freeze()
    todo = list(reversed(models))
    running: dict[int, tuple[Model, int, float]] = {}  # pipe: model, process, time of its end
    while todo or running:
        while todo and len(running) < AT_ONCE:
            model = todo.pop()
            pipe, process = _started(model)
            running[pipe] = model, process, time.monotonic() + 20 * SECONDS
        ready, _, _ = select.select(list(running), [], [], 1)
        now = time.monotonic()
        for pipe in [p for p, (_, _, end) in running.items() if p in ready or now > end]:
            model, process, end = running.pop(pipe)
            if pipe not in ready:
                os.kill(process, signal.SIGKILL)
            with os.fdopen(pipe) as lines:
                text = lines.read()
            _, status = os.waitpid(process, 0)
            slow = pipe not in ready or os.WTERMSIG(status) == signal.SIGXCPU
            late = "takes too long" if slow else f"the process ended ({status})"
            yield Result(**json.loads(text)) if text else Result(model.name, "crashed", late)


def _started(model: Model) -> tuple[int, int]:
    read, write = os.pipe()
    process = os.fork()
    if process:
        os.close(write)
        return read, process
    try:
        os.close(read)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))  # of work, not of waiting
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        begin = time.monotonic()
        result = asdict(compare(model))
        result["seconds"] = time.monotonic() - begin
        os.write(write, json.dumps(result).encode())
    finally:
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
