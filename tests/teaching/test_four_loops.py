"""The picture of lesson 05 says what was seen, and does not say "one trajectory" where there are two."""

from __future__ import annotations

import pytest
import torch

import fnlib
from fnlib.ledger import Counts
from fnlib.ledger.views import rows
from fnlib.teaching.content.pictures.four_loops import (
    LANES,
    WORDS,
    Seen,
    Turns,
    four_loops,
    nameless,
)

LOSSES, WEIGHTS = [1.0, 0.25, 0.0, 0.0625, 0.0625], [1.0, 1.5, 2.0, 2.25, 2.25]
COUNTS = Counts(3, 5, 7, 9)


def _all(**changed: Seen) -> dict[str, Seen]:
    return {name: changed.get(name, Seen(LOSSES, WEIGHTS, COUNTS)) for name in LANES}


def test_each_lane_is_told_in_words() -> None:
    picture = four_loops(_all(fit=Seen(LOSSES, [1.0, None, None, None, 2.25], COUNTS)))
    assert picture.png.startswith(b"\x89PNG")
    assert "the same for all loops" in picture.alt
    assert "fit: a closed grey box with a place in it, 1, ?, ?, ?, 2.25" in picture.alt
    assert "functional: round values 1, 1.5, 2, 2.25, 2.25 in a row, none struck out" in picture.alt
    assert (
        picture.alt.count("3 of 5 statements at a distance, 7 values overwritten, 9 names rebound")
        == 4
    )


@pytest.mark.parametrize(
    "other",
    [
        Seen([1.0, 0.25, 0.0, 0.5, 0.0625], WEIGHTS, COUNTS),
        Seen(LOSSES, [1.0, 1.5, 2.0, 2.5, 2.25], COUNTS),
    ],
    ids=["losses", "weights"],
)
def test_another_trajectory_is_not_called_one(other: Seen) -> None:
    assert "not the same for all loops" in four_loops(_all(encapsulated=other)).alt


@pytest.mark.parametrize(
    "wrong",
    [{"mine": Seen(LOSSES, WEIGHTS, COUNTS)}, {"stock": Seen(LOSSES, WEIGHTS[1:], COUNTS)}, {}],
)
def test_what_it_cannot_draw_is_refused_in_one_sentence(wrong: dict[str, Seen]) -> None:
    with pytest.raises(ValueError, match="Wanted: loops of stock, encapsulated, fit, functional"):
        four_loops(wrong)


def test_turns_note_the_weight_before_the_first_and_after_each() -> None:
    weight = torch.tensor([8.0])
    turns = Turns(3, lambda: weight)
    for _ in range(2):  # a cell that is run again notes afresh
        weight = torch.tensor([8.0])
        for _step in turns:
            weight = weight / 2
        assert turns.weights == [8.0, 4.0, 2.0, 1.0]


def test_ledgers_without_names_speak_as_the_ledgers_table_does() -> None:
    assert set(WORDS.values()) <= {*rows._NAME.values(), *rows._GRAPH.values()}
    assert all(
        said == table[what.split(" ", 1)[1]]
        for kind, table in (("name", rows._NAME), ("graph", rows._GRAPH))
        for what, said in WORDS.items()
        if what.startswith(kind)
    )


def test_ledgers_without_names_give_no_statement_away(capsys: pytest.CaptureFixture[str]) -> None:
    w = torch.ones(1)
    with fnlib.Ledger(w=w) as ledger:
        w.add_(1)
    nameless(dict.fromkeys(LANES, ledger))
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if len(line) == 1] == list("ABCD")
    assert "add_" not in printed and not any(name in printed for name in LANES)
