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
from pathlib import Path
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
        children = [
            _child(rank, size, function, timeout, Path(folder, "meet")) for rank in range(size)
        ]
        begin, status = time.monotonic(), dict.fromkeys(range(size), -1)
        waiting = dict(enumerate(children))
        while waiting and time.monotonic() - begin < SECONDS:
            for rank, child in list(waiting.items()):
                found, code = os.waitpid(child, os.WNOHANG)
                if found:
                    status[rank] = os.waitstatus_to_exitcode(code)
                    del waiting[rank]
            time.sleep(0.01)
        for child in waiting.values():
            os.kill(child, 9)
            os.waitpid(child, 0)
    assert not waiting, f"ranks {list(waiting)} hang"
    failed = {rank: code for rank, code in status.items() if code and rank not in dies}
    assert not failed, f"exit statuses {failed}"


def _child(
    rank: int, size: int, function: Callable[[int], object], timeout: float, meet: Path
) -> int:
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        torch.manual_seed(rank)
        dist.init_process_group(
            "gloo",
            init_method=f"file://{meet}",
            rank=rank,
            world_size=size,
            timeout=datetime.timedelta(seconds=timeout),
        )
        function(rank)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def torchrun(script: str, cwd: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script on two ranks as `torchrun` does, which would load PyTorch three times for it.

    Args:
        script: its file in ``cwd``.
        cwd: where the ranks run.
        env: their environment, to which the variables of `torchrun` are added.

    Raises:
        subprocess.CalledProcessError: a rank failed; the other one is ended.
    """
    torch.optim.SGD(
        [torch.zeros(1)]
    )  # loads as much again of PyTorch, here once and not in each rank
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    meet = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        ranks = {
            _script(
                script, cwd, env | meet | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, out, err
            )
            for rank in range(2)
        }
        begin, status = time.monotonic(), 0
        while ranks:
            for child in [*ranks]:
                found, code = os.waitpid(child, os.WNOHANG)
                if found:
                    ranks.remove(child)
                    status = status or os.waitstatus_to_exitcode(code)
            if status or time.monotonic() - begin > SECONDS:
                status = status or -9
                for child in ranks:
                    os.kill(child, 9)
            time.sleep(0.01)
        out.seek(0)
        err.seek(0)
        said, told = out.read(), err.read()
    if status:
        raise subprocess.CalledProcessError(status, script, said, told)
    return subprocess.CompletedProcess(script, 0, said, told)


def _script(script: str, cwd: str, env: dict[str, str], out: TextIO, err: TextIO) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        warnings.resetwarnings()  # pytest has made errors of them
        torch.seed()
        runpy.run_path(script, run_name="__main__")
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
