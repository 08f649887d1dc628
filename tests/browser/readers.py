"""Whether those can read a page who see little, or hear it read out."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe

IN_JUPYTERLAB = [".jp-RenderedMarkdown", ".jp-OutputArea-output"]
# JupyterLab's <body> is 0 pixels high and hides what overflows; what we see are children placed over it. axe-core takes all
# of that for hidden text and measures no contrast in it. With the height of the window it sees what a reader sees.
TALL = "body { min-height: 100vh !important; }"


def serious(page: Any, parts: list[str]) -> list[str]:
    """What axe-core calls serious or critical in these parts of a page; JupyterLab's menus are not ours to change.

    Nor are links in running text: JupyterLab marks them by colour alone, and axe-core reports each (link-in-text-block, "The link has
    no styling (such as underline) to distinguish it from the surrounding text"), in both themes. Pages of our own underline them.
    Nor is the handle of an ipywidgets slider, to which ipywidgets gives no name: instead its visible label must be there.
    A picture without words is looked for by hand, for JupyterLab calls each of them "Image". A page on which axe-core found
    no text to measure counts as a fault too: it was not looked at.
    """
    tall = page.add_style_tag(content=TALL)
    results = Axe().run(page, context={"include": [[part] for part in parts]}).response
    tall.evaluate("element => element.remove()")
    theirs = {"link-in-text-block"} if parts == IN_JUPYTERLAB else set()
    ours = [
        finding
        for finding in results["violations"]
        if finding["impact"] in ("serious", "critical") and finding["id"] not in theirs
    ]
    found = [
        f"{finding['id']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
        for finding in ours
        for node in finding["nodes"]
        if "noUi-handle" not in node["html"]
    ]
    if not [
        rule
        for outcome in ("violations", "passes")
        for rule in results[outcome]
        if rule["id"] == "color-contrast"
    ]:
        found.append("axe-core saw no text whose contrast it could measure")
    found += page.evaluate(
        """parts => [...document.querySelectorAll(parts.map(part => `${part} img[alt=Image]`).join())]
        .map(picture => 'a picture without words: ' + picture.outerHTML.slice(0, 200))""",
        parts,
    )
    unnamed = page.evaluate("""() => [...document.querySelectorAll('.jp-Notebook .widget-slider')]
        .filter(slider => !slider.querySelector('.widget-label')?.innerText.trim()).length""")
    return found + ["a slider without a visible label"] * unnamed
