"""The browser that the lessons are tried in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MISSING = (
    "no Chromium was found, so the lessons are not tried in a browser: on Debian `apt-get install -y chromium`, elsewhere "
    "install Chrome, or point CHROMIUM at the program"
)


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
