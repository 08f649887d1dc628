"""Run a function on several ranks: children of this process, which has loaded PyTorch already."""

from __future__ import annotations

import datetime
import os
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

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
