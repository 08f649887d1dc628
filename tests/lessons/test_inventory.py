"""The inventory's key is what PyTorch does: each item's code is run, and the letter follows from what was seen."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable

import pytest
import torch
from torch import nn

from tools.say import ROOT

FOLDER = ROOT / "lessons" / "instructor"
QUESTIONS = (FOLDER / "inventory.md").read_text(encoding="utf-8")
KEY = dict(
    re.findall(r"^\| (\d+) \| ([A-D]) \|", (FOLDER / "inventory_key.md").read_text("utf-8"), re.M)
)


LESSONS_OF = {
    item: set(re.findall(r"room \d+|\b\d\d\b(?!_)", cell))
    for item, cell in re.findall(
        r"^\| (\d+) \| [A-D] \| .* \| (.+) \|$",
        (FOLDER / "inventory_key.md").read_text("utf-8"),
        re.M,
    )
}
PLANS = {
    "half a day": ({"00", "01", "02", "04", "09"}, "1 to 5 and 8"),
    "four weeks with 08": ({"00", "01", "02", "03", "04", "06", "07", "08", "10"}, "1 to 6, 8 and 10 with lesson 08"),
    "four weeks with 09": (
        {"00", "01", "02", "03", "04", "06", "07", "09", "10", "room 9", "room 11"},
        "all ten with lesson 09",
    ),
}  # fmt: skip


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_names_the_items_that_it_teaches(plan: str) -> None:
    """The syllabus names the items that the key assigns to the plan's lessons."""
    lessons, words = PLANS[plan]
    said = " ".join((FOLDER / "syllabus.md").read_text("utf-8").split())
    assert words in said and all(lesson in said for lesson in lessons)
    taught = [int(item) for item, of in LESSONS_OF.items() if of & lessons]
    named = words.split(" with")[0].replace("all ten", "1 to 10")
    ranges = re.findall(r"(\d+)(?: to (\d+))?", named)
    assert taught == [n for a, b in ranges for n in range(int(a), int(b or a) + 1)]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(16, 4, generator=generator), torch.randint(3, (16,), generator=generator)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch()[0]), batch()[1]).backward()
        optimizer.step()


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in model.parameters()]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(map(torch.equal, first, second))


def two_backwards() -> str:
    model = network().eval()
    grads = []
    for _ in range(2):
        nn.functional.cross_entropy(model(batch()[0]), batch()[1]).backward()
        grads.append([weight.grad.clone() for weight in model.parameters()])
    return "C" if same(grads[1], [2 * grad for grad in grads[0]]) else "?"


def state_dict() -> str:
    model = network()
    best = model.state_dict()
    train(model, torch.optim.SGD(model.parameters(), lr=0.1))
    after = weights(model)
    model.load_state_dict(best)
    return "B" if same(weights(model), after) else "A"


def replaced_layer() -> str:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model[3] = nn.Linear(8, 3)
    first = weights(model[3])
    train(model, optimizer)
    return "D" if same(first, weights(model[3])) else "A"


def momentum() -> str:
    weight = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    for grad in [1.0] * 10 + [0.0]:
        before, weight.grad = weight.detach().clone(), torch.tensor([grad])
        optimizer.step()
    return "B" if torch.equal(before, weight) else "A"


def statistics() -> str:
    model = network().train()
    before, mean = weights(model), model[1].running_mean.clone()
    with torch.no_grad():
        model(batch()[0])
    moved = not torch.equal(mean, model[1].running_mean)
    return "B" if moved and same(before, weights(model)) and model[0].weight.grad is None else "?"


def dropout() -> str:
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout())
    with torch.no_grad():
        return "?" if torch.equal(model(batch()[0]), model(batch()[0])) else "C"


def total_loss() -> str:
    model, total, nodes = network(), 0, []
    for _ in range(3):
        loss = nn.functional.cross_entropy(model(batch()[0]), batch()[1])
        nodes.append(loss.grad_fn)
        total = total + loss
    found, waiting = set(), [total.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [one for one, _ in node.next_functions]
    return "B" if all(node in found for node in nodes) else "C"


def cleared_too_early() -> str:
    model = network()
    before = weights(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    nn.functional.cross_entropy(model(batch()[0]), batch()[1]).backward()
    optimizer.zero_grad()
    optimizer.step()
    return "C" if same(before, weights(model)) else "A"


def clipped_too_late() -> str:
    ends = []
    for clip in (True, False):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            train(model, optimizer, steps=1)
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        ends.append(weights(model))
    return "C" if same(*ends) else "A"


def resumed() -> str:
    model = network().eval()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    train(model, optimizer)
    other = copy.deepcopy(model)
    train(model, optimizer, steps=1)
    train(other, torch.optim.Adam(other.parameters(), lr=0.1), steps=1)
    return "A" if same(weights(model), weights(other)) else "C"


RUNS: list[Callable[[], str]] = [
    two_backwards,
    state_dict,
    replaced_layer,
    momentum,
    statistics,
    dropout,
    total_loss,
    cleared_too_early,
    clipped_too_late,
    resumed,
]


@pytest.mark.parametrize("number", range(1, 11))
def test_the_key_is_what_pytorch_does(number: int) -> None:
    assert KEY[str(number)] == RUNS[number - 1]()


def test_the_key_is_apart_and_covers_every_item() -> None:
    assert list(KEY) == re.findall(r"^## (\d+)$", QUESTIONS, re.M)
    assert "right" not in QUESTIONS.lower().replace("copyright", "")
    for item in QUESTIONS.split("\n## ")[1:]:
        assert re.findall(r"^- ([A-D]): ", item, re.M) == list("ABCD")
