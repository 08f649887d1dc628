"""Moves every control of a notebook as a hand would, and says which had no effect on the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.browser.jupyter import CODE, Notebook

# One entry for each kind of control: where it is, and how it is moved. Order: what changes values, before what starts or resets.
CONTROLS: dict[str, tuple[str, Callable[[Any], None]]] = {}


def control(kind: str, selector: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    def register(move: Callable[[Any], None]) -> Callable[[Any], None]:
        CONTROLS[kind] = (selector, move)
        return move

    return register


@control("slider", ".noUi-handle")
def move_slider(handle: Any) -> None:
    """By keyboard; back where it already stands at its end."""
    now, most = (handle.get_attribute(name) for name in ("aria-valuenow", "aria-valuemax"))
    handle.focus()
    handle.press("ArrowLeft" if now == most else "ArrowRight")


@control("list", "select")
def choose_another(select: Any) -> None:
    options = select.locator("option:not([disabled])")
    chosen = select.evaluate("s => s.selectedIndex")
    select.select_option(index=(chosen + 1) % options.count())


@control("radio", "input[type=radio]")
def choose_radio(radio: Any) -> None:
    radio.check()


@control("checkbox", "input[type=checkbox]")
def toggle(checkbox: Any) -> None:
    checkbox.click()


@control("text", "input[type=text], input[type=number], textarea")
def write(field: Any) -> None:
    field.fill("3")
    field.press("Enter")


@control("toggle", ".widget-toggle-button, .widget-toggle-buttons button")
def press_toggle(button: Any) -> None:
    button.click()


@control("play", ".widget-play button:first-of-type")
def play(button: Any) -> None:
    button.click()


@control("button", ".widget-button:not(.widget-toggle-button)")
def press(button: Any) -> None:
    button.click()


ANY = ", ".join(selector for selector, _ in CONTROLS.values())


@dataclass(frozen=True)
class Moved:
    """One control that was moved."""

    cell: int
    kind: str
    label: str
    effect: bool

    def __str__(self) -> str:
        return f"cell {self.cell}: {self.kind} {self.label!r}"


def move_all(notebook: Notebook, patience: float = 6) -> list[Moved]:
    """Moves each control of each cell; a control without an effect gets a second try after the others were moved.

    "Back" does nothing on the first page, "reset" nothing on what is new: only after the others were moved is a control
    that changes nothing one that has no effect. An effect is waited for `patience` seconds.
    """
    moved: list[Moved] = []
    for cell in range(notebook.page.locator(CODE).count()):
        if not _area(notebook, cell).locator(f":is({ANY})").count():
            continue
        notebook.settle(cell)
        found = [
            (kind, number)
            for kind, (selector, _) in CONTROLS.items()
            for number in range(_area(notebook, cell).locator(f":is({selector})").count())
        ]
        outcomes = {which: _move(notebook, cell, *which, patience) for which in found}
        for which in [
            which
            for which, outcome in outcomes.items()
            if outcome is not None and not outcome.effect
        ]:
            for other in found:
                if other != which and other[0] != "play":
                    _move(notebook, cell, *other, 1)
            outcomes[which] = _move(notebook, cell, *which, patience)
        moved += [outcome for outcome in outcomes.values() if outcome is not None]
    return moved


def _area(notebook: Notebook, cell: int) -> Any:
    return notebook.page.locator(CODE).nth(cell).locator(".jp-Cell-outputWrapper")


def _move(notebook: Notebook, cell: int, kind: str, number: int, patience: float) -> Moved | None:
    """Moves one control; None where it cannot be moved now (switched off, hidden, or already what it would become)."""
    selector, move = CONTROLS[kind]
    element = _area(notebook, cell).locator(f":is({selector})").nth(number)
    if element.count() == 0 or not element.is_visible() or not element.is_enabled():
        return None
    if kind == "radio" and element.is_checked():
        return None
    if (
        kind == "toggle"
        and "mod-active" in (element.get_attribute("class") or "")
        and "widget-toggle-button" not in (element.get_attribute("class") or "")
    ):
        return None
    label = element.evaluate("""e => (e.innerText || e.title || e.getAttribute('aria-label')
        || e.closest('.widget-inline-hbox, .jupyter-widgets')?.querySelector('.widget-label')?.innerText || '').trim()""")
    element.scroll_into_view_if_needed()
    before = notebook.state(cell)
    move(element)
    effect = notebook.changes(cell, before, patience)
    if kind in ("play", "toggle") and element.count():
        _pause(notebook, cell, kind, number)
    return Moved(cell, kind, label, effect)


def _pause(notebook: Notebook, cell: int, kind: str, number: int) -> None:
    """A player that goes on would change what the next control is judged by: press again, which pauses it."""
    element = _area(notebook, cell).locator(f":is({CONTROLS[kind][0]})").nth(number)
    if "fa-pause" in element.inner_html():
        element.click()
    notebook.settle(cell, 15)
