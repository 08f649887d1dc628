"""Whether those can read a page who see little, or hear it read out."""
from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe

IN_JUPYTERLAB = [".jp-RenderedMarkdown", ".jp-OutputArea-output"]


def serious(page: Any, parts: list[str]) -> list[str]:
    """What axe-core calls serious or critical in these parts of a page; JupyterLab's menus are not ours to change.

    Nor is the handle of an ipywidgets slider, to which ipywidgets gives no name: instead its visible label must be there.
    """
    results = Axe().run(page, context={"include": [[part] for part in parts]}).response
    found = [f"{finding['id']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}" for finding in results["violations"]
             if finding["impact"] in ("serious", "critical") for node in finding["nodes"] if "noUi-handle" not in node["html"]]
    unnamed = page.evaluate("""() => [...document.querySelectorAll('.jp-Notebook .widget-slider')]
        .filter(slider => !slider.querySelector('.widget-label')?.innerText.trim()).length""")
    return found + ["a slider without a visible label"] * unnamed
