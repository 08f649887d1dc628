"""A forked kernel is like one that was started as a program, and ends like one."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning import local_provisioner

from tests import forked_kernels
from tools.say import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux")

LOOK = """
import os, random, signal, sys, threading, warnings
import matplotlib, numpy, torch, torch.optim
print({
    "loaded before": [name for name in ("fnlib", "course", "pytest", "tests") if name in sys.modules],
    "path": sys.path,
    "program": os.path.basename(sys.argv[0]),
    "folder": os.getcwd(),
    "environment": {k: v for k, v in os.environ.items() if k not in ("JPY_PARENT_PID", "JPY_SESSION_NAME")},
    "leads a group": os.getpgid(0) == os.getpid(),
    "interrupted by": str(signal.getsignal(signal.SIGINT)),
    "threads": (threading.active_count(), torch.get_num_threads()),
    "backend": matplotlib.get_backend(),
    "seeds": (torch.initial_seed(), numpy.random.rand(), random.random()),
    "flags": str(sys.flags),
    "user's module": (__name__, sys.modules["__main__"].__dict__ is globals()),
})
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function that starts a kernel in a folder of its own."""
    started = []

    def one(forked: bool) -> tuple[KernelManager, Any]:
        if forked:
            monkeypatch.setattr(local_provisioner, "launch_kernel", local_provisioner.launch_kernel)
            forked_kernels.pytest_configure()
        manager = KernelManager()
        manager.start_kernel(cwd=str(tmp_path))
        client = manager.client()
        started.append((manager, client))
        client.start_channels()
        client.wait_for_ready(timeout=60)
        return manager, client

    yield one
    for manager, client in started:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def printed(client: Any, code: str) -> str:
    said = []
    client.execute_interactive(
        code,
        timeout=60,
        output_hook=lambda message: said.append(message["content"].get("text", "")),
    )
    return "".join(said)


def test_it_is_like_a_program(start: Any) -> None:
    """Its path, folder, environment, signals and threads are those of a kernel that starts afresh."""
    afresh, forked, again = (
        ast.literal_eval(printed(start(how)[1], LOOK)) for how in (False, True, True)
    )
    _, first, second = (one.pop("seeds") for one in (afresh, forked, again))
    assert forked == afresh == again
    assert not {*first} & {*second}, "nobody has set a seed"


def test_it_is_interrupted_and_killed(start: Any) -> None:
    """With the processes that it has started, and without its worker."""
    manager, client = start(True)
    asked = client.execute(
        "import subprocess, time; print(subprocess.Popen(['sleep', '60']).pid); time.sleep(60)",
        stop_on_error=False,  # the next request comes soon, and isn't left out
    )
    child = None
    while child is None:
        content = client.get_iopub_msg(timeout=60)["content"]
        child = content.get("text", "").strip() or None
    manager.interrupt_kernel()
    reply = client.get_shell_msg(timeout=60)
    while reply["parent_header"]["msg_id"] != asked:
        reply = client.get_shell_msg(timeout=60)
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    assert manager.is_alive()
    child = int(printed(client, "print(subprocess.Popen(['sleep', '60']).pid)"))
    manager.shutdown_kernel(now=True)
    assert not manager.is_alive()
    wait_for_the_end_of(child)


def test_it_ends_with_its_worker(tmp_path: Path) -> None:
    """No kernel is left over where pytest was killed."""
    code = """
import os
from jupyter_client.manager import KernelManager
from tests import forked_kernels
forked_kernels.pytest_configure()
manager = KernelManager()
manager.start_kernel()
open('kernel', 'w').write(str(manager.provisioner.pid))
os._exit(0)
"""
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    wait_for_the_end_of(int((tmp_path / "kernel").read_text()))


def wait_for_the_end_of(process: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    raise AssertionError(f"process {process} is still running")


def test_elsewhere_a_kernel_is_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    before = local_provisioner.launch_kernel
    monkeypatch.setattr(sys, "platform", "darwin")
    forked_kernels.pytest_configure()
    assert local_provisioner.launch_kernel is before
