"""A pytest plugin for notebooks: their kernels are forks of a process that has imported PyTorch and other libraries.

A kernel that starts afresh spends two to four seconds of a processor on these imports. `fnlib` isn't among them: each
kernel imports it itself. The process is Python's own fork server, one for each worker of pytest. A variable that PyTorch
reads when it's imported has to be set for the worker; the first cell of a notebook imports it, so cells set one too late.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from jupyter_client.provisioning import local_provisioner

LIBRARIES = [
    "ipykernel.kernelapp",
    "ipywidgets",
    "matplotlib.pyplot",
    "sklearn.datasets",
    "torch._dynamo",  # an optimizer imports it when it's made
    "torch.distributed",
]


def pytest_configure() -> None:
    """Let `jupyter_client` fork a kernel where it would start a program.

    Only on Linux: Windows has no fork, and on macOS a library may not survive it.
    """
    if sys.platform == "linux":
        multiprocessing.set_forkserver_preload(LIBRARIES)
        local_provisioner.launch_kernel = Kernel  # type: ignore[assignment,attr-defined]


class Kernel:
    """What `jupyter_client` uses of a `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(
        self, command: Sequence[str], env: dict[str, str], cwd: str | None = None, **_: Any
    ) -> None:
        arguments = command[command.index("ipykernel_launcher") + 1 :]
        self._process = multiprocessing.get_context("forkserver").Process(
            target=_run, args=(arguments, env, cwd or os.getcwd(), _path_of_a_program(env))
        )
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid
        while self.poll() is None and os.getpgid(self.pid) != self.pid:
            time.sleep(0.001)  # a kernel is killed with its group, which must not be the worker's

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


def _path_of_a_program(env: dict[str, str]) -> list[str]:
    """Where a program looks for modules; pytest looks in more places."""
    command = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.path[1:]))"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))


def _run(arguments: Sequence[str], env: dict[str, str], cwd: str, path: list[str]) -> None:
    """Become a kernel, as the program `ipykernel_launcher` does."""
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:] = path
    sys.argv[:] = ["ipykernel_launcher.py", *arguments]
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    for name in ("tests", __name__):
        sys.modules.pop(name, None)
    threading.Thread(target=_end_with_the_worker, daemon=True).start()
    import numpy  # what is imported here is imported already in this process, and not in the worker
    import torch
    from ipykernel.kernelapp import launch_new_instance

    numpy.random.seed()  # each process draws numbers of its own until it sets a seed
    torch.seed()
    launch_new_instance()


def _end_with_the_worker() -> None:
    """End a kernel that nobody has shut down, as `ipykernel` does when its parent is gone."""
    worker = multiprocessing.parent_process()
    assert worker is not None
    worker.join()
    os._exit(1)
