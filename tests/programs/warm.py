"""Serve runs from one process that has imported PyTorch: each is a fork, so that none pays for the imports.

Reads a line of JSON for each run: folder, environment, arguments of Python, seconds, files for output and errors.
Writes a line with the exit status and the processor seconds.
"""

from __future__ import annotations

import gc
import json
import os
import random
import resource
import runpy
import signal
import sys
import time
import traceback
from typing import Any

import numpy  # noqa: F401
import torch
import torchvision  # noqa: F401

import fnlib.__main__


def child(job: dict[str, Any]) -> int:
    """Become the program: its folder, environment, files and arguments."""
    os.setpgrp()
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    for number, name in ((0, os.devnull), (1, job["output"]), (2, job["errors"])):
        mode = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(name, mode), number)
    torch.set_num_threads(1)
    random.seed(0)  # a fork seeds it from the clock
    path = job["environment"].get("PYTHONPATH", "").split(os.pathsep)
    *options, script = job["arguments"][: job["script"] + 1]
    sys.path[:] = [os.path.dirname(os.path.abspath(script)), *path, *SEARCH]
    try:
        if options:  # -m fnlib doctor ...
            sys.path[0] = os.getcwd()
            sys.argv = ["fnlib", *job["arguments"][2:]]
            return fnlib.__main__.main()
        sys.argv = job["arguments"]
        runpy.run_path(script, run_name="__main__")
        return 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    except BaseException:
        traceback.print_exc()
        return 1


def end(job: dict[str, Any]) -> None:
    """Run a job and leave, without the parent's clean-up."""
    status = 1
    try:
        status = child(job)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def serve(job: dict[str, Any]) -> dict[str, Any]:
    """Fork, wait with a limit, and measure."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    number = os.fork()
    if number == 0:
        end(job)
    late, status = time.monotonic() + job["seconds"], None
    while status is None:
        done, code = os.waitpid(number, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(code)
        elif time.monotonic() > late:
            os.killpg(number, signal.SIGKILL)
            os.waitpid(number, 0)
            status = -1
        else:
            time.sleep(0.05)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"status": status, "seconds": spent}


if __name__ == "__main__":
    SEARCH = [place for place in sys.path[1:] if place]
    answers = os.fdopen(os.dup(1), "w")
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), file=answers, flush=True)
