"""Pictures made of little squares: digits with their names, and the values of tensors side by side."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from fnlib.teaching.pictures import Picture, show
from fnlib.teaching.style import GREY, VERMILLION, grid


def digits(
    feature: Tensor,
    *,
    label: Tensor | None = None,
    predicted: Tensor | None = None,
    columns: int = 8,
    title: str = "",
    alt: str | None = None,
) -> Picture:
    """A grid of digits, with what a network named them; wrong names are framed and crossed.

    Args:
        feature: twins (n, 128), images (n, 1, 8, 8) or (n, 64).
        label: the digits, (n,).
        predicted: what the network says, (n,), or its scores, (n, 10).
        columns: pictures a row.
        title: the finding.
        alt: the content in words; made from the names if not given.

    Returns:
        A ``Picture``.

    Example:
        >>> from fnlib.teaching import data
        >>> few = data.twins().test
        >>> digits(few.feature[:4], label=few.label[:4], predicted=few.label[:4], columns=4).alt
        '4 pictures of digits: ... 4 of 4 are named right.'
    """
    pictures = feature.detach().reshape(len(feature), -1)
    if predicted is not None and predicted.dim() == 2:
        predicted = predicted.argmax(dim=1)
    pieces = pictures.shape[1] // 64  # 1 for an image, 2 for twins
    rows = -(-len(pictures) // columns)
    wide = 7.6 / columns  # inches a picture, so that a row is as wide as the text
    size = (7.6, rows * (wide / pieces + 0.32) + (0.4 if title else 0.0))
    figure, places = grid(size, rows, columns, title)
    for axes in places:
        axes.axis("off")
    for index, (axes, picture) in enumerate(zip(places, pictures, strict=False)):
        square = picture.reshape(8, 8 * pieces)
        axes.imshow(square.numpy(), cmap="Greys", vmin=0, vmax=1)
        truth = None if label is None else int(label[index])
        name = truth if predicted is None else int(predicted[index])
        if name is None:
            continue
        wrong = truth is not None and name != truth
        text = f"✗ {name} (is {truth})" if wrong else str(name)
        axes.set_title(
            text, fontsize=10, loc="center", color=VERMILLION if wrong else "black", pad=3
        )
        if wrong:
            axes.axis("on")
            axes.set(xticks=[], yticks=[])
            for spine in axes.spines.values():
                spine.set(visible=True, color=VERMILLION, linewidth=2.5)
    return show(figure, alt or _digits_in_words(len(pictures), label, predicted))


def states(
    columns: Mapping[str, Mapping[str, Tensor]], *, title: str = "", alt: str | None = None
) -> Picture:
    """The same tensors at several moments, side by side, with what differs from the first moment.

    Args:
        columns: moment -> {name of a tensor -> its values}; every moment names the same tensors. Copy what will be
            changed in place (``weight.detach().clone()``), or all moments show the last one.
        title: the finding.
        alt: the content in words; made from the numbers that differ if not given.

    Returns:
        A ``Picture``: one row a tensor, one column a moment, one colour scale a row.

    Example:
        >>> import torch
        >>> before = torch.zeros(2, 3)
        >>> states({"before": {"weight": before}, "after": {"weight": before + 1}})
        [Picture: weight: after differs from before in 6 of 6 numbers.]
    """
    moments = list(columns)
    names = list(columns[moments[0]])
    figure, places = grid(
        (2.6 * len(moments) + 1.2, 1.5 * len(names) + 0.7), len(names), len(moments), title
    )
    words = []
    for row, name in enumerate(names):
        flat = [columns[moment][name].detach().float() for moment in moments]
        bound = max(float(values.abs().max()) for values in flat) or 1.0
        for column, (moment, values) in enumerate(zip(moments, flat, strict=True)):
            axes = places[row * len(moments) + column]
            rows = values.shape[0] if values.dim() > 1 else 1
            axes.imshow(
                values.reshape(rows, -1).numpy(),
                cmap="PuOr",
                vmin=-bound,
                vmax=bound,
                aspect="auto",
            )
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
            if row == 0:
                axes.set_title(moment, loc="center", fontsize=12)
            if column == 0:
                axes.set_ylabel(
                    name, rotation=0, ha="right", va="center", family="monospace", fontsize=11
                )
                continue
            changed = int((values != flat[0]).sum())
            mark = f"■ {changed} of {values.numel()} differ" if changed else "○ the same bits"
            axes.set_xlabel(mark, fontsize=10, color=VERMILLION if changed else GREY)
            if changed:
                words.append(
                    f"{name}: {moment} differs from {moments[0]} in {changed} of {values.numel()} numbers."
                )
            else:
                words.append(f"{name}: {moment} is the same as {moments[0]}.")
    return show(figure, alt or " ".join(words) or f"The values of {', '.join(names)}.")


def _digits_in_words(count: int, label: Tensor | None, predicted: Tensor | None) -> str:
    names = label if label is not None else predicted
    if names is None:
        return f"{count} pictures of digits."
    text = f"{count} pictures of digits: {', '.join(str(int(name)) for name in names)}."
    if label is None or predicted is None:
        return text
    wrong = [
        f"a {int(is_)} named {int(says)}"
        for is_, says in zip(label, predicted, strict=True)
        if is_ != says
    ]
    right = f" {count - len(wrong)} of {count} are named right"
    return f"{text}{right}{'; wrong: ' + ', '.join(wrong) if wrong else ''}."
