"""One browser, one JupyterLab and one page for all tests of a worker; where there is no browser, one line says how to get it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.jupyter import MISSING, PROJECTOR, QUIET, Lab, chromium, lesson_of
from tests.browser.server import Server
from tools.say import ROOT


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several workers, each takes the next lesson as a whole, so that every lesson is opened and run once.

    pytest-xdist's own way, the mark `xdist_group`, has no effect with pytest 9.2 and pytest-xdist 3.8.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByLesson(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return lesson_of(nodeid) or nodeid.split("::")[0]

    return ByLesson(config, log)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    program = chromium()
    if program is None:
        if os.environ.get("FNLIB_REQUIRE_BROWSER") == "1":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=program, args=QUIET)
        # One context at a projector's size for all pages: they share its cache, and JupyterLab is loaded and compiled once.
        yield chrome.new_context(viewport=PROJECTOR)
        chrome.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[Server]:
    """The kit in a copy, so that what the browser saves changes nothing here; the name has a space and an accent."""
    root = tmp_path_factory.mktemp("kit") / "le modèle"
    ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for folder in ("lessons", "fnlib"):
        shutil.copytree(ROOT / folder, root / folder, ignore=ignored)
    running = Server(root, tmp_path_factory.mktemp("private"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def lab(browser: Any, server: Server) -> Iterator[Lab]:
    page = Lab(browser, server)
    yield page
    page.close()


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where screenshots go: a folder that git ignores, kept to be looked at."""
    return Path(os.environ.get("FNLIB_PICTURES", "build/browser"))
