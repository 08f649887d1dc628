"""Every lesson, opened and run in JupyterLab in a browser, at a projector's size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.jupyter import CODE, Lab, Notebook, lesson_of
from tests.browser.readers import IN_JUPYTERLAB, serious
from tests.browser.server import Peak, Server
from tests.browser.widgets import move_all
from tools.checks import LONGEST_NOTEBOOKS
from tools.say import ROOT

# The longest first, or one of two workers waits at the end while the other is at one of them.
LESSONS = [
    path.relative_to(ROOT).as_posix()
    for path in sorted(
        (ROOT / "lessons").glob("[0-9]*.ipynb"),
        key=lambda path: (path.name[:2] not in LONGEST_NOTEBOOKS, path),
    )
]
LESSONS += [
    "lessons/museum/room_03_sharing_lost_and_unwanted.ipynb"
]  # one for all eighteen rooms: made by one hand, and the widest
LIMIT = 1_000_000_000  # what a Binder machine gives for sure, server included
# Lesson 13 starts torchrun and two ranks, and each of them imports PyTorch: alone it fits into Binder's 2 GB.
LIMITS = {"13": 1_600_000_000}
PEAKS: dict[str, int] = {}  # measured while each lesson ran


@pytest.fixture(scope="module", params=LESSONS)
def lesson(
    request: pytest.FixtureRequest, lab: Lab, server: Server, pictures: Path
) -> Iterator[Notebook]:
    """A lesson after "run all", which is the only time that it is run; the tests below look at the same open page in turn."""
    notebook = lab.open(request.param)
    with Peak(server) as peak:
        notebook.run_all()
    PEAKS[request.param] = peak.bytes
    notebook.pictures(pictures)
    yield notebook
    notebook.close()


def test_its_tests_are_known_to_belong_together(
    lesson: Notebook, request: pytest.FixtureRequest
) -> None:
    """By their names, after which the workers share the lessons out (conftest.py): else each lesson is run by both."""
    assert lesson_of(request.node.nodeid) == lesson.name


def test_it_runs_without_an_error(lesson: Notebook) -> None:
    assert not lesson.kernel_errors()
    assert not lesson.shown_errors()
    assert not lesson.page_errors
    numbers = lesson.page.locator(f"{CODE} .jp-InputArea-prompt").all_inner_texts()
    assert all(number.strip() != "[*]:" for number in numbers), "a cell is still running"


def test_it_fits_the_projector(lesson: Notebook) -> None:
    """Nothing has to be scrolled sideways at 1280 x 720: no line of code, no table, no picture."""
    assert not too_wide(lesson, ".cm-scroller, .jp-RenderedMarkdown, .jp-OutputArea-output")


def test_axe_finds_no_serious_fault(lesson: Notebook) -> None:
    """axe-core finds no serious accessibility fault in any lesson."""
    assert not serious(lesson.page, IN_JUPYTERLAB)


def test_the_dark_theme_shows_the_same(lesson: Notebook, pictures: Path) -> None:
    with lesson.dark():
        lesson.one_picture(pictures / "dark")
        faults = serious(lesson.page, IN_JUPYTERLAB)
    assert not faults


def test_text_at_double_size_stays_readable(lesson: Notebook, pictures: Path) -> None:
    """Code and tables may scroll; running text and controls may not be cut off, nor the ledger's last column be out of sight."""
    style = lesson.page.add_style_tag(
        content=":root { --jp-content-font-size1: 28px !important; --jp-code-font-size: 26px !important; "
        "--jp-ui-font-size1: 26px !important; --jp-widgets-font-size: 26px !important; }"
    )
    lesson.page.wait_for_timeout(300)
    lesson.one_picture(pictures / "200 percent")
    wide = too_wide(
        lesson,
        ".jp-RenderedMarkdown > p, .jp-RenderedMarkdown > ul, .jp-RenderedMarkdown > ol, .jp-RenderedMarkdown > h1, "
        ".jp-RenderedMarkdown > h2, .jp-RenderedMarkdown > h3",
    )
    unseen = lesson.page.evaluate("""() => [...document.querySelectorAll('.jp-Notebook .jp-OutputArea-output th')]
        .filter(head => head.innerText.trim() === 'how')
        .filter(head => head.getBoundingClientRect().left + 40 > head.closest('div').getBoundingClientRect().right).length""")
    style.evaluate("element => element.remove()")
    assert not wide and not unseen


def test_every_widget_moves_something(lesson: Notebook) -> None:
    """Last of those that look at the page as it was run: it changes what is shown."""
    moved = move_all(lesson)
    assert not [str(move) for move in moved if not move.effect]
    assert not lesson.kernel_errors() and not lesson.shown_errors()


def test_no_request_leaves_the_machine(lesson: Notebook) -> None:
    assert not lesson.strangers


def test_a_lesson_fits_a_binder_machine(lesson: Notebook) -> None:
    """So any two at once fit 2 GB, but for lesson 13: kernels are processes of their own, and the server is counted with each."""
    number = Path(lesson.name).name[:2]
    assert 100_000_000 < PEAKS[lesson.name] < LIMITS.get(number, LIMIT), (
        f"{PEAKS[lesson.name] / 1e6:.0f} MB with the server"
    )


def too_wide(notebook: Notebook, selector: str) -> list[str]:
    """The parts that are wider than the place they have, with what they begin with."""
    return list(
        notebook.page.evaluate(
            """selector => [...document.querySelector('.jp-Notebook').querySelectorAll(selector)]
        .filter(e => e.offsetParent !== null && e.scrollWidth > e.clientWidth + 2 && getComputedStyle(e).display !== 'inline')
        .map(e => `${e.className}: ${e.scrollWidth} > ${e.clientWidth}: ${e.innerText.slice(0, 160)}`)""",
            selector,
        )
    )


def test_the_keyboard_alone_runs_a_lesson_and_moves_a_slider(browser: Any, server: Server) -> None:
    """On a page of its own, loaded for it: where the keyboard stands then is where a reader begins."""
    name = next(
        (path for path in sorted(LESSONS) if "Slider" in (ROOT / path).read_text(encoding="utf-8")),
        LESSONS[0],
    )
    fresh = Lab(browser, server)
    notebook = fresh.open(name)
    page = notebook.page
    for _ in range(
        60
    ):  # JupyterLab puts a reader on the first cell; where it does not, the Tab key leads there
        if page.evaluate("document.activeElement.closest('.jp-Notebook') !== null"):
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    for _ in range(page.locator(".jp-Notebook .jp-Cell").count() - 1):
        page.keyboard.press("Shift+Enter")
    page.keyboard.press("Control+Enter")  # Shift+Enter would add a cell behind the last one
    page.wait_for_function(
        f"""() => ![...document.querySelectorAll('{CODE} .jp-InputArea-prompt')]
        .some(prompt => ['[*]:', '[ ]:'].includes(prompt.innerText.trim()))""",
        timeout=120_000,
    )
    handles = page.locator(".jp-Notebook .noUi-handle")
    if handles.count():
        page.evaluate("window.jupyterapp.shell.currentWidget.content.activeCellIndex = 0")
        page.keyboard.press("Escape")
        for _ in range(600):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.classList.contains('noUi-handle')"):
                break
        value = page.evaluate("document.activeElement.getAttribute('aria-valuenow')")
        assert value is not None, "no slider is reached with the Tab key"
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.getAttribute('aria-valuenow')") != value
    notebook.close()
    fresh.close()
