"""What goes on inside a network: the hidden state of a recurrent network over time, the size of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fnlib.teaching.pictures import Picture, show
from fnlib.teaching.style import GREY, VERMILLION, use_style


def hidden_over_time(
    feature: Tensor, columns: Mapping[str, tuple[Tensor, Tensor]], label: Tensor, *, title: str = ""
) -> Picture:
    """A stream, the hidden state after each of its rows, and what the network would answer if it were asked then.

    Args:
        feature: the rows in the order in which they are read, (time, 8), eight a digit.
        columns: moment -> (hidden states (time, units), answers as shares (time, 10)).
        label: for each digit the right answer, (time / 8,).
        title: the finding.

    Returns:
        A ``Picture``: time runs to the right in all of its parts.

    Raises:
        ValueError: the stream has not eight rows for each label.

    Example:
        >>> import torch
        >>> states, answers = torch.zeros(16, 4), torch.eye(10)[torch.tensor([3] * 8 + [5] * 8)]
        >>> hidden_over_time(torch.zeros(16, 8), {"after": (states, answers)}, torch.tensor([3, 7])).alt
        'Hidden state and answers over 16 rows of a stream. after: 1 of 2 answers right at the end of a digit.'
    """
    if len(feature) != 8 * len(label):
        raise ValueError(
            f"Wanted: eight rows for each label; got {len(feature)} rows and {len(label)} labels."
        )
    use_style()
    import matplotlib.pyplot as plt

    size = (4.0 + 3.2 * len(columns), 6.2 + 0.3 * bool(title))
    heights = [0.8, 2.2, 2]
    figure, places = plt.subplots(
        3,
        len(columns),
        figsize=size,
        sharex=True,
        squeeze=False,
        height_ratios=heights,
        layout="constrained",
    )
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    for column, (moment, (states, answers)) in enumerate(columns.items()):
        read, hidden, said = places[:, column]
        read.imshow(feature.detach().T.numpy(), cmap="Greys", aspect="auto", vmin=0, vmax=1)
        hidden.imshow(
            states.detach().T.numpy(),
            cmap="cividis",
            aspect="auto",
            vmin=-1,
            vmax=1,
            interpolation="nearest",
        )
        said.imshow(
            answers.detach().T.numpy(),
            cmap="Greys",
            aspect="auto",
            vmin=0,
            vmax=1,
            interpolation="nearest",
        )
        read.set_title(moment)
        _frames(said, answers, label)
        said.set(yticks=range(10), xlabel="rows read", xticks=range(0, len(feature) + 1, 8))
        for axes in (read, hidden, said):
            axes.grid(visible=False)
            for end in range(8, len(feature), 8):
                axes.axvline(
                    end - 0.5,
                    color="white" if axes is hidden else GREY,
                    linewidth=1,
                    linestyle=(0, (2, 2)),
                )
        read.set_yticks([])
        hidden.set_yticks([])
        if column == 0:
            read.set_ylabel("read", rotation=0, ha="right", va="center")
            hidden.set_ylabel(
                f"{states.shape[1]} hidden\nunits", rotation=0, ha="right", va="center"
            )
            said.set_ylabel(
                "answer,\nif asked\nnow", rotation=0, ha="right", va="center", labelpad=14
            )
    words = [
        f"{moment}: {_right(answers, label)} of {len(label)} answers right"
        for moment, (_, answers) in columns.items()
    ]
    return show(
        figure,
        f"Hidden state and answers over {len(feature)} rows of a stream. {'; '.join(words)} at the end of a digit.",
    )


def graph_size(tensor: Tensor) -> int:
    """How many operations the graph behind a tensor holds.

    Args:
        tensor: any tensor; one without a graph has none.

    Returns:
        The number of nodes that can be reached.

    Example:
        >>> import torch
        >>> w = torch.ones(1, requires_grad=True)
        >>> graph_size(w * 2), graph_size((w * 2).detach())
        (2, 0)
    """
    seen: set[Any] = set()
    todo: list[Any] = [tensor.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo.extend(following for following, _ in node.next_functions)
    return len(seen)


def _frames(axes: Any, answers: Tensor, label: Tensor) -> None:
    """A frame where each question is asked: at the right answer, with a cross below it if the network says another."""
    from matplotlib.patches import Rectangle

    for index, right in enumerate(label.tolist()):
        end = 8 * index + 7
        axes.add_patch(
            Rectangle(
                (end - 0.5, right - 0.5),
                1,
                1,
                facecolor="none",
                edgecolor=VERMILLION,
                linewidth=2,
                clip_on=False,
            )
        )
        mark = "✓" if int(answers[end].argmax()) == right else "✗"
        axes.text(
            end - 0.3,
            -1.3,
            mark,
            ha="center",
            va="center",
            fontsize=12,
            color=VERMILLION if mark == "✗" else "black",
        )


def _right(answers: Tensor, label: Tensor) -> int:
    return int((answers[7::8].argmax(dim=1) == label).sum())
