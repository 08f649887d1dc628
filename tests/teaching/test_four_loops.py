"""The picture of lesson 05 says what was seen, and does not say "one trajectory" where there are two."""

from __future__ import annotations

import pytest
import torch

from fnlib.ledger import Counts
from fnlib.ledger.views import rows
from fnlib.teaching.content.pictures.four_loops import LANES, Seen, four_loops
from fnlib.teaching.content.pictures.four_runs import GRAPH, NAMELESS, Turns, nameless, recorded

LOSSES, WEIGHTS = [1.0, 0.25, 0.0, 0.0625, 0.0625], [1.0, 1.5, 2.0, 2.25, 2.25]
COUNTS = Counts(3, 5, 7, 9)


def _all(**changed: Seen) -> dict[str, Seen]:
    return {name: changed.get(name, Seen(LOSSES, WEIGHTS, COUNTS)) for name in LANES}


def test_each_lane_is_told_in_words() -> None:
    picture = four_loops(_all(fit=Seen(LOSSES, [1.0, None, None, None, 2.25], COUNTS)))
    assert picture.png.startswith(b"\x89PNG")
    assert "the same for all loops" in picture.alt
    assert "fit: a closed grey box that held 1, ?, ?, ?, 2.25, all but the last pale" in picture.alt
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
    turns = Turns(3)
    turns.read = lambda: weight
    for _step in turns:
        weight = weight / 2
    assert turns.weights == [8.0, 4.0, 2.0, 1.0] and turns.losses == [36.0, 4.0, 0.0, 1.0]


def test_four_loops_on_one_weight_are_as_lesson_05_says() -> None:
    """The losses and weights of paper; five values overwritten, all of them by the stock loop."""
    runs = recorded()
    assert list(runs) == list(LANES)
    for name, run in runs.items():
        assert run.seen.losses == LOSSES
        assert run.seen.weights == ([1.0, None, None, None, 2.25] if name == "fit" else WEIGHTS)
    assert [run.seen.counts.overwritten for run in runs.values()] == [5, 0, 0, 0]
    assert [run.seen.counts.at_a_distance for run in runs.values()] == [3, 0, 0, 0]
    stock = runs["stock"].ledger.entries
    written = [change.state for entry in stock for change in entry.changes if change.overwritten]
    assert (written.count("weight"), written.count("optimizer state")) == (3, 2)


def test_ledgers_without_names_speak_as_the_ledgers_table_does() -> None:
    assert all(said == rows._GRAPH[kind] for kind, said in GRAPH.items())


def test_ledgers_without_names_give_no_statement_away(capsys: pytest.CaptureFixture[str]) -> None:
    nameless(recorded())
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if len(line) == 1] == list(NAMELESS)
    assert "step(" not in printed and not any(name in printed for name in LANES)
    lines = [line for line in printed.splitlines() if line.startswith("  ")]
    assert len(lines) == 12 and [line[4] for line in lines].count("!") == 3
