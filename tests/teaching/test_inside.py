"""Pictures of the inside of a network say what was seen there."""

from __future__ import annotations

import pytest
import torch

from fnlib.teaching.content.pictures.inside import graph_size, hidden_over_time


def test_answers_count_at_the_end_of_a_digit_only() -> None:
    answers = torch.eye(10)[torch.tensor([3] * 15 + [4])]  # right at row 7, wrong at row 15
    picture = hidden_over_time(
        torch.zeros(16, 8),
        {"now": (torch.zeros(16, 5), answers)},
        torch.tensor([3, 3]),
        title="time",
    )
    assert "1 of 2 answers right" in picture.alt


def test_a_stream_that_does_not_fit_its_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="got 12 rows and 2 labels"):
        hidden_over_time(
            torch.zeros(12, 8),
            {"now": (torch.zeros(12, 5), torch.zeros(12, 10))},
            torch.tensor([3, 3]),
        )


def test_a_graph_grows_with_each_operation_and_ends_at_detach() -> None:
    w = torch.ones(1, requires_grad=True)
    assert graph_size(w * 2 * 3) == graph_size(w * 2) + 1
    assert graph_size((w * 2).detach()) == 0
