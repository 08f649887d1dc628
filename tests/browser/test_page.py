"""A saved recording in a real browser, with the network cut: seen, used by hand and by keyboard, read by axe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import expect
from torch import nn

from fnlib.ledger import Ledger
from tests.browser.readers import serious

SIZES = {"desktop": (1280, 900, "light"), "dark": (1280, 900, "dark"), "phone": (390, 844, "light")}


def recorded() -> Ledger:
    """A loop with BatchNorm, a forgotten `zero_grad` and a snapshot that moves."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    feature, label = torch.randn(24, 32), torch.randint(4, (24,))
    with Ledger(model, optimizer) as ledger:
        best = model.state_dict()
        for _ in range(6):
            loss = nn.functional.cross_entropy(model(feature), label)
            loss.backward()
            optimizer.step()
        model.load_state_dict(best)
    return ledger


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "run.html"
    recorded().save(path)
    return path


@pytest.fixture(params=SIZES)
def page(request: pytest.FixtureRequest, browser: Any, file: Path, pictures: Path) -> Iterator[Any]:
    """The file in a browser without a network; nothing is asked for, and nothing fails."""
    width, height, scheme = SIZES[request.param]
    context = browser.browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, offline=True
    )
    opened = context.new_page()
    faults: list[str] = []
    asked: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(f"{file.as_uri()}#4")
    yield opened
    pictures.mkdir(parents=True, exist_ok=True)
    opened.screenshot(path=pictures / f"saved-run-{request.param}.png", full_page=True)
    assert not faults and [*{url.partition("#")[0] for url in asked}] == [file.as_uri()]
    context.close()


def lit(page: Any) -> str:
    return page.locator("#code [aria-current] .text").inner_text().strip()


def test_it_shows_what_is_inside(page: Any) -> None:
    """The lit line, its changes with before, after and difference, and the boxes of state."""
    assert page.locator("#where").inner_text() == "4 of 26" and lit(page) == "loss.backward()"
    page.get_by_role("button", name="Next statement").click()
    assert lit(page) == "optimizer.step()"
    first = page.locator(".card").first
    assert first.locator("canvas").count() == 3 and "at a distance" in first.inner_text()
    colours = (
        first.locator("canvas")
        .nth(2)
        .evaluate(
            "c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
        )
    )
    assert colours >= 4, "the map of the difference is empty"
    assert page.locator(".box.lit h3").all_inner_texts() == ["model weights", "optimizer moments"]
    assert "16 x 32, norm" in page.locator(".box.lit").first.inner_text()


def test_it_fits(page: Any) -> None:
    """Nothing has to be scrolled sideways, at any statement."""
    for step in (0, 1, 5, 26):
        page.evaluate(f"location.hash = '{step}'")
        page.reload()
        wide = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1], step


def test_it_is_readable(page: Any) -> None:
    """axe-core finds nothing serious, with everything unfolded."""
    page.locator("details summary").evaluate_all(
        "all => all.forEach(one => one.parentElement.open = true)"
    )
    page.locator("#query").fill("model.0.weight")
    assert serious(page, ["body"]) == []


def test_it_works_by_keyboard(page: Any) -> None:
    """Arrows step, Home and End jump, every control is reached by Tab, and focus is seen."""
    page.keyboard.press("End")
    assert page.locator("#where").inner_text() == "26 of 26"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.locator("#where").inner_text() == "1 of 26"
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert {"back", "play", "next", "slider", "speed", "code"} <= {*reached}
    page.locator("#slider").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#where").inner_text() == "2 of 26"


def test_a_finding_leads_to_its_line(page: Any) -> None:
    """The buttons on top go to the statement that a finding is about."""
    page.locator("#alerts button").filter(has_text="gradient-used-twice").click()
    assert lit(page) == "optimizer.step()"
    page.locator("#alerts button").filter(has_text="snapshot-moved").click()
    assert lit(page) == "model.load_state_dict(best)"
    assert "copy.deepcopy" in page.locator("#findings").inner_text()


def test_a_tensor_is_searched(page: Any) -> None:
    """A tensor's name finds the statements that change it, and draws its norm."""
    page.locator("#query").fill("model.0.weight.gr")
    assert page.locator("#hits-head").inner_text() == "6 statements"
    page.locator("#query").fill("model.0.weight")
    assert page.locator("#course").is_visible()
    page.locator("#hits button").nth(2).click()
    assert lit(page) == "optimizer.step()"
    page.locator("#query").fill("no such thing")
    assert page.locator("#hits-head").inner_text() == "0 statements"


def test_it_plays_to_the_end(page: Any) -> None:
    """Play goes on by itself and stops at the end; the timeline is clicked."""
    page.locator("#speed").select_option("16")
    page.locator("#play").click()
    expect(page.locator("#where")).to_have_text("26 of 26")
    expect(page.locator("#play")).to_have_text("Play")
    chart = page.locator("#timeline canvas")
    chart.click(position={"x": 2, "y": 5})
    assert page.locator("#where").inner_text() == "1 of 26"


def test_without_scripts_it_is_the_table(browser: Any, file: Path) -> None:
    """Where scripts are switched off, the table of the recording is shown."""
    context = browser.browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(file.as_uri())
    assert "optimizer.step()" in page.locator("#whole").inner_text()
    assert page.locator("#player").is_hidden()
    context.close()
