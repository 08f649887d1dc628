"""Run every complete lesson and write it as an HTML page that needs no network.

    python -m course.pages                     all lessons, to build/lessons/
    python -m course.pages lessons/solutions/01_*.ipynb --out build/look

Prints a table of seconds and peak memory. Fails if a lesson fails, passes its budget, shows a picture without
alternative text, or asks for something from the network.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from pathlib import Path

from nbformat import NotebookNode

from course import editions
from course.execute import MEGABYTES, SECONDS, Run, run
from fnlib.teaching.notebook import ROOT

# nbconvert's colours for code and prompts are too faint on their grey, its links differ from the text by colour alone.
READABLE = """<style>
.jp-InputPrompt, .jp-OutputPrompt { color: #24588a !important; opacity: 1 !important; }
.jp-RenderedHTMLCommon a:link, .jp-RenderedHTMLCommon a:visited { text-decoration: underline; }
:root { --jp-mirror-editor-keyword-color: #006400; --jp-mirror-editor-atom-color: #00529c; --jp-mirror-editor-number-color: #006400;
  --jp-mirror-editor-def-color: #0000cc; --jp-mirror-editor-variable-color: #212121; --jp-mirror-editor-comment-color: #3d6464;
  --jp-mirror-editor-string-color: #a31515; --jp-mirror-editor-operator-color: #7a14b8; --jp-mirror-editor-meta-color: #7a14b8;
  --jp-mirror-editor-builtin-color: #006400; --jp-mirror-editor-error-color: #b00000; }
</style>
"""


def page(notebook: NotebookNode, folder: Path, title: str) -> str:
    """A notebook that was run, as one HTML page with its figures inside.

    Args:
        notebook: with its outputs.
        folder: where the relative links of the notebook start.
        title: of the page.

    Returns:
        HTML that loads nothing from anywhere.
    """
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    offline = {"mathjax_url": "", "require_js_url": "", "jquery_url": "", "mermaid_js_url": ""}
    exporter = HTMLExporter(config=Config(HTMLExporter=offline), embed_images=True)
    resources = {"metadata": {"path": str(folder), "name": title}}
    text, _ = exporter.from_notebook_node(notebook, resources=resources)
    text = text.replace("</head>", READABLE + "</head>", 1)
    # all pages lie in one folder, the museum's rooms too
    return re.sub(
        r'(<a href=")(?!https?:)(?:[^"]*/)?([^"/]*)\.ipynb"', r'\1\2.html"', _without_network(text)
    )


def faults(text: str, ran: Run) -> list[str]:
    """What is wrong with a page and with the run behind it, in words; empty if nothing is."""
    found = []
    if ran.seconds > SECONDS:
        found.append(f"took {ran.seconds:.1f} s, the budget is {SECONDS:.0f} s")
    if ran.megabytes > MEGABYTES:
        found.append(f"took {ran.megabytes:.0f} MB, the budget is {MEGABYTES:.0f} MB")
    for image in re.findall(r"<img\b[^>]*>", text):
        alt = re.search(r'\balt="([^"]*)"', image)
        if alt is None or not alt.group(1).strip() or alt.group(1).startswith("No description"):
            found.append(f"a picture has no alternative text: {image[:80]}")
    found += [f"asks the network for {address}" for address in requests(text)]
    for cell in ran.notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "stream" and output.name == "stderr":
                found.append(f"a cell wrote to stderr: {output.text.strip()[:120]}")
    return found


def requests(text: str) -> list[str]:
    """Addresses that a browser would load by itself when it opens this page; links that wait for a click are not."""
    tag = r"""<(?:script|img|iframe|source|video|audio|link)\b[^>]*?\b(?:src|href)=["']?"""
    code = r"""\bimport\s*\(?["']|\bfrom\s+["']|url\(["']?"""
    return re.findall(rf"(?:{tag}|{code})(https?://[^\"')\s>]+)", text)


def _without_network(text: str) -> str:
    """Drop the scripts that nbconvert loads from elsewhere; the lessons write no formulas and no diagrams in them."""
    return re.sub(
        r"<script\b[^>]*>.*?</script>",
        lambda match: "" if requests(match.group()) or 'src=""' in match.group() else match.group(),
        text,
        flags=re.DOTALL,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 if every lesson ran inside its budget and made a sound page."""
    from tqdm import tqdm

    parser = argparse.ArgumentParser(
        prog="python -m course.pages", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument(
        "notebooks", nargs="*", type=Path, help="complete lessons; all if none is given"
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "lessons", help="folder to write to"
    )
    options = parser.parse_args(arguments)
    paths = options.notebooks or [*editions.sources(), *editions.rooms()]
    options.out.mkdir(parents=True, exist_ok=True)
    rows, bad = [], []
    with tqdm(
        total=len(paths), unit="lesson", leave=False, disable=None
    ) as bar:  # None: no bar where nobody watches
        for path in paths:
            bar.set_description(path.stem)

            def cell_done(done: int, of: int, stem: str = path.stem) -> None:
                bar.set_description(f"{stem}, cell {done} of {of}")

            try:
                ran = run(editions.read(path), path.resolve().parent, cell_done)
            except (
                Exception
            ) as problem:  # reported in the table; the other lessons still get their pages
                rows.append(f"{path.stem:<44}  failed")
                bad.append(f"{path.name}: {_end(problem)}")
            else:
                text = page(ran.notebook, path.resolve().parent, path.stem)
                (options.out / f"{path.stem}.html").write_text(text, encoding="utf-8", newline="\n")
                rows.append(f"{path.stem:<44} {ran.seconds:6.1f} s {ran.megabytes:6.0f} MB")
                bad += [f"{path.name}: {fault}" for fault in faults(text, ran)]
            bar.update()
    print(
        f"{'lesson':<44} {'seconds':>8} {'memory':>9}   (budget {SECONDS:.0f} s, {MEGABYTES:.0f} MB)"
    )
    print("\n".join(rows) or "There are no lessons yet.")
    print("\n".join(bad) or f"{len(paths)} pages in {options.out}")
    return 1 if bad else 0


def _end(problem: Exception) -> str:
    """The last lines of a message, without colours: what went wrong in a cell stands at its end."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(problem)).strip()
    return textwrap.indent("\n".join(plain.splitlines()[-12:]), "    ").lstrip()


if __name__ == "__main__":
    sys.exit(main())
