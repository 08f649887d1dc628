"""The browser tests can fail: notebooks with one fault each, and the fault is found. And a kernel that dies loses no work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.browser.jupyter import CODE, Lab, Notebook
from tests.browser.readers import IN_JUPYTERLAB, serious
from tests.browser.server import Peak, Server
from tests.browser.widgets import move_all

NOTEBOOKS = {
    "good": [
        """
import ipywidgets as w
from IPython.display import display
slider, out = w.IntSlider(description="rate", max=5), w.HTML()
button, choice = w.Button(description="reset"), w.RadioButtons(options=["a", "b", "c"])
menu, play = w.Dropdown(options=["x", "y"]), w.Play(max=3, interval=200)
w.jslink((play, "value"), (slider, "value"))
def show(change=None):
    out.value = f"<b>{slider.value} {choice.value} {menu.value}</b>"
def reset(_):
    slider.value = 0
for widget in (slider, choice, menu):
    widget.observe(show, "value")
button.on_click(reset)
show()
display(w.VBox([slider, button, choice, menu, play, out]))"""
    ],
    "callback": [
        """
import ipywidgets as w
def show(x):
    if x: raise RuntimeError("seen only in the callback")
    print(x)
w.interact(show, x=(0, 3));"""
    ],
    "observer": [
        """
import ipywidgets as w
slider, out = w.IntSlider(max=3), w.HTML("unchanged")
def broken(change):
    raise KeyError("silent in the page")
slider.observe(broken, "value")
w.VBox([slider, out])"""
    ],
    "dead": [
        "import ipywidgets as w\nw.VBox([w.IntSlider(description='dead', max=3), w.HTML('nothing moves')])"
    ],
    "stranger": [
        'from IPython.display import HTML\nHTML(\'<img src="https://example.org/picture.png" alt="">\')'
    ],
    "stderr": ["import sys\nprint('a warning', file=sys.stderr)"],
    "raises": ["1 / 0"],
    "wide": ["print('x' * 5)", "'" + "y" * 200 + "'"],
    "faint": [
        """
from IPython.display import HTML
HTML('<p style="color: #999">too faint in the light theme</p><p style="color: #666">too faint in the dark one</p><img src="data:,">')"""
    ],
    "hungry": ["held = bytearray(b'x') * 400_000_000"],
    "hungry too": ["held = bytearray(b'x') * 400_000_000"],
    "killed": [
        "kept = 'my answer'\nprint(kept)",
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    ],
}


@pytest.fixture(scope="module")
def trials(server: Server) -> str:
    """The notebooks above, in a folder beside the lessons."""
    folder = server.root / "trials"
    folder.mkdir()
    for name, cells in NOTEBOOKS.items():
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in cells]
        )
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder.name


@pytest.fixture
def opened(request: pytest.FixtureRequest, lab: Lab, trials: str) -> Iterator[Notebook]:
    notebook = lab.open(f"{trials}/{request.param}.ipynb")
    notebook.run_all()
    yield notebook
    notebook.close()


def by_name(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("opened", [name], indirect=True)


@by_name("good")
def test_every_kind_of_control_is_moved(opened: Notebook) -> None:
    moved = move_all(opened)
    kinds = sorted(move.kind for move in moved)
    assert kinds == ["button", "list", "play", "radio", "radio", "slider"], [
        str(move) for move in moved
    ]
    assert all(move.effect for move in moved), [str(move) for move in moved if not move.effect]
    assert (
        not opened.kernel_errors()
        and not opened.shown_errors()
        and not opened.strangers
        and not opened.page_errors
    )


@by_name("callback")
def test_an_error_in_interact_is_seen(opened: Notebook) -> None:
    move_all(opened, patience=1)
    assert any(
        "seen only in the callback" in error
        for error in opened.kernel_errors() + opened.shown_errors()
    )


@by_name("observer")
def test_an_error_that_the_page_hides_is_seen(opened: Notebook) -> None:
    moved = move_all(opened, patience=1)
    assert [move.effect for move in moved] == [False]
    assert any("silent in the page" in error for error in opened.kernel_errors())


@by_name("dead")
def test_a_control_without_effect_is_seen(opened: Notebook) -> None:
    assert [(move.kind, move.label, move.effect) for move in move_all(opened, patience=1)] == [
        ("slider", "dead", False)
    ]


@by_name("stranger")
def test_a_request_to_another_machine_is_seen_and_stopped(opened: Notebook) -> None:
    assert set(opened.strangers) == {"https://example.org/picture.png"}


@by_name("stderr")
def test_output_on_stderr_is_seen(opened: Notebook) -> None:
    assert opened.shown_errors() == ["a warning"]


@by_name("raises")
def test_an_error_in_a_cell_is_seen(opened: Notebook) -> None:
    assert any("ZeroDivisionError" in error for error in opened.kernel_errors())


@by_name("faint")
def test_faults_of_a_cell_are_seen_inside_jupyterlab(
    opened: Notebook,
) -> None:
    """Find text without contrast and a picture without alternative text inside JupyterLab.

    axe-core must test the output on its own: JupyterLab's layout makes it treat all of it as hidden.
    """
    light = " ".join(serious(opened.page, IN_JUPYTERLAB))
    with opened.dark():
        dark = " ".join(serious(opened.page, IN_JUPYTERLAB))
    for found, seen, not_seen in (
        (light, "light theme", "dark one"),
        (dark, "dark one", "light theme"),
    ):
        assert "color-contrast" in found and "a picture without words" in found, found
        assert seen in found and not_seen not in found, found


def test_faults_are_seen_on_a_page(browser: Any) -> None:
    """Find text without contrast and a picture without alternative text on a plain page."""
    page = browser.new_page()
    page.set_content(
        '<html lang="en"><title>page</title><body><main>'
        '<p style="color: #999; background: #fff">too faint</p><img src="data:,"></main></body></html>'
    )
    found = " ".join(serious(page, ["main"]))
    page.close()
    assert "color-contrast" in found and "image-alt" in found


def test_a_page_that_axe_cannot_see_is_not_taken_for_a_good_one(browser: Any) -> None:
    page = browser.new_page()
    page.set_content(
        '<html lang="en"><title>page</title><body><main hidden><p>never shown</p></main></body></html>'
    )
    found = serious(page, ["main"])
    page.close()
    assert found == ["axe-core saw no text whose contrast it could measure"]


def test_what_a_failed_test_left_open_is_closed_before_the_next(lab: Lab, trials: str) -> None:
    lab.open(f"{trials}/dead.ipynb")
    second = lab.open(f"{trials}/good.ipynb")
    assert second.page.locator(".jp-NotebookPanel").count() == 1
    second.close()
    assert second.page.locator(".jp-NotebookPanel").count() == 0


def test_the_memory_of_the_kernels_and_of_the_server_is_seen(
    lab: Lab, server: Server, trials: str
) -> None:
    """Of two notebooks at once too: each holds its own, and the server hardly more than before."""
    alone = server.memory()
    assert alone > 50_000_000, "JupyterLab itself"
    first = lab.open(f"{trials}/hungry.ipynb")
    with Peak(server) as one:
        first.run_all()
    second = lab.open(f"{trials}/hungry too.ipynb", beside=True)
    with Peak(server) as two:
        second.run_all()
    first.close()
    second.close()
    assert alone + 400_000_000 < one.bytes < alone + 600_000_000
    assert one.bytes + 400_000_000 < two.bytes < one.bytes + 600_000_000


@pytest.mark.skipif(
    not hasattr(__import__("signal"), "SIGKILL"), reason="Windows ends processes in another way"
)
def test_a_killed_kernel_is_told_and_loses_no_work(lab: Lab, trials: str) -> None:
    notebook = lab.open(f"{trials}/killed.ipynb")
    page = notebook.page
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells'); undefined")
    dialog = page.locator(".jp-Dialog")
    dialog.wait_for()
    assert "restart automatically" in dialog.inner_text()
    page.keyboard.press("Enter")
    dialog.wait_for(state="detached")
    first = page.locator(CODE).first
    assert "my answer" in first.locator(".cm-content").inner_text()  # the code
    assert "my answer" in first.locator(".jp-OutputArea").inner_text()  # and what it printed
    page.wait_for_function(
        "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"
    )
    page.evaluate("window.jupyterapp.shell.currentWidget.content.activeCellIndex = 0")
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-cell')")
    assert (
        first.locator(".jp-InputPrompt").inner_text().strip() == "[1]:"
    )  # the new kernel goes on with it
    notebook.close()


def test_where_there_is_no_browser_one_line_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tests.browser import jupyter

    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setattr(jupyter.shutil, "which", lambda name: None)
    monkeypatch.setattr(Path, "exists", lambda self: False)
    assert jupyter.chromium() is None
    assert "apt-get install -y chromium" in jupyter.MISSING and "\n" not in jupyter.MISSING
