"""One browser for all tests in it; where there is none, one line says how to get it."""
from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.jupyter import MISSING, QUIET, chromium


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
        yield chrome.new_context(viewport={"width": 1280, "height": 720})
        chrome.close()


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where screenshots go: a folder that git ignores, kept to be looked at."""
    return Path(os.environ.get("FNLIB_PICTURES", "build/browser"))
