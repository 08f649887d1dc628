"""Write a page for each code of the doctor, from the texts that its reports are made of.

python -m course.findings            write lessons/findings/
python -m course.findings --check    change nothing; fail if a page is stale
"""

from __future__ import annotations

import sys
from pathlib import Path

from fnlib.ledger.doctor.explain import rule
from fnlib.ledger.findings.texts import TEXTS
from fnlib.teaching.explain import markdown
from tools.say import ROOT, say

FOLDER = ROOT / "lessons" / "findings"
HEAD = """# What the doctor finds

<!-- python -m course.findings -->

A page for each code: what it means, why it matters, what to write, an example, and where it was met.
On the command line, `fnlib explain CODE` says the same.

| code | what |
|---|---|
"""


def pages() -> dict[Path, str]:
    """Return the text of each page, by its file."""
    rows = [f"| [{code}]({code}.md) | {rule(code).what} |" for code in TEXTS]
    texts = {"README": HEAD + "\n".join(rows) + "\n", **{code: markdown(code) for code in TEXTS}}
    return {FOLDER / f"{name}.md": text for name, text in texts.items()}


def main(arguments: list[str]) -> int:
    """Write the pages, or say which are stale."""
    made, there = pages(), set(FOLDER.glob("*.md"))
    stale = [path for path, text in made.items() if path not in there or path.read_text() != text]
    stale += sorted(there - made.keys())
    if "--check" in arguments:
        for path in stale:
            say(f"{path.relative_to(ROOT)} is stale: python -m course.findings")
        return 1 if stale else 0
    FOLDER.mkdir(exist_ok=True)
    for path in stale:
        if path in made:
            path.write_text(made[path], encoding="utf-8", newline="\n")
        else:
            path.unlink()
    say(f"{len(made)} pages in {FOLDER.relative_to(ROOT)}, {len(stale)} of them changed")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
