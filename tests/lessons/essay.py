"""No run of eight words is shared with the essay that the kit answers. The essay is somebody else's: only hashes are kept here.

python tests/lessons/essay.py ESSAY.md > tests/lessons/essay_hashes.txt
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

RUN = 8
HASHES = Path(__file__).with_name("essay_hashes.txt")


def words(text: str) -> list[str]:
    """The words of a text; code, addresses and quotations (lines that begin with ``>``) are left out."""
    text = re.sub(r"^```.*?^```[^\n]*$", " ", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^>.*$", " ", text, flags=re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "] ", re.sub(r"`[^`\n]*`", " ", text))
    return re.findall(r"[a-z0-9]+", text.lower().replace("'", "").replace("\u2019", ""))


def runs(text: str) -> dict[str, str]:
    """Each run of eight words, by its hash."""
    found = words(text)
    joined = (" ".join(found[start : start + RUN]) for start in range(len(found) - RUN + 1))
    return {hashlib.blake2b(run.encode(), digest_size=5).hexdigest(): run for run in joined}


def shared(text: str) -> list[str]:
    """The runs that the essay has too."""
    known = set(HASHES.read_text(encoding="utf-8").split())
    return [run for key, run in runs(text).items() if key in known]


if __name__ == "__main__":
    print("\n".join(sorted(runs(Path(sys.argv[1]).read_text(encoding="utf-8")))))
