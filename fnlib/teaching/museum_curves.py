"""The loss of an exhibit over many passes: the loop as it was written, beside the same loop cured.

An exhibit's loop takes a few steps, enough for its row and its number. For a curve the same loop goes over the same
batches many times, and a point is the mean loss of one pass.
"""

from __future__ import annotations

import inspect
import linecache
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fnlib.teaching.museum import function_of
from fnlib.teaching.pictures import Picture, show
from fnlib.teaching.style import BLUE, GREEN, ORANGE, VERMILLION, Ink, grid, short

Losses = dict[str, list[float]]
PASSES = 30
LOOKS = {
    "as written": (Ink(VERMILLION, (0, (5, 2)), "s"), Ink(ORANGE, (0, (1, 1.5)), "D")),
    "cured": (Ink(BLUE, "-", "o"), Ink(GREEN, (0, (3, 2, 1, 2)), "^")),
}


@contextmanager
def listening() -> Iterator[Losses]:
    """Note each loss, by the name that it has in its loop: where ``backward`` is called, and what ``mse_loss`` gives.

    A functional loop calls no ``backward``; its losses come from ``nn.functional.mse_loss``, inside ``torch.func.grad``
    wrapped. A loss that is noted when it is made is not noted again by its ``backward``.
    """
    losses: Losses = {}
    backward, mse_loss = Tensor.backward, nn.functional.mse_loss
    made: list[tuple[list[float], Tensor]] = []

    def listen(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        if made and made[-1][1] is self:
            made.pop()[0].pop()
        losses.setdefault(_name(sys._getframe(1)), []).append(self.item())
        return backward(self, *args, **kwargs)

    def make(*args: Any, **kwargs: Any) -> Tensor:
        loss = mse_loss(*args, **kwargs)
        if loss.requires_grad or torch._C._functorch.is_gradtrackingtensor(loss):
            plain = torch.func.debug_unwrap(loss, recurse=True)
            # Under `vmap` it has one number for each member.
            numbers = losses.setdefault("members' mean loss" if plain.dim() else "loss", [])
            numbers.append(plain.mean().item())
            made.append((numbers, loss))
        return loss

    Tensor.backward, nn.functional.mse_loss = listen, make  # type: ignore[method-assign]
    try:
        yield losses
    finally:
        Tensor.backward, nn.functional.mse_loss = backward, mse_loss  # type: ignore[method-assign]


def side_by_side(
    code: str, setup: Callable[[], dict[str, Any]], bug: Callable[..., Any]
) -> Picture | None:
    """Draw the losses of an exhibit's loop, as it was written and cured, over ``PASSES`` passes.

    Args:
        code: the exhibit; its cure is read from its file.
        setup: makes the loop's arguments.
        bug: the loop as it was written.

    Returns:
        A ``Picture``, or ``None`` for a loop that raises, or that has no curve.

    Example:
        >>> from fnlib.teaching.museum import function_of
        >>> side_by_side("zero_grad_before_step", *(function_of("zero_grad_before_step", part) for part in ("setup", "bug")))
        [Picture: Mean loss of each pass, two panels on one scale. As written: from 1.1 to 1.1. Cured: from 1.1 to 0.589.]
    """
    panels = {"as written": _long(setup, bug), "cured": _long(setup, function_of(code, "cure"))}
    if not all(panels.values()):
        return None
    figure, both = grid((7.2, 2.2), 1, 2)
    numbers = [
        number for losses in panels.values() for values in losses.values() for number in values
    ]
    room = 0.08 * (max(numbers) - min(numbers)) or 0.1
    words = ["Mean loss of each pass, two panels on one scale."]
    for axes, (title, losses) in zip(both, panels.items(), strict=True):
        for (name, values), ink in zip(sorted(losses.items()), LOOKS[title], strict=False):
            every = max(1, len(values) // 6)
            places = range(1, len(values) + 1)
            axes.plot(
                places,
                values,
                color=ink.color,
                linestyle=ink.line,
                marker=ink.marker,
                markevery=every,
                label=name,
            )
        axes.set(ylim=(min(numbers) - room, max(numbers) + room))
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("pass over the data", fontsize=10)
        axes.locator_params(axis="x", nbins=4, integer=True)
        axes.tick_params(labelsize=10)
        if len(losses) > 1:
            axes.legend(fontsize=10)
        said = [
            f"{name} from {short(values[0])} to {short(values[-1])}"
            for name, values in sorted(losses.items())
        ]
        words.append(
            f"{title.capitalize()}: {', '.join(said if len(said) > 1 else [said[0].partition(' ')[2]])}."
        )
    both[0].set_ylabel("mean loss", fontsize=10)
    both[1].tick_params(labelleft=False)
    return show(figure, " ".join(words))


def _long(
    setup: Callable[[], dict[str, Any]], run: Callable[..., Any]
) -> Mapping[str, list[float]]:
    """The mean losses of many passes; nothing if the loop has no batches and no epochs of which there could be more."""
    things, chunk = setup(), 0
    if "epochs" in inspect.signature(run).parameters:
        things["epochs"] = PASSES
    else:
        for name, value in things.items():
            if isinstance(value, list) and isinstance(value[0], (tuple, Tensor)):
                things[name], chunk = value * PASSES, len(value)
        if not chunk:
            return {}
    with listening() as losses, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            run(**things)
        except RuntimeError:  # a loop that is loud, or that a reader has made so
            return {}
    return {
        name: _means(values, chunk or len(values) // PASSES)
        for name, values in losses.items()
        if len(values) >= PASSES
    }


def _means(values: list[float], chunk: int) -> list[float]:
    return [sum(values[at : at + chunk]) / chunk for at in range(0, len(values) - chunk + 1, chunk)]


def _name(frame: Any) -> str:
    """What comes before ``.backward`` in the line that calls it: "loss_g", or "scaler.scale(loss)"."""
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    found = re.search(r"(\w+|[\w.]+\(\w+\))\.backward\(", line)
    return found[1] if found else "loss"
