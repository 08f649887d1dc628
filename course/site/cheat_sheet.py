"""The cheat sheet: a page of the site, and one sheet of A4 to print.

python -m course.site.cheat_sheet build/cheat_sheet.pdf      write the sheet, by a Chromium browser
python -m course.site.cheat_sheet build/cheat_sheet.html     the same without a browser
"""

from __future__ import annotations

import argparse
import html
import shutil
import sys
from pathlib import Path

from course.cheat_sheet import cheat_sheet
from fnlib.teaching.notebook import ROOT

PRINTED = "cheat_sheet_print.html"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
NOTE = (
    "Each column is a script that begins with <code>import copy, torch</code> and <code>from torch import nn</code>; a test "
    "runs its lines from top to bottom, with nothing in between. <code>x, y</code> is a batch and <code>batches</code> a list "
    "of them. <code>layers()</code>, <code>criterion</code>, <code>path</code> and, for JAX, <code>net(p, x)</code> and "
    "<code>init(key)</code> are yours; <code>init</code> returns a dictionary with names such as <code>0.weight</code>. Some rows "
    "assume more. Momentum, in <code>torch.func</code>: the current velocity <code>v</code>. "
    "BatchNorm: a BatchNorm layer called <code>norm</code>; in <code>fnlib</code>, a model <code>normed</code> that contains "
    "one; in JAX, the arrays <code>mean</code> and <code>var</code>. Many models: the list <code>nets</code>; in "
    "<code>fnlib</code>, the list <code>values</code> with the parameters of each."
)
STYLE = """
@page { size: A4 landscape; margin: 6mm; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 285mm; color: #111; background: #fff;
       font: 7.2pt/1.25 "DejaVu Sans", "Segoe UI", Arial, sans-serif; }
h1 { font-size: 10.5pt; margin: 0; }
p { margin: 0.8mm 0 1.2mm; }
table { border-collapse: collapse; width: 100%; table-layout: fixed; }
th, td { border: 0.2mm solid #999; padding: 0.5mm 0.8mm; text-align: left; vertical-align: top; }
thead th { background: #e8eef4; font-size: 7.6pt; }
tbody th { font-weight: 600; font-size: 6.4pt; }
thead th:first-child { width: 20mm; }
tbody tr:nth-child(even) { background: #f5f5f5; }
tr { break-inside: avoid; }
pre, code { font-family: "DejaVu Sans Mono", Consolas, Menlo, monospace; }
pre { margin: 0; font-size: 5.8pt; line-height: 1.22; white-space: pre-wrap; }
@media screen { body { padding: 3mm; } }
"""


def table() -> str:
    """Write the sheet's table, in HTML."""
    columns, rows = cheat_sheet()
    head = "".join(f'<th scope="col">{html.escape(one.title)}</th>' for one in columns)
    lines = [f'<table class="table" id="cheat-sheet"><thead><tr><th scope="col">task</th>{head}</tr></thead><tbody>']  # fmt: skip
    for row in rows:
        cells = "".join(
            f"<td><pre>{html.escape(row.cells[one.key].code)}</pre></td>" for one in columns
        )
        lines.append(f'<tr><th scope="row">{html.escape(row.task)}</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody></table>"])


def sheet() -> str:
    """Write the whole sheet, one page of A4 across."""
    title = "One training loop in four columns: a cheat sheet"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f"<style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n<p>{NOTE}</p>\n{table()}\n</body></html>\n"
    )


def page(introduction: str) -> str:
    """Write the page of the site: its introduction, and a section a task, where a phone has room for one column."""
    columns, rows = cheat_sheet()
    link = f'<p><a href="{PRINTED}">All of it on one page of A4, to print</a>.</p>'
    parts = [introduction, _raw(f"{link}\n<p>{NOTE}</p>")]
    for row in rows:
        cells = "\n".join(
            f"<div><p>{html.escape(one.title)}</p><pre>{html.escape(row.cells[one.key].code)}</pre></div>"
            for one in columns
        )
        parts += [
            f"## {row.task[0].upper()}{row.task[1:]}",
            _raw(f'<div class="cheat">{cells}</div>'),
        ]
    return "\n".join(parts)


def _raw(text: str) -> str:
    return f"\n```{{raw}} html\n{text}\n```\n"


def print_sheet(target: Path) -> None:
    """Print the sheet to a PDF file.

    Raises:
        RuntimeError: there's no playwright or no Chromium here.
    """
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        raise RuntimeError(
            "A PDF needs Chromium and `pip install playwright`. Or write a .html file, and print it from your browser."
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=OPTIONS)
        tab = browser.new_page()
        tab.set_content(sheet())
        tab.pdf(path=target, prefer_css_page_size=True, print_background=True)
        browser.close()


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 if the sheet was written."""
    parser = argparse.ArgumentParser(
        prog="python -m course.site.cheat_sheet", description=__doc__.split("\n\n")[0]
    )
    default = ROOT / "build" / "cheat_sheet.pdf"
    parser.add_argument(
        "target", type=Path, nargs="?", default=default, help="a .pdf or .html file"
    )
    target = parser.parse_args(arguments).target
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".html":
        target.write_text(sheet(), encoding="utf-8", newline="\n")
    else:
        try:
            print_sheet(target)
        except RuntimeError as problem:
            print(problem, file=sys.stderr)
            return 1
    print(f"The sheet is in {target}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
