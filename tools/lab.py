"""JupyterLab on the lessons."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
import webbrowser

from tools.say import ROOT, Stop, say

LESSONS = ROOT / "lessons"


def open_lessons(python: str) -> int:
    """Opens JupyterLab on the first lesson and serves until it is stopped.

    The port is PORT from the environment, or 8888. A server that already shows this folder is opened again: two servers
    on one folder would save over each other.

    Raises:
        Stop: where another program holds the port.
    """
    running = _already_open(python)
    first = next(iter(sorted(LESSONS.glob("[0-9]*.ipynb"))), None)
    page = (
        "/lab/tree/" + urllib.parse.quote(first.relative_to(ROOT).as_posix()) if first else "/lab"
    )
    if running:
        address = running["url"].rstrip("/") + page + "?token=" + running["token"]
        say(f"The kit is already open here; this is its address: {address}")
        webbrowser.open(address)
        return 0
    port = _free_port(os.environ.get("PORT", ""))
    if not os.access(LESSONS, os.W_OK):
        say(
            f"{LESSONS} cannot be written: the lessons run, but what you change in them is not kept. Copy the folder to one of your own."
        )
    if not _has_browser():
        say(
            "No browser was found on this machine: open the address that JupyterLab prints below in a browser of your own."
        )
    command = [
        python,
        "-m",
        "jupyterlab",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={ROOT}",
        f"--LabApp.default_url={page}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
        "--log-level=WARN",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # containers
    if os.name != "nt":
        os.execv(
            python, command
        )  # so that Ctrl-C reaches JupyterLab alone, which asks before it stops the kernels
    return subprocess.call(command)


def _already_open(python: str) -> dict[str, str] | None:
    """The running server that shows this folder, as `jupyter server list` knows it."""
    listing = subprocess.run(
        [python, "-m", "jupyter_server", "list", "--json"], capture_output=True, text=True
    ).stdout
    for line in listing.splitlines():
        try:
            server = json.loads(line)
        except ValueError:
            continue
        if os.path.realpath(server.get("root_dir", "")) == os.path.realpath(ROOT) and _answers(
            server["url"]
        ):
            return {"url": server["url"], "token": server["token"]}
    return None


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address.rstrip("/") + "/api", timeout=2)
    except OSError:
        return False
    return True


def _free_port(asked: str) -> int:
    if asked and not (asked.isdigit() and 0 < int(asked) < 65536):
        raise Stop(f"PORT={asked} is not a port: give a number such as PORT=8899.")
    port = int(asked or 8888)
    with socket.socket() as probe:
        if os.name != "nt":
            probe.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # as JupyterLab does: a port just closed is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            other = port + 11 if port < 65000 else 8899
            raise Stop(
                f"port {port} is taken by another program: call with another one, for example make lab PORT={other} "
                f"(or python tools/kit.py lab PORT={other})."
            ) from None
    return port


def _has_browser() -> bool:
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True
