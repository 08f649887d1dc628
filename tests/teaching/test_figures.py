"""The drawn figures: as committed as they are made, with a title and a description, and readable on dark pages."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "lessons" / "figures"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def draw() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw", FOLDER / "draw.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_committed_is_what_is_drawn(draw: ModuleType) -> None:
    assert {path.stem for path in FOLDER.glob("*.svg")} == set(draw.FIGURES)
    for stem, make in draw.FIGURES.items():
        assert (FOLDER / f"{stem}.svg").read_text(encoding="utf-8") == make(), (
            f"run: python lessons/figures/draw.py ({stem})"
        )


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.svg")), ids=lambda path: path.stem)
def test_a_figure_says_what_it_shows_and_stands_on_its_own_card(path: Path) -> None:
    root = ElementTree.parse(path).getroot()
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert root.get("role") == "img" and title is not None and description is not None
    assert title.text and description.text and len(description.text) > 60
    card = root.find(f"{SVG}rect")
    assert card is not None and card.get("fill") == "#fdfdfd", (
        "dark text needs a light card, or it is lost in the dark theme"
    )
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for words in root.iter(f"{SVG}text"):
        size, count = float(words.get("font-size", 0)), len(words.text or "")
        assert size >= 13, f"too small for a projector: {words.text}"
        wide = count * size * (0.62 if "Mono" in words.get("font-family", "") else 0.56)
        left = (
            float(words.get("x", 0))
            - wide * {"middle": 0.5, "start": 0.0}[words.get("text-anchor", "start")]
        )
        assert left >= 0 and left + wide <= width and float(words.get("y", 0)) < height, (
            f"over the edge: {words.text}"
        )


def test_no_figure_needs_the_network() -> None:
    for path in FOLDER.glob("*.svg"):
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text and "<script" not in text
