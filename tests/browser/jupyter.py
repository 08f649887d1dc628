"""A real JupyterLab in a real browser, on a copy of the lessons: what the browser tests drive."""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import psutil

TOKEN = "browser-tests"
MISSING = ("no Chromium was found, so the lessons are not tried in a browser: on Debian `apt-get install -y chromium`, elsewhere "
           "install Chrome, or point CHROMIUM at the program")
# Windowed notebooks take cells that are out of sight from the page; the tests look at all of them at once.
SETTINGS = {
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {"fetchNews": "false"},
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
}
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
CODE = ".jp-Notebook .jp-CodeCell"


def chromium() -> str | None:
    """The browser to use: CHROMIUM, or the first that is installed."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
    places = ("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", r"C:\Program Files\Google\Chrome\Application\chrome.exe")
    found = [os.environ.get("CHROMIUM"), *map(shutil.which, names), *(place for place in places if Path(place).exists())]
    return next(filter(None, found), None)


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
        nowhere = {name: "http://127.0.0.1:9" for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")}
        environment = dict(os.environ, OMP_NUM_THREADS="1", PYDEVD_DISABLE_FILE_VALIDATION="1", NO_PROXY="127.0.0.1,localhost",
                           JUPYTER_RUNTIME_DIR=str(private / "runtime"), IPYTHONDIR=str(private / "ipython"), **nowhere)
        environment.pop("MPLBACKEND", None)  # set for the tests themselves; a learner's kernel has the inline backend
        self.log = private / "server.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={self.port}",
                 "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={root}",
                 "--expose-app-in-browser", "--LabApp.extension_manager=readonly",
                 "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
                 f"--LabApp.user_settings_dir={private / 'settings'}", f"--LabApp.workspaces_dir={private / 'workspaces'}"],
                env=environment, stdout=log, stderr=log)
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
        for process in [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]:
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


@dataclass
class Notebook:
    """A notebook that is open in the browser."""

    page: Any
    name: str
    folder: Path  # what the server shows
    strangers: list[str] = field(default_factory=list)  # requests that went to another machine
    page_errors: list[str] = field(default_factory=list)
    peak: int = 0

    def run_all(self, seconds: float = 180) -> None:
        """Runs every cell as the menu does and waits until the page shows what came of it."""
        self.page.evaluate("window.kitMessages = []; undefined")
        self.page.evaluate("""() => {
            const session = window.jupyterapp.shell.currentWidget.sessionContext;
            session.iopubMessage.connect((_, m) => {
                if (m.header.msg_type === 'error') window.kitMessages.push(m.content.ename + ': ' + m.content.evalue);
            });
        }""")
        self.page.evaluate("window.kitDone = false; window.jupyterapp.commands.execute('notebook:run-all-cells')"
                           ".then(() => { window.kitDone = true; }); undefined")
        self.page.wait_for_function("window.kitDone", timeout=seconds * 1000)
        self.page.wait_for_timeout(700)  # outputs and widgets are drawn after the kernel has answered

    def kernel_errors(self) -> list[str]:
        """Every exception a kernel reported, those of widget callbacks included, which show nothing in the cell."""
        return list(self.page.evaluate("window.kitMessages"))

    def shown_errors(self) -> list[str]:
        shown = self.page.locator(f"{CODE} [data-mime-type='application/vnd.jupyter.error'], "
                                  f"{CODE} [data-mime-type='application/vnd.jupyter.stderr']")
        return [text.strip()[-400:] for text in shown.all_inner_texts()]

    def state(self, cell: int) -> str:
        """What a reader sees of a cell's output, apart from the controls themselves."""
        return hashlib.sha256(self.page.locator(CODE).nth(cell).evaluate("""cell => {
            const area = cell.querySelector('.jp-Cell-outputWrapper').cloneNode(true);
            for (const control of area.querySelectorAll('.widget-readout, .noUi-target, select, input, .widget-play, .widget-button'))
                control.remove();
            return JSON.stringify([area.innerText, area.textContent,
                                   ...[...area.querySelectorAll('img')].map(i => i.src),
                                   ...[...area.querySelectorAll('svg')].map(s => s.outerHTML)]);
        }""").encode()).hexdigest()

    def changes(self, cell: int, before: str, seconds: float = 10) -> bool:
        """Whether the cell's output comes to differ from what it was."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.state(cell) != before:
                self.settle(cell)
                return True
            time.sleep(0.1)
        return False

    def settle(self, cell: int, seconds: float = 5) -> None:
        """Waits until the output no longer changes, so that a late drawing is not taken for the next control's effect."""
        deadline, last = time.monotonic() + seconds, self.state(cell)
        while time.monotonic() < deadline:
            time.sleep(0.25)
            now = self.state(cell)
            if now == last:
                return
            last = now

    def theme(self, dark: bool) -> None:
        """Changes JupyterLab's theme, as its menu does, and waits until the page has it."""
        self.page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})",
                           "JupyterLab Dark" if dark else "JupyterLab Light")
        self.page.wait_for_function("dark => document.body.dataset.jpThemeLight === String(!dark)", arg=dark)
        self.page.wait_for_timeout(300)

    def saved(self) -> nbformat.NotebookNode:
        """The notebook with its outputs, saved as Ctrl-S does."""
        self.page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
        return nbformat.read(self.folder / self.name, as_version=4)

    def pictures(self, folder: Path) -> None:
        """Screenshots of the page as a projector shows it, one for each height of the window."""
        folder.mkdir(parents=True, exist_ok=True)
        scroller = self.page.locator(".jp-WindowedPanel-outer").first
        height, total = scroller.evaluate("e => [e.clientHeight, e.scrollHeight]")
        for number, top in enumerate(range(0, max(total, 1), max(height - 40, 1))):
            scroller.evaluate("(e, top) => e.scrollTo(0, top)", top)
            self.page.wait_for_timeout(60)
            self.page.screenshot(path=str(folder / f"{Path(self.name).stem}-{number:02d}.png"))
        scroller.evaluate("e => e.scrollTo(0, 0)")

    def one_picture(self, folder: Path) -> None:
        """The whole lesson in one tall screenshot: quicker than one for each height."""
        folder.mkdir(parents=True, exist_ok=True)
        total = self.page.locator(".jp-WindowedPanel-outer").first.evaluate("e => e.scrollHeight")
        self.page.set_viewport_size({"width": 1280, "height": min(total + 150, 16_000)})  # Chromium draws no taller page
        self.page.wait_for_timeout(300)
        self.page.screenshot(path=str(folder / f"{Path(self.name).stem}.png"))
        self.page.set_viewport_size({"width": 1280, "height": 720})

    def close(self) -> None:
        """Ends the kernel too: the next lesson's memory is its own."""
        self.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self.page.close()


def open_notebook(browser: Any, server: Server, name: str) -> Notebook:
    """Opens one notebook and waits for its kernel."""
    page = browser.new_page()
    page.set_default_timeout(60_000)
    notebook = Notebook(page, name, server.root)

    def watch(request: Any) -> None:
        if not request.url.startswith((server.address, f"ws://127.0.0.1:{server.port}", "data:", "blob:")):
            notebook.strangers.append(request.url)

    page.on("request", watch)
    page.on("pageerror", lambda error: notebook.page_errors.append(str(error)))
    page.route(lambda address: not address.startswith((server.address, "data:", "blob:")), lambda route: route.abort())
    page.goto(f"{server.address}/lab/workspaces/{Path(name).stem[:2]}{time.monotonic_ns()}/tree/{name}?token={TOKEN}")
    page.wait_for_function("""() => {
        const widget = window.jupyterapp && window.jupyterapp.shell.currentWidget;
        return widget && widget.context && widget.context.isReady && widget.sessionContext.session
            && widget.sessionContext.session.kernel && widget.sessionContext.session.kernel.status === 'idle';
    }""")
    return notebook
