"""Lesson 01, "Five lines, three owners": its exercises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from fnlib.teaching.exercises import Exercise, Mistake, Unreadable

# The unseen loop: momentum, and two losses. What each statement changes, and who owns it.
LEDGER = {
    "optimizer.zero_grad()": ("gradients", "model"),
    "output = model(feature)": ("nothing", "nobody"),
    "loss_a.backward()": ("gradients", "model"),
    "loss_b.backward()": ("gradients", "model"),
    "optimizer.step()": ("weights and moments", "model and optimizer"),
}


WORDS = (
    ("nothing", "gradients", "weights", "moments", "weights and moments"),
    ("nobody", "model", "optimizer", "model and optimizer"),
)
# What people write for them; the ledger is not a spelling test.
MEANT = {
    "gradient": "gradients",
    "weight": "weights",
    "moment": "moments",
    "none": "nothing",
    "moments and weights": "weights and moments",
    "weights, moments": "weights and moments",
    "no one": "nobody",
    "optimizer and model": "model and optimizer",
}


def _cells(answer: Any) -> Any:
    """Read a filled ledger: statement -> (what changes, whose it is)."""
    if not isinstance(answer, Mapping) or set(answer) != set(LEDGER):
        raise Unreadable(
            "The answer is a dict with the five statements as they stand in the cell: change only what is right of the colons."
        )
    cells = {}
    for statement, row in answer.items():
        if row is ... or isinstance(row, (list, tuple)) and any(cell is ... for cell in row):
            return None
        if not isinstance(row, (list, tuple)) or len(row) != 2:
            raise Unreadable(
                f'`{statement}` wants two words, what it changes and whose that is, such as ("weights", "model").'
            )
        said = [str(cell).strip().lower() for cell in row]
        cells[statement] = tuple(MEANT.get(word, word) for word in said)
        for word, known in zip(cells[statement], WORDS, strict=True):
            if word not in known:
                raise Unreadable(
                    f'"{word}", of `{statement}`, is none of the words: {", ".join(known)}.'
                )
    return cells


def _right(cells: Mapping[str, tuple[str, ...]]) -> int:
    return sum(
        mine == true
        for statement, row in cells.items()
        for mine, true in zip(row, LEDGER[statement], strict=True)
    )


def _filled(**changes: tuple[str, str]) -> dict[str, tuple[str, str]]:
    """The right ledger with some rows filled in as people fill them in."""
    short = {
        "zero": "optimizer.zero_grad()",
        "forward": "output = model(feature)",
        "a": "loss_a.backward()",
        "b": "loss_b.backward()",
        "step": "optimizer.step()",
    }
    return LEDGER | {short[key]: row for key, row in changes.items()}


# --- 01-be-the-optimizer: a step with momentum, in place -----------------------------------------

_Step = Callable[[list[Tensor], list[Tensor], float, float], Any]


def _trained(step: Callable[[list[Tensor], list[Tensor]], Any]) -> SimpleNamespace:
    """Four steps downhill from the same start; in the third the gradient of the first weight is exactly zero.

    ``weights`` are those after each step: at the end of three, or of four, some wrong steps come to the right numbers.
    """
    weights = [torch.tensor(1.0, requires_grad=True), torch.tensor([0.5, -1.0], requires_grad=True)]
    moments, seen = [torch.zeros_like(weight) for weight in weights], []
    for _ in range(4):
        for weight in weights:
            weight.grad = None
        (((2 * weights[0] - 4) ** 2).sum() / 4 + (weights[1] ** 2).sum()).backward()
        step(weights, moments)
        seen += [weight.detach().clone() for weight in weights]
    return SimpleNamespace(weights=seen, moments=moments)


def _with_optimizer(momentum: float) -> list[Tensor]:
    made: list[torch.optim.Optimizer] = []

    def step(weights: list[Tensor], moments: list[Tensor]) -> None:
        made.extend([] if made else [torch.optim.SGD(weights, lr=0.25, momentum=momentum)])
        made[0].step()

    return _trained(step).weights


def _try_step(step: _Step) -> SimpleNamespace:
    try:
        return _trained(lambda weights, moments: step(weights, moments, 0.25, 0.5))
    except RuntimeError as problem:
        if "leaf Variable" in str(problem):
            raise Unreadable(
                "PyTorch refuses a write into a weight that it tracks: put your loop under `with torch.no_grad():`."
            ) from problem
        raise


def _same(seen: Any, weights: list[Tensor]) -> bool:
    return all(
        torch.equal(mine, wanted) for mine, wanted in zip(seen.weights, weights, strict=True)
    )


def _stepping(change: Callable[[Tensor, Tensor, float, float], Any]) -> _Step:
    """A step that makes the same change to each weight and its moment."""

    @torch.no_grad()
    def step(weights: list[Tensor], moments: list[Tensor], lr: float, momentum: float) -> None:
        for weight, moment in zip(weights, moments, strict=True):
            change(weight, moment, lr, momentum)

    return step


def _gradient(weight: Tensor) -> Tensor:
    assert weight.grad is not None  # backward has just written it
    return weight.grad


def _in_place(weight: Tensor, moment: Tensor, lr: float, momentum: float) -> None:
    moment.mul_(momentum).add_(_gradient(weight))
    weight.sub_(lr * moment)


def _copied_into(weight: Tensor, moment: Tensor, lr: float, momentum: float) -> None:
    moment.copy_(momentum * moment + _gradient(weight))
    weight -= lr * moment


def _rebinds_weight(weight: Tensor, moment: Tensor, lr: float, momentum: float) -> None:
    moment.mul_(momentum).add_(_gradient(weight))
    weight = weight - lr * moment


def _rebinds_moment(weight: Tensor, moment: Tensor, lr: float, momentum: float) -> None:
    moment = momentum * moment + _gradient(weight)
    weight.sub_(lr * moment)


def _weight_first(weight: Tensor, moment: Tensor, lr: float, momentum: float) -> None:
    weight.sub_(lr * moment)
    moment.mul_(momentum).add_(_gradient(weight))


def _without_rate(weight: Tensor, moment: Tensor, lr: float, momentum: float) -> None:
    moment.mul_(momentum).add_(_gradient(weight))
    weight.sub_(moment)


def _averages(weight: Tensor, moment: Tensor, lr: float, momentum: float) -> None:
    moment.mul_(momentum).add_((1 - momentum) * _gradient(weight))
    weight.sub_(lr * moment)


EXERCISES = (
    Exercise(
        key="01-blank-ledger",
        objective="Given a loop that the learner has not seen, the learner fills a blank ledger, 8 of 10 cells right.",
        expects='a dict: statement -> (what changes, whose it is), such as ("weights", "model")',
        try_out=_cells,
        passes=lambda cells: _right(cells) >= 8,
        so_far=lambda cells: f"{_right(cells)} of 10 cells are right, and 8 are asked for.",
        because="You read a loop by what it changes. With momentum, step() changes two owners at once: the model's weights and its own moments.",
        hints=(
            "Take one line at a time, and ask: after it, what is different, and on which object do I find it?",
            "Gradients are stored on the model's parameters, whoever computes or removes them. Moments are the optimizer's own.",
            "Only one line changes weights. With momentum it changes moments as well, so it has two owners.",
        ),
        right=(
            lambda: dict(LEDGER),
            lambda: _filled(forward=("nothing", "model"), step=("weights and moments", "model")),
        ),
        mistakes=(
            Mistake(
                matches=lambda cells: cells["optimizer.zero_grad()"][0] == "weights",
                slug="zero-grad-zeroes-weights",
                examples=(lambda: _filled(zero=("weights", "model"), step=("weights", "model")),),
            ),
            Mistake(
                matches=lambda cells: "weights" in cells["loss_a.backward()"][0],
                slug="backward-updates",
                examples=(
                    lambda: _filled(
                        a=("weights", "model"),
                        b=("weights", "model"),
                        step=("moments", "optimizer"),
                    ),
                ),
            ),
            Mistake(
                matches=lambda cells: cells["loss_b.backward()"][0] == "nothing",
                slug="backward-overwrites",
                examples=(lambda: _filled(b=("nothing", "nobody"), step=("weights", "model")),),
            ),
            Mistake(
                matches=lambda cells: (
                    "optimizer"
                    in (cells["optimizer.zero_grad()"][1], cells["loss_a.backward()"][1])
                ),
                slug="optimizer-computes-gradient",
                examples=(
                    lambda: _filled(
                        zero=("gradients", "optimizer"),
                        a=("gradients", "optimizer"),
                        b=("gradients", "optimizer"),
                    ),
                ),
            ),
        ),
    ),
    Exercise(
        key="01-be-the-optimizer",
        objective="Given weights with gradients, the learner writes a step with momentum that has the bits of torch.optim.SGD.",
        expects="a function that changes the weights and the moments where they are",
        try_out=_try_step,
        passes=lambda seen: _same(seen, _with_optimizer(0.5)),
        because="The same bits as torch.optim.SGD after each of four steps, also where the gradient is zero. Now the moments are yours to keep.",
        hints=(
            "Two things are written to, in this order: the moment, then the weight. Which methods change a tensor where it is?",
            "The new moment is momentum times the old one, plus the gradient. The weight moves by lr times the moment, downhill.",
            "with torch.no_grad(): moment.mul_(momentum).add_(weight.grad), then weight.sub_(lr * moment)",
        ),
        right=(lambda: _stepping(_in_place), lambda: _stepping(_copied_into)),
        mistakes=(
            Mistake(
                matches=lambda seen: _same(seen, _trained(lambda weights, moments: None).weights),
                says="No weight moved. `weight = weight - ...` gives the name to a new tensor and leaves the old one as it is: write into it.",
                examples=(lambda: _stepping(_rebinds_weight),),
            ),
            Mistake(
                matches=lambda seen: (
                    _same(seen, _with_optimizer(0.0))
                    and not any(moment.any() for moment in seen.moments)
                ),
                slug="zero-gradient-no-movement",
                says="Your weights move as in plain SGD: the tensors in `moments` are still zero after four steps.",
                examples=(
                    lambda: _stepping(_rebinds_moment),
                    lambda: _stepping(
                        lambda weight, moment, lr, momentum: weight.sub_(lr * _gradient(weight))
                    ),
                ),
            ),
            Mistake(
                matches=lambda seen: _same(
                    seen,
                    _trained(
                        lambda weights, moments: _stepping(_averages)(weights, moments, 0.25, 0.5)
                    ).weights,
                ),
                says="You average: momentum times the old moment plus (1 - momentum) times the gradient. Adam does that; SGD adds the whole gradient.",
                examples=(lambda: _stepping(_averages),),
            ),
            Mistake(
                matches=lambda seen: _same(
                    seen,
                    _trained(
                        lambda weights, moments: _stepping(_weight_first)(
                            weights, moments, 0.25, 0.5
                        )
                    ).weights,
                ),
                says="The weight moves by the moment of the step before. First the moment takes the gradient in, then the weight moves by it.",
                examples=(lambda: _stepping(_weight_first),),
            ),
            Mistake(
                matches=lambda seen: _same(
                    seen,
                    _trained(
                        lambda weights, moments: _stepping(_without_rate)(
                            weights, moments, 0.25, 0.5
                        )
                    ).weights,
                ),
                says="The weight moves by the whole moment: only lr times the moment is asked for.",
                examples=(lambda: _stepping(_without_rate),),
            ),
            Mistake(
                matches=lambda seen: bool(seen.weights[0] < 1.0),
                says="The weights went uphill: subtract the step.",
                examples=(
                    lambda: _stepping(
                        lambda weight, moment, lr, momentum: weight.add_(
                            lr * moment.mul_(momentum).add_(_gradient(weight))
                        )
                    ),
                ),
            ),
        ),
    ),
)
