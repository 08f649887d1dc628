"""The old formula, a belief and its refutation in two sentences, is gone from everything that people read."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FORMULA = re.compile(r"You may think|(?<![\w-])[Ii]t is not so(?![\w-])|(?<!\w)not so:")
READ = ("fnlib", "lessons", "course", "docs")  # folders, and the pages beside them


def texts() -> dict[Path, str]:
    """Each file that people read, with its text; of a notebook, cells and outputs."""
    files = [*ROOT.glob("*.md")]
    for folder in READ:
        files += [
            p
            for p in (ROOT / folder).rglob("*")
            if p.suffix in (".py", ".md", ".toml", ".ipynb", ".gift")
        ]
    return {
        path: json.dumps(json.loads(text)["cells"]) if path.suffix == ".ipynb" else text
        for path in files
        if (text := path.read_text(encoding="utf-8"))
    }


def test_nobody_is_told_what_they_may_think() -> None:
    found = {
        str(path.relative_to(ROOT)): len(FORMULA.findall(text))
        for path, text in texts().items()
        if FORMULA.search(text)
    }
    assert not found


def test_the_formula_would_be_found() -> None:
    """The pattern knows the sentences that stood in the old lessons."""
    for old in (
        "You may think that `detach` copies.",
        "It is not so: the two share their storage.",
        "is a snapshot. It is not so.",
    ):
        assert FORMULA.search(old), old
    assert not FORMULA.search("a loop is not so short")
