"""What a call holds in memory: every block, from nothing, on the line that allocated it."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest
import torch

from fnlib.teaching import memory
from fnlib.teaching.memory import Memory, Visit

KB = 1000


def blocks(count: int) -> None:
    """250 numbers are 1,000 bytes."""
    first = torch.zeros(250)
    for _ in range(count):
        second = first.clone()
        del second
    third = torch.zeros(500)
    del third


def test_each_line_has_the_blocks_that_came_and_went_on_it() -> None:
    lines = {visit.text: visit.held for visit in memory.record(blocks, 1).visits}
    assert lines["first = torch.zeros(250)"] == (0, KB)
    assert lines["second = first.clone()"] == (KB, 2 * KB)
    assert lines["del second"] == (2 * KB, KB)
    assert lines["del third"] == (3 * KB, KB, 0), "at its end a function lets all its names go"
    assert memory.record(blocks, 1).peak == 3 * KB


def test_a_temporary_inside_a_statement_is_seen() -> None:
    def inside() -> None:
        _ = (torch.zeros(250) + 1).sum()

    assert memory.record(inside).peak >= 2 * KB


def test_rounds_are_those_of_the_first_loop_and_a_leak_shows() -> None:
    rounds = memory.record(blocks, 3).rounds
    lines = ["for _ in range(count):", "second = first.clone()", "del second"]
    assert [[visit.text for visit in each.visits] for each in rounds] == [lines] * 3
    assert [each.peak for each in rounds] == [2 * KB] * 3

    def leak() -> None:
        kept = []
        for _ in range(3):
            kept.append(torch.zeros(250))  # noqa: PERF401  # one line a round

    assert [each.peak for each in memory.record(leak).rounds] == [KB, 2 * KB, 3 * KB]
    assert memory.record(lambda: torch.zeros(1)).rounds == []
    assert Memory(()).peak == 0


def test_what_was_there_before_counts_as_nothing() -> None:
    held = [torch.zeros(25_000)]

    def replaces() -> None:
        held.clear()
        held.append(torch.zeros(250))

    assert memory.record(replaces).peak == KB
    assert memory.record(replaces).peak == KB, "and again, with a block that an earlier record left"


def test_nothing_is_left_behind_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        torch.zeros(1)
        raise ArithmeticError("mine")

    before = sys.gettrace()
    with pytest.raises(ArithmeticError, match="mine"):
        memory.record(fails)
    assert sys.gettrace() is before and gc.isenabled()
    print("still heard", file=sys.stderr)
    assert capfd.readouterr().err == "still heard\n", (
        "the profiler is quiet, and only for as long as it runs"
    )


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        memory.record(blocks, 1)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_code_without_stored_text_is_recorded_by_line_numbers() -> None:
    space: dict[str, Any] = {"torch": torch}
    exec("def train():\n    for _ in range(2):\n        torch.zeros(250)\n", space)  # noqa: S102  # as an interactive prompt does
    recorded = memory.record(space["train"])
    assert [visit.text for visit in recorded.rounds[0].visits] == [
        "line 2",
        "line 3",
    ] and recorded.peak == KB


def test_what_has_no_lines_is_refused_in_one_sentence() -> None:
    with pytest.raises(
        TypeError, match="record wants a function written in Python, not <built-in function print>"
    ):
        memory.record(print)


def test_the_picture_says_where_the_peak_is() -> None:
    runs = {
        "stock": Memory(
            (Visit(1, "loss.backward()", (KB, 2 * KB)), Visit(2, "optimizer.step()", (2 * KB,)))
        ),
        "functional": Memory(
            (
                Visit(1, "parameters = model.step(gradient)", (KB, 3 * KB)),
                Visit(2, "for _ in batches:", (2 * KB,)),
            )
        ),
    }
    picture = memory.curves(runs, unit=KB, ylabel="copies", title="Two and three")
    assert picture.alt == (
        "copies, line by line. stock: at most 2, in `loss.backward()`. functional: at most 3, in `parameters = model.step(gradient)`."
    )
    assert picture.png.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "brief"),
    [
        ("parameters = model.step(gradient)", "model.step()"),
        ("optimizer.step()", "optimizer.step()"),
        ("for feature, label in batches:", "for"),
        ("del gradient", "del gradient"),
    ],
)
def test_labels_are_brief(text: str, brief: str) -> None:
    assert memory._brief(text) == brief
