"""The server that the browser tests talk to: a real JupyterLab on a copy of the kit, and what it holds in memory."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import psutil

TOKEN = "browser-tests"
# Windowed notebooks take cells that are out of sight from the page; the tests look at all of them at once.
SETTINGS = {
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {"fetchNews": "false"},
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
}


class Server:
    """JupyterLab on a folder, as `make lab` starts it, with proxies that lead nowhere: kernels reach no other machine."""

    def __init__(self, root: Path, private: Path) -> None:
        self.root = root
        for name, value in SETTINGS.items():
            file = private / "settings" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(value))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        nowhere = {
            name: "http://127.0.0.1:9"
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
        }
        environment = dict(
            os.environ,
            OMP_NUM_THREADS="1",
            PYDEVD_DISABLE_FILE_VALIDATION="1",
            NO_PROXY="127.0.0.1,localhost",
            JUPYTER_RUNTIME_DIR=str(private / "runtime"),
            IPYTHONDIR=str(private / "ipython"),
            **nowhere,
        )
        environment.pop(
            "MPLBACKEND", None
        )  # set for the tests themselves; a learner's kernel has the inline backend
        self.log = private / "server.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "jupyterlab",
                    "--no-browser",
                    "--allow-root",
                    "--ip=127.0.0.1",
                    f"--port={self.port}",
                    "--ServerApp.port_retries=0",
                    f"--IdentityProvider.token={TOKEN}",
                    f"--ServerApp.root_dir={root}",
                    "--expose-app-in-browser",
                    "--LabApp.extension_manager=readonly",
                    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
                    f"--LabApp.user_settings_dir={private / 'settings'}",
                    f"--LabApp.workspaces_dir={private / 'workspaces'}",
                ],
                env=environment,
                stdout=log,
                stderr=log,
            )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urllib.request.urlopen(self.address + "/api", timeout=5).close()
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError("JupyterLab did not start:\n" + self.log.read_text()[-2000:])

    def memory(self) -> int:
        """The bytes that the server and its kernels hold now."""
        total = 0
        for process in [
            psutil.Process(self.process.pid),
            *psutil.Process(self.process.pid).children(recursive=True),
        ]:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Peak:
    """The highest memory of the server and its kernels while the block runs."""

    def __init__(self, server: Server) -> None:
        self.server, self.bytes, self._done = server, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self.bytes = max(self.bytes, self.server.memory())

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
