"""nbval runs every lesson, both editions, with the network cut: the cut is seen to cut, and to leave this machine's own ports alone."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tools import checks

TRY = """
{cut}
import socket, urllib.request
{line}
print("went through")
"""


def run(line: str, cut: str = checks.NO_NETWORK) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", TRY.format(cut=cut, line=line)],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "line",
    [
        "urllib.request.urlopen('https://example.org')",
        "socket.create_connection(('192.0.2.1', 80), timeout=1)",  # an address that belongs to nobody, without a name to look up
        "socket.getaddrinfo('example.org', 443)",
    ],
)
def test_a_fetch_is_refused_with_what_it_asked_for(line: str) -> None:
    done = run(line)
    assert done.returncode and "tested with the network cut, and this asks for" in done.stderr, (
        done.stderr
    )


def test_this_machine_can_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert (
            "went through"
            in run(
                f"socket.create_connection(('127.0.0.1', {server.getsockname()[1]})).close()"
            ).stdout
        )


def test_every_kernel_of_the_stages_begins_with_the_cut(tmp_path: Path) -> None:
    """IPython runs what lies in the profile's startup folder, and IPYTHONDIR names the folder of the profile."""
    from jupyter_client.manager import start_new_kernel

    settings = checks._settings(tmp_path)
    manager, client = start_new_kernel(
        env=settings, extra_arguments=["--IPKernelApp.log_level=ERROR"]
    )
    try:
        reply = client.execute_interactive(
            "import socket; socket.getaddrinfo('example.org', 443)",
            timeout=60,
            output_hook=lambda _: None,
        )
        assert reply["content"]["ename"] == "ConnectionRefusedError"
        assert (
            client.execute_interactive("1 + 1", timeout=60, output_hook=lambda _: None)["content"][
                "status"
            ]
            == "ok"
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
