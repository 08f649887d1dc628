"""Lesson 01, "Five lines, three owners": its exercises and questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fnlib.teaching.exercises import Exercise, Mistake
from fnlib.teaching.questions import Option, Question

# The unseen loop: momentum, and two losses. What each statement changes, and who owns it.
LEDGER = {
    "optimizer.zero_grad()": ("gradients", "model"),
    "output = model(feature)": ("nothing", "nobody"),
    "loss_a.backward()": ("gradients", "model"),
    "loss_b.backward()": ("gradients", "model"),
    "optimizer.step()": ("weights and moments", "model and optimizer"),
}


def _cells(answer: Any) -> Any:
    """Read a filled ledger: statement -> (what changes, whose it is)."""
    if not isinstance(answer, Mapping) or set(answer) != set(LEDGER):
        raise TypeError("a dict with the five statements as keys")
    if any(cell is ... for row in answer.values() for cell in row):
        return None
    return {statement: tuple(str(cell).strip().lower() for cell in row) for statement, row in answer.items()}


def _right(cells: Mapping[str, tuple[str, ...]]) -> int:
    return sum(mine == true for statement, row in cells.items() for mine, true in zip(row, LEDGER[statement], strict=True))


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


EXERCISES = (
    Exercise(
        key="01-blank-ledger",
        objective="Given a loop that the learner has not seen, the learner fills a blank ledger, 8 of 10 cells right.",
        expects='a dict: statement -> (what changes, whose it is), such as ("weights", "model")',
        try_out=_cells,
        passes=lambda cells: _right(cells) >= 8,
        because="You read a loop by what it changes. With momentum, step() changes two owners at once: the model's weights and its own moments.",
        hints=(
            "Take one line at a time, and ask: after it, what is different, and on which object do I find it?",
            "Gradients are stored on the model's parameters, whoever computes or removes them. Moments are the optimizer's own.",
            "Only one line changes weights. With momentum it changes moments as well, so it has two owners.",
        ),
        right=(lambda: dict(LEDGER), lambda: _filled(forward=("nothing", "model"), step=("weights and moments", "model"))),
        mistakes=(
            Mistake(
                matches=lambda cells: cells["optimizer.zero_grad()"][0] == "weights",
                slug="zero-grad-zeroes-weights",
                examples=(lambda: _filled(zero=("weights", "model"), step=("weights", "model")),),
            ),
            Mistake(
                matches=lambda cells: "weights" in cells["loss_a.backward()"][0],
                slug="backward-updates",
                examples=(lambda: _filled(a=("weights", "model"), b=("weights", "model"), step=("moments", "optimizer")),),
            ),
            Mistake(
                matches=lambda cells: cells["loss_b.backward()"][0] == "nothing",
                slug="backward-overwrites",
                examples=(lambda: _filled(b=("nothing", "nobody"), step=("weights", "model")),),
            ),
            Mistake(
                matches=lambda cells: "optimizer" in (cells["optimizer.zero_grad()"][1], cells["loss_a.backward()"][1]),
                slug="optimizer-computes-gradient",
                examples=(lambda: _filled(zero=("gradients", "optimizer"), a=("gradients", "optimizer"), b=("gradients", "optimizer")),),
            ),
        ),
    ),
)

QUESTIONS = (
    Question(
        key="01-after-backward",
        kind="predict",
        prompt="The first four lines have run. What is different from before the loop?",
        code="optimizer.zero_grad()\noutput = model(feature)\nloss = criterion(output, label)\nloss.backward()",
        options=(
            Option("The weights: they took a step downhill", "backward-updates"),
            Option(
                "`.grad` of each weight: the model holds a gradient",
                why="`backward` writes `.grad`; the weights wait for `optimizer.step()`.",
            ),
            Option("The optimizer: it holds the gradient now", "optimizer-computes-gradient"),
            Option("Nothing until `optimizer.step()` runs", why="The weights wait until then, but `.grad` is written by `backward`."),
        ),
        right=1,
        proof=(
            "import torch\n"
            "from torch import nn\n"
            "model = nn.Linear(3, 1)\n"
            "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
            "before = model.weight.detach().clone()\n"
            "model(torch.ones(2, 3)).sum().backward()\n"
            "assert torch.equal(model.weight, before) and model.weight.grad is not None and not optimizer.state"
        ),
    ),
    Question(
        key="01-zero-gradient",
        kind="predict",
        prompt="One weight, rate 1/4, momentum 1/2. In the third step the gradient is exactly 0. What does the weight do in this step?",
        options=(
            Option("It stays: nothing pushes it", "zero-gradient-no-movement"),
            Option(
                "It moves on, carried by the moment of the steps before",
                why="The moment still points downhill; the step follows the moment.",
            ),
            Option("It goes back to where it was", why="A step never looks back at old weights."),
            Option("It becomes 0", "zero-grad-zeroes-weights", "Neither the weight nor the moment is set to zero by a zero gradient."),
        ),
        right=1,
        proof=(
            "import torch\n"
            "w = torch.tensor(1.0, requires_grad=True)\n"
            "optimizer = torch.optim.SGD([w], lr=0.25, momentum=0.5)\n"
            "for _ in range(3):\n"
            "    before = w.item()\n"
            "    optimizer.zero_grad()\n"
            "    ((2 * w - 4) ** 2 / 4).backward()\n"
            "    optimizer.step()\n"
            "assert w.grad.item() == 0 and before == 2.0 and w.item() == 2.25"
        ),
    ),
    Question(
        key="01-exit",
        kind="exit",
        prompt="Which of the five lines changes state and also names the owner of what it changes?",
        code="optimizer.zero_grad()\noutput = model(feature)\nloss = criterion(output, label)\nloss.backward()\noptimizer.step()",
        options=(
            Option(
                "`optimizer.zero_grad()`", "optimizer-computes-gradient", "The gradients are the model's, and the line names the optimizer."
            ),
            Option("`optimizer.step()`", why="It moves the model's weights, and the line names the optimizer."),
            Option("None of them", why="Three change state of the model; none of the three has the model in it."),
            Option("`output = model(feature)`", why="It names the model and changes nothing of it; it binds a new name."),
        ),
        right=2,
    ),
)
