"""A real JupyterLab in a real browser: the page, a notebook that is open in it, and what a reader sees of it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

from tests.browser.server import TOKEN, Server

MISSING = (
    "no Chromium was found, so the lessons are not tried in a browser: on Debian `apt-get install -y chromium`, elsewhere "
    "install Chrome, or point CHROMIUM at the program"
)
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NOTEBOOK = (
    ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook"  # the one in front, where two are open
)
CODE = f"{NOTEBOOK} .jp-CodeCell"
PROJECTOR = {"width": 1280, "height": 720}
# Resolves when nothing in the element has changed for a while, or at last when the limit is over.
UNCHANGED = """(element, [still, limit]) => new Promise(resolve => {
    let timer = setTimeout(end, still);
    const last = setTimeout(end, limit), observer = new MutationObserver(() => { clearTimeout(timer); timer = setTimeout(end, still); });
    observer.observe(element, {subtree: true, childList: true, characterData: true, attributes: true});
    function end() { observer.disconnect(); clearTimeout(timer); clearTimeout(last); resolve(); }
})"""
# Resolves when the kernel has answered a question, or when the limit is over.
ANSWERED = """limit => Promise.race([
    window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestKernelInfo(),
    new Promise(resolve => setTimeout(resolve, limit))]).then(() => undefined)"""
# The notebook in front is the one that was asked for, and its kernel waits for work.
READY = """path => {
    const widget = window.jupyterapp && window.jupyterapp.shell.currentWidget;
    return widget && widget.context && widget.context.path === path && widget.context.isReady && widget.sessionContext.session
        && widget.sessionContext.session.kernel && widget.sessionContext.session.kernel.status === 'idle';
}"""
# Ends the kernel of one notebook, or of all, and closes it without the question whether to save.
CLOSE = """async path => {
    const open = [...window.jupyterapp.shell.widgets('main')].filter(widget => widget.sessionContext);
    for (const widget of open.filter(widget => !path || widget.context.path === path)) {
        await widget.sessionContext.shutdown();
        widget.dispose();
    }
}"""


def lesson_of(test: str) -> str:
    """The lesson that a test looks at, from the test's name; empty where it looks at none.

    >>> lesson_of("tests/browser/test_lessons.py::test_it_fits[lessons/01_five_lines.ipynb]")
    'lessons/01_five_lines.ipynb'
    """
    found = re.search(r"\[(lessons/.+\.ipynb)\]$", test)
    return found.group(1) if found else ""


def chromium() -> str | None:
    """The browser to use: CHROMIUM, or the first that is installed."""
    names = (
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
        "chrome",
        "msedge",
    )
    places = (
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
        r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    )
    found = [
        os.environ.get("CHROMIUM"),
        *map(shutil.which, names),
        *(place for place in places if Path(place).exists()),
    ]
    return next(filter(None, found), None)


@dataclass
class Notebook:
    """A notebook that is open in the browser."""

    page: Any
    name: str
    folder: Path  # what the server shows
    strangers: list[str] = field(default_factory=list)  # requests that went to another machine
    page_errors: list[str] = field(default_factory=list)

    def run_all(self, seconds: float = 180) -> None:
        """Runs every cell as the menu does and waits until the page shows what came of it."""
        self.page.evaluate("window.kitMessages = []; undefined")
        self.page.evaluate("""() => {
            const session = window.jupyterapp.shell.currentWidget.sessionContext;
            session.iopubMessage.connect((_, m) => {
                if (m.header.msg_type === 'error') window.kitMessages.push(m.content.ename + ': ' + m.content.evalue);
            });
        }""")
        self.page.evaluate(
            "window.kitDone = false; window.jupyterapp.commands.execute('notebook:run-all-cells')"
            ".then(() => { window.kitDone = true; }); undefined"
        )
        self.page.wait_for_function("window.kitDone", timeout=seconds * 1000)
        self.page.locator(NOTEBOOK).evaluate(
            UNCHANGED, [400, 5000]
        )  # what is shown comes after the kernel's answer

    def kernel_errors(self) -> list[str]:
        """Every exception a kernel reported, those of widget callbacks included, which show nothing in the cell."""
        return list(self.page.evaluate("window.kitMessages"))

    def shown_errors(self) -> list[str]:
        shown = self.page.locator(
            f"{CODE} [data-mime-type='application/vnd.jupyter.error'], "
            f"{CODE} [data-mime-type='application/vnd.jupyter.stderr']"
        )
        return [text.strip()[-400:] for text in shown.all_inner_texts()]

    def state(self, cell: int) -> str:
        """What a reader sees of a cell's output, apart from the controls themselves."""
        return hashlib.sha256(
            self.page.locator(CODE)
            .nth(cell)
            .evaluate("""cell => {
            const area = cell.querySelector('.jp-Cell-outputWrapper').cloneNode(true);
            for (const control of area.querySelectorAll('.widget-readout, .noUi-target, select, input, .widget-play, .widget-button'))
                control.remove();
            return JSON.stringify([area.innerText, area.textContent,
                                   ...[...area.querySelectorAll('img')].map(i => i.src),
                                   ...[...area.querySelectorAll('svg')].map(s => s.outerHTML)]);
        }""")
            .encode()
        ).hexdigest()

    def changes(self, cell: int, before: str, seconds: float = 10) -> bool:
        """Whether the cell's output comes to differ from what it was."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.state(cell) != before:
                self.settle(cell)
                return True
            time.sleep(0.03)
        return False

    def settle(self, cell: int, seconds: float = 5) -> None:
        """Waits until the output no longer changes, so that a late drawing is not taken for the next control's effect.

        The kernel answers in the order in which it is asked: with the answer, what was asked before is done.
        """
        self.page.evaluate(ANSWERED, seconds * 1000)
        self.page.locator(CODE).nth(cell).locator(".jp-Cell-outputWrapper").evaluate(
            UNCHANGED, [100, seconds * 1000]
        )

    @contextmanager
    def dark(self) -> Iterator[None]:
        """JupyterLab's dark theme while the block runs."""
        self._theme("JupyterLab Dark")
        try:
            yield
        finally:
            self._theme("JupyterLab Light")

    def _theme(self, theme: str) -> None:
        """Changes the theme, as the menu does, and waits until the page has it."""
        self.page.evaluate(
            "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", theme
        )
        self.page.wait_for_function(
            "light => document.body.dataset.jpThemeLight === light",
            arg=str(theme.endswith("Light")).lower(),
        )
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
        self.page.set_viewport_size(
            {**PROJECTOR, "height": min(total + 150, 16_000)}
        )  # Chromium draws no taller page
        self.page.wait_for_timeout(300)
        self.page.screenshot(path=str(folder / f"{Path(self.name).stem}.png"))
        self.page.set_viewport_size(PROJECTOR)

    def close(self) -> None:
        """Ends the kernel too: the next lesson's memory is its own."""
        self.page.evaluate(CLOSE, self.name)


class Lab:
    """One page of JupyterLab, loaded once: each notebook opens in it as from the list of files, and is closed again."""

    def __init__(self, browser: Any, server: Server) -> None:
        self.browser, self.server = browser, server
        self.page: Any = None
        self.strangers: list[str] = []
        self.page_errors: list[str] = []

    def open(self, name: str, beside: bool = False) -> Notebook:
        """Opens one notebook and waits for its kernel; the first one through the address that `make lab` opens.

        What is open already, for example because its test failed, is closed first; `beside` leaves it open.
        """
        self.strangers, self.page_errors = [], []
        if self._usable():
            if not beside:
                self.page.evaluate(CLOSE, "")
            self.page.evaluate(
                "path => window.jupyterapp.commands.execute('docmanager:open', {path}).then(() => undefined)",
                name,
            )
        else:
            self._load(name)
        self.page.wait_for_function(READY, arg=name)
        return Notebook(self.page, name, self.server.root, self.strangers, self.page_errors)

    def _usable(self) -> bool:
        """Not where a failed test left a question open, or the page is gone."""
        try:
            return self.page is not None and bool(
                self.page.evaluate("!!window.jupyterapp && !document.querySelector('.jp-Dialog')")
            )
        except Exception:  # of the browser's driver, whatever its class
            return False

    def _load(self, name: str) -> None:
        self.close()
        page = self.page = self.browser.new_page()
        page.set_default_timeout(60_000)
        here = (self.server.address, f"ws://127.0.0.1:{self.server.port}", "data:", "blob:")
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith(here) else self.strangers.append(request.url)
            ),
        )
        page.on("pageerror", lambda error: self.page_errors.append(str(error)))
        page.route(lambda address: not address.startswith(here), lambda route: route.abort())
        page.goto(
            f"{self.server.address}/lab/workspaces/w{time.monotonic_ns()}/tree/{name}?token={TOKEN}"
        )

    def close(self) -> None:
        if self.page is not None:
            self.page.close()
