"""How the kit speaks: one sentence, and an end with a non-zero status."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BINDER = "or open the kit on Binder (the button in README.md)"


class Stop(Exception):
    """Ends the command with one sentence, which says what is wrong and what to do."""


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
