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
CHANGED = ("nothing", "gradients", "weights", "moments", "weights and moments")
OWNERS = ("nobody", "model", "optimizer", "model and optimizer")
# What people write for these words: the ledger is no spelling test.
ALSO = (
    {"gradient": "gradients", ".grad": "gradients", "grad": "gradients", "grads": "gradients",
     "weight": "weights", "moment": "moments", "none": "nothing", "no": "nothing",
     "moments and weights": "weights and moments", "both": "weights and moments"},
    {"no one": "nobody", "none": "nobody", "nothing": "nobody", "both": "model and optimizer",
     "optimizer and model": "model and optimizer"},
)  # fmt: skip


def _cells(answer: Any) -> Any:
    """Read a filled ledger: statement -> (what changes, whose it is)."""
    if not isinstance(answer, Mapping) or set(answer) != set(LEDGER):
        raise Unreadable(
            "Keep the five statements as they were, and fill in what's right of the colons."
        )
    cells = {}
    for statement, row in answer.items():
        if row is ... or isinstance(row, (list, tuple)) and any(cell is ... for cell in row):
            return None
        if not isinstance(row, (list, tuple)) or len(row) != 2:
            raise Unreadable(
                f'`{statement}` takes two words in brackets, such as ("weights", "model").'
            )
        cells[statement] = (
            _word(statement, row[0], CHANGED, ALSO[0]),
            _word(statement, row[1], OWNERS, ALSO[1]),
        )
    return cells


def _word(statement: str, said: Any, known: tuple[str, ...], also: Mapping[str, str]) -> str:
    plain = str(said).strip().lower().replace("&", "and").replace("+", "and")
    plain = " ".join(plain.replace(",", " and ").split())
    word = also.get(plain, plain)
    if word not in known:
        raise Unreadable(f'`{statement}` says "{said}". Choose one of: {", ".join(known)}.')
    return word


def _wrong(cells: Mapping[str, tuple[str, str]]) -> dict[str, list[int]]:
    """Statement -> which of its two cells are wrong; nothing has no owner, whoever is named."""
    found = {}
    for statement, (changed, owner) in cells.items():
        wrong = [
            index
            for index, (mine, true) in enumerate(
                zip((changed, owner), LEDGER[statement], strict=True)
            )
            if mine != true and not (index == 1 and changed == "nothing" == LEDGER[statement][0])
        ]
        if wrong:
            found[statement] = wrong
    return found


def _look_again(cells: Mapping[str, tuple[str, str]]) -> str:
    """How many cells are right, which are not, and what to run."""
    wrong = _wrong(cells)
    count = f"{10 - sum(map(len, wrong.values()))} of 10 cells."
    if not wrong:
        return count
    if all(columns == [1] for columns in wrong.values()):
        owner = "Where do you read a gradient? `model[0].weight.grad` is one."
        if list(wrong) == ["optimizer.step()"]:
            owner = "Where do you find the weights, and where `momentum_buffer`?"
        return f"{count} Look again at the owner in {_and(wrong)}. {owner}"
    first, *others = sorted(wrong, key=lambda statement: 0 not in wrong[statement])
    begin = "Start with" if others else "Look again at"
    then = f" Then look at {_and(others)}." if others else ""
    return f"{count} {begin} `{first}`: {_to_run(first, cells[first][0])}{then}"


def _to_run(statement: str, said: str) -> str:
    if statement == "output = model(feature)":
        return "print `model[0].weight` and its `.grad` before and after it."
    if statement != "optimizer.step()":
        return "print `model[0].weight.grad` before and after it."
    if said == "weights":
        return "the weights aren't all it changes. Print `optimizer.state` before and after a step with momentum."
    if said == "moments":
        return "the moments aren't all it changes. Print `model[0].weight` before and after it."
    return "print `model[0].weight` and `optimizer.state` before and after it."


def _and(statements: Any) -> str:
    *most, last = [f"`{statement}`" for statement in statements]
    return f"{', '.join(most)} and {last}" if most else last


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
    weights = [
        torch.tensor([1.0], requires_grad=True),
        torch.tensor([0.5, -1.0], requires_grad=True),
    ]
    moments, seen = [torch.zeros_like(weight) for weight in weights], []
    places = [tensor.data_ptr() for tensor in weights + moments]
    for _ in range(4):
        for weight in weights:
            weight.grad = None
        (((2 * weights[0] - 4) ** 2).sum() / 4 + (weights[1] ** 2).sum()).backward()
        step(weights, moments)
        seen += [weight.detach().clone() for weight in weights]
    in_place = [tensor.data_ptr() for tensor in weights + moments] == places
    return SimpleNamespace(weights=seen, moments=moments, in_place=in_place)


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


def _rebinds_data(weight: Tensor, moment: Tensor, lr: float, momentum: float) -> None:
    moment.mul_(momentum).add_(_gradient(weight))
    weight.data = weight.data - lr * moment


@torch.no_grad()
def _puts_into_the_list(
    weights: list[Tensor], moments: list[Tensor], lr: float, momentum: float
) -> None:
    for index, weight in enumerate(weights):
        moments[index] = momentum * moments[index] + _gradient(weight)
        weight.sub_(lr * moments[index])


def _weight_first(weight: Tensor, moment: Tensor, lr: float, momentum: float) -> None:
    weight.sub_(lr * moment)
    moment.mul_(momentum).add_(_gradient(weight))


def _without_rate(weight: Tensor, moment: Tensor, lr: float, momentum: float) -> None:
    moment.mul_(momentum).add_(_gradient(weight))
    weight.sub_(moment)


def _averages(weight: Tensor, moment: Tensor, lr: float, momentum: float) -> None:
    moment.mul_(momentum).add_((1 - momentum) * _gradient(weight))
    weight.sub_(lr * moment)


def _rate_first(weight: Tensor, moment: Tensor, lr: float, momentum: float) -> None:
    """Steps, not gradients, in the moments: another textbook form, with the same weights at this rate."""
    moment.mul_(momentum).sub_(lr * _gradient(weight))
    weight.add_(moment)


def _uphill(weight: Tensor, moment: Tensor, lr: float, momentum: float) -> None:
    moment.mul_(momentum).add_(_gradient(weight))
    weight.add_(lr * moment)


def _as(change: Callable[[Tensor, Tensor, float, float], Any]) -> list[Tensor]:
    """The weights after each step that makes this change."""
    step = _stepping(change)
    return _trained(lambda weights, moments: step(weights, moments, 0.25, 0.5)).weights


def _first_difference(seen: Any) -> str:
    """The first step after which a weight differs, and both numbers."""
    for index, (mine, true) in enumerate(zip(seen.weights, _with_optimizer(0.5), strict=True)):
        if not torch.equal(mine, true):
            got, wanted = mine.flatten().tolist(), true.flatten().tolist()
            return f"After step {index // 2 + 1}, `weights[{index % 2}]` should hold {wanted} and holds {got}."
    return ""


EXERCISES = (
    Exercise(
        key="01-blank-ledger",
        objective="Given a loop that the learner has not seen, the learner fills a blank ledger, all ten entries right.",
        expects='a dict: statement -> (what changes, who owns it), such as ("weights", "model")',
        try_out=_cells,
        passes=lambda cells: not _wrong(cells),
        so_far=_look_again,
        because="10 of 10 cells. With momentum, `optimizer.step()` changes two things: the model's weights and the optimizer's moments.",
        hints=(
            "Take one line at a time. What is different after it, and on which object do you find that?",
            "A gradient is stored on a parameter of the model, whoever computes or removes it.",
            "Three lines change the same thing of the same owner. One changes two things at once.",
        ),
        right=(
            lambda: dict(LEDGER),
            lambda: _filled(forward=("nothing", "model")),
            lambda: _filled(
                a=("Gradient", "Model"), step=("weights, moments", "optimizer and model")
            ),
        ),
    ),
    Exercise(
        key="01-be-the-optimizer",
        objective="Given weights with gradients, the learner writes a step with momentum that matches torch.optim.SGD bit for bit.",
        expects="a function that changes the weights and the moments in place",
        try_out=_try_step,
        passes=lambda seen: seen.in_place and _same(seen, _with_optimizer(0.5)),
        so_far=_first_difference,
        because="After each of four steps your weights match torch.optim.SGD's bit for bit, also where a gradient is zero. Only the weights were compared, not the moments.",
        hints=(
            "Two lines for each weight, as in the lesson: first the new moment, then the new weight.",
            "Both must be written in place, because the lists hold these very tensors. Methods that end in `_` do that.",
            "PyTorch refuses a write into a weight that it tracks, unless it happens under `torch.no_grad()`.",
        ),
        right=(
            lambda: _stepping(_in_place),
            lambda: _stepping(_copied_into),
            lambda: _stepping(_rate_first),
        ),
        mistakes=(
            Mistake(
                matches=lambda seen: not seen.in_place and _same(seen, _with_optimizer(0.5)),
                says=(
                    "The numbers are right. But `.data = ...`, or a new tensor in the list, is another place, "
                    "and every other name keeps the old numbers: write into the tensor, as `sub_` does."
                ),
                examples=(
                    lambda: _stepping(_rebinds_data),
                    lambda: _puts_into_the_list,
                ),
            ),
            Mistake(
                matches=lambda seen: _same(seen, _trained(lambda weights, moments: None).weights),
                says=(
                    "No weight moved. `weight = weight - ...` makes a new tensor and leaves the one in the list alone: "
                    "write into it."
                ),
                examples=(lambda: _stepping(_rebinds_weight),),
            ),
            Mistake(
                matches=lambda seen: (
                    _same(seen, _with_optimizer(0.0))
                    and not any(moment.any() for moment in seen.moments)
                ),
                slug="zero-gradient-no-movement",
                says="The weights move as in plain SGD, and the tensors in `moments` are still zero after four steps.",
                examples=(
                    lambda: _stepping(_rebinds_moment),
                    lambda: _stepping(
                        lambda weight, moment, lr, momentum: weight.sub_(lr * _gradient(weight))
                    ),
                ),
            ),
            Mistake(
                matches=lambda seen: _same(seen, _as(_averages)),
                says="You multiply the gradient by `1 - momentum`, which makes an average. SGD adds the whole gradient.",
                examples=(lambda: _stepping(_averages),),
            ),
            Mistake(
                matches=lambda seen: _same(seen, _as(_weight_first)),
                says="The weight moves before its moment has taken the gradient in: swap the two lines.",
                examples=(lambda: _stepping(_weight_first),),
            ),
            Mistake(
                matches=lambda seen: _same(seen, _as(_without_rate)),
                says="The moment is right. The weight moves by all of it, without `lr`.",
                examples=(lambda: _stepping(_without_rate),),
            ),
            Mistake(
                matches=lambda seen: _same(seen, _as(_uphill)),
                says="The size of the step is right, and its sign isn't: subtract it.",
                examples=(lambda: _stepping(_uphill),),
            ),
        ),
    ),
)
