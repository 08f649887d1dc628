"""The site, built once from the stored outputs: every name and code has a page, search finds them, nothing is fetched."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fnlib
from course import editions
from fnlib.ledger.findings.texts import TEXTS
from fnlib.teaching.museum import EXHIBITS
from tests.browser.readers import serious
from tools.say import ROOT

LOOKED_AT = [
    "index",
    "learn",
    "museum",
    "use",
    "lessons/00_where_did_my_best_model_go",
    "lessons/museum/room_03_sharing_lost_and_unwanted",
    "findings/snapshot-moved",
    "reference/index",
    "reference/Parameters",
    "teach/guide",
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as files; Sphinx warns of a broken link, and a warning is a failure."""
    out = tmp_path_factory.mktemp("site") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "course.site", "--as-stored", "--out", str(out)],
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return out


def test_every_public_name_code_lesson_and_room_has_a_page(site: Path) -> None:
    wanted = [f"reference/{name}.html" for name in fnlib.__all__]
    wanted += [f"findings/{code}.html" for code in TEXTS]
    wanted += [f"lessons/{path.stem}.html" for path in editions.sources()]
    wanted += [f"lessons/museum/{path.stem}.html" for path in editions.rooms()]
    wanted += [f"teach/{path.stem}.html" for path in (ROOT / "lessons/instructor").glob("*.md")]
    assert len(wanted) > 100 and not [page for page in wanted if not (site / page).is_file()]


def test_a_lesson_folds_its_solutions_and_shows_its_outputs(site: Path) -> None:
    text = (site / "lessons/00_where_did_my_best_model_go.html").read_text(encoding="utf-8")
    assert "Show one solution" in text and "Show the set-up" in text
    assert "BEGIN SOLUTION" not in text and "kept and the deep copy have the same bits" in text


def test_a_page_of_a_code_shows_what_the_ledger_says(site: Path) -> None:
    text = (site / "findings/snapshot-moved.html").read_text(encoding="utf-8")
    assert "shares memory with model.0.weight" in text and "deepcopy" in text


def test_a_page_of_an_error_shows_what_it_says(site: Path) -> None:
    text = (site / "reference/Donated.html").read_text(encoding="utf-8")
    assert "… was given away by" in text and "# right: continue with what step returned" in text


def test_a_list_to_tick_off_has_boxes(site: Path) -> None:
    text = (site / "teach/guide.html").read_text(encoding="utf-8")
    assert "☐" in text and "[ ]" not in text


def test_a_return_value_is_said_in_one_sentence(site: Path) -> None:
    """Not split at its colon into a type and a description."""
    text = (site / "reference/stack.html").read_text(encoding="utf-8")
    assert "Return type" not in text and "Returns" in text


@pytest.fixture(scope="module")
def page(browser: Any) -> Any:
    opened = browser.new_page()
    yield opened
    opened.close()


@pytest.mark.parametrize("name", LOOKED_AT)
def test_a_page_reads_well(site: Path, page: Any, pictures: Path, name: str) -> None:
    """At a desk, in the dark and on a phone: nothing is fetched, nothing runs out of the page, axe finds no serious fault."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    folder = pictures / "site"
    folder.mkdir(parents=True, exist_ok=True)
    for look, width, theme in (
        ("desk", 1280, "light"),
        ("dark", 1280, "dark"),
        ("phone", 390, "light"),
    ):
        page.set_viewport_size({"width": width, "height": 800})
        page.goto((site / f"{name}.html").as_uri())
        page.evaluate("theme => {document.documentElement.dataset.theme = theme}", theme)
        page.evaluate("document.querySelectorAll('details').forEach(one => {one.open = true})")
        page.evaluate("Promise.allSettled(document.getAnimations().map(one => one.finished))")
        page.screenshot(path=str(folder / f"{name.replace('/', '-')}-{look}.png"))
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), look
        assert not serious(page, ["main"]), look
    assert not [address for address in asked if not address.startswith(("file:", "data:", "blob:"))]


def test_no_page_is_wider_than_a_phone(site: Path, page: Any) -> None:
    """Every page of every room, its boxes open; the sheets that are printed have a size of their own."""
    page.set_viewport_size({"width": 390, "height": 800})
    printed = {"cards.html", "cheat_sheet_print.html"}
    parts = ("*.html", "findings/*.html", "lessons/**/*.html", "reference/*.html", "teach/*.html")
    pages = [one for part in parts for one in sorted(site.glob(part)) if one.name not in printed]
    wide = {}
    # These take half of the time and set no width.
    for script in ("**/*fontawesome*", "**/searchindex.js*"):
        page.route(script, lambda route: route.abort())
    for one in pages:
        page.goto(one.as_uri(), wait_until="domcontentloaded")
        page.evaluate("document.querySelectorAll('details').forEach(one => {one.open = true})")
        if over := page.evaluate("document.documentElement.scrollWidth - innerWidth"):
            wide[str(one.relative_to(site))] = over
    page.unroute_all()
    assert len(pages) > 200 and not wide


def test_every_exhibit_has_a_recording_to_send(site: Path, page: Any) -> None:
    """Each is linked from the museum's table, opens without the network and plays."""
    links = re.findall(r'href="(recordings/\w+\.html)"', (site / "museum.html").read_text("utf-8"))
    assert links == [f"recordings/{one.code}.html" for one in EXHIBITS]
    assert not [link for link in links if not (site / link).is_file()]
    page.context.set_offline(True)
    try:
        page.goto((site / "recordings/best_state_dict.html").as_uri() + "#3")
        assert "optimizer.step()" in page.locator("body").inner_text()
    finally:
        page.context.set_offline(False)


@pytest.mark.parametrize("words", ["snapshot-moved", "clip_norm"])
def test_search_finds_it(site: Path, page: Any, words: str) -> None:
    page.goto((site / "search.html").as_uri() + f"?q={words}")
    page.locator("#search-results li a").first.wait_for(timeout=20_000)
    found = page.locator("#search-results li a").all_inner_texts()
    assert any(words in title for title in found), found


def test_the_museum_can_be_filtered(site: Path, page: Any) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto((site / "museum.html").as_uri())
    count = page.locator(".museum-filters output")
    assert count.inner_text() == f"{len(EXHIBITS)} of {len(EXHIBITS)}"
    page.get_by_label("PyTorch today").select_option("warns")
    warned = sum(one.today == "warns" for one in EXHIBITS)
    assert count.inner_text() == f"{warned} of {len(EXHIBITS)}"
    assert page.locator("#museum tbody tr:visible").count() == warned
    page.get_by_label("words").fill("no such words")
    assert count.inner_text() == f"0 of {len(EXHIBITS)}"
