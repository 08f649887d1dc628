"""Run a function on several ranks: children of this process, which has loaded PyTorch already."""

from __future__ import annotations

import datetime
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from typing import TextIO

import torch
import torch.distributed as dist

SECONDS = 120  # after which a test has hung


def on_ranks(
    size: int, function: Callable[[int], object], timeout: float = 60, dies: tuple[int, ...] = ()
) -> None:
    """Call ``function(rank)`` on each rank of a gloo group.

    Args:
        size: how many ranks.
        function: raises if something is wrong.
        timeout: seconds that a collective waits.
        dies: ranks that may end as they like.
    """
    with tempfile.TemporaryDirectory() as folder:
        meet = f"file://{folder}/meet"
        calls = [partial(_call, rank, size, function, timeout, meet) for rank in range(size)]
        status = _wait([_fork(call) for call in calls])
    hung = [rank for rank in range(size) if rank not in status]
    assert not hung, f"ranks {hung} hang"
    failed = {rank: code for rank, code in status.items() if code and rank not in dies}
    assert not failed, f"exit statuses {failed}"


def torchrun(script: str, cwd: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script on two ranks as `torchrun` does, which would load PyTorch three times for it.

    Args:
        script: its file in ``cwd``.
        cwd: where the ranks run.
        env: their environment, to which the variables of `torchrun` are added.

    Raises:
        subprocess.CalledProcessError: a rank failed or hangs; the other one is ended.
    """
    # An optimizer loads as much again of PyTorch, here once and not in each rank.
    torch.optim.SGD([torch.zeros(1)])
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    env = env | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        ranks = [env | {"RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
        calls = [partial(_run, script, cwd, rank, out, err) for rank in ranks]
        status = _wait([_fork(call) for call in calls], together=True)
        out.seek(0)
        err.seek(0)
        stdout, stderr = out.read(), err.read()
    failed = [code for code in status.values() if code]
    if failed or len(status) < 2:
        raise subprocess.CalledProcessError((failed or [-9])[0], script, stdout, stderr)
    return subprocess.CompletedProcess(script, 0, stdout, stderr)


def _fork(function: Callable[[], object]) -> int:
    sys.stdout.flush()  # or the child writes what is buffered a second time
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        function()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait(children: list[int], together: bool = False) -> dict[int, int]:
    """The exit status of each rank that ended by itself.

    The others are killed after ``SECONDS``, or as soon as one has failed if they end ``together``.
    """
    begin, status, waiting = time.monotonic(), {}, dict(enumerate(children))
    while waiting and time.monotonic() - begin < SECONDS:
        for rank, child in list(waiting.items()):
            found, code = os.waitpid(child, os.WNOHANG)
            if found:
                status[rank] = os.waitstatus_to_exitcode(code)
                del waiting[rank]
        if together and any(status.values()):
            break
        time.sleep(0.01)
    for child in waiting.values():
        os.kill(child, 9)
        os.waitpid(child, 0)
    return status


def _call(
    rank: int, size: int, function: Callable[[int], object], timeout: float, meet: str
) -> None:
    torch.manual_seed(rank)
    dist.init_process_group(
        "gloo",
        init_method=meet,
        rank=rank,
        world_size=size,
        timeout=datetime.timedelta(seconds=timeout),
    )
    function(rank)


def _run(script: str, cwd: str, env: dict[str, str], out: TextIO, err: TextIO) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    warnings.resetwarnings()  # pytest has made errors of them
    torch.seed()
    runpy.run_path(script, run_name="__main__")
