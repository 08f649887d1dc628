"""The picture of needs against styles: every pair is said, and a row that is too short is refused."""

from __future__ import annotations

import pytest

from fnlib.teaching.content.pictures.needs import MARKS, mark, needs


def test_the_picture_says_every_pair() -> None:
    ways = {
        "clip": ("clip_grad_norm_", "inside: factory"),
        "two losses": ("loss + loss", "impossible: one loss"),
    }
    assert needs(ways, ("stock", "box"), title="Two needs").alt == (
        "clip: stock, one line (clip_grad_norm_); box, reach inside (factory). "
        "two losses: stock, one line (loss + loss); box, impossible (one loss)."
    )


def test_three_marks_and_no_other() -> None:
    assert {
        mark(way) for way in (".grad", "loss=", "inside: x", "impossible: y", "insider")
    } == set(MARKS)


def test_a_need_without_a_way_for_each_style_is_refused() -> None:
    with pytest.raises(ValueError, match="'clip' has 1 ways for 2 styles: stock, box"):
        needs({"clip": (".grad",)}, ("stock", "box"))
