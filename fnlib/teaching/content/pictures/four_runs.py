"""Four loops on one weight, each watched by a ledger: what lesson 05 draws and asks about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fnlib import Factory, Parameters, encapsulated
from fnlib.ledger import Ledger
from fnlib.optim import SGD
from fnlib.teaching.content.pictures.four_loops import Seen

NAMELESS = {
    "A": "encapsulated",
    "B": "functional",
    "C": "fit",
    "D": "stock",
}  # exercise 05-which asks for this
GRAPH = {"created": "graph built", "removed": "graph freed"}  # as in the ledger's own table


class Run(NamedTuple):
    """One loop's training of one weight.

    Attributes:
        ledger: what each statement changed.
        seen: what was seen from outside.
    """

    ledger: Any
    seen: Seen


def squared(output: Tensor, label: Tensor) -> Tensor:
    """Return a quarter of the squared error: one number."""
    return ((output - label) ** 2 / 4).mean()


def one_weight() -> nn.Sequential:
    """Build a network of one weight, which is 1."""
    network = nn.Sequential(nn.Linear(1, 1, bias=False))
    nn.init.ones_(next(network.parameters()))
    return network


FEATURE, LABEL = torch.tensor([[2.0]]), torch.tensor([[4.0]])
LR, MOMENTUM = 0.25, 0.5
RULE = SGD(lr=LR, momentum=MOMENTUM)


def recorded(steps: int = 4) -> dict[str, Run]:
    """Let four loops train one weight with SGD and momentum, each watched by a ledger.

    Args:
        steps: how many each of them takes.

    Returns:
        Loop -> its ``Run``, in the order stock, encapsulated, fit, functional.

    Example:
        >>> recorded()["functional"].seen.weights
        [1.0, 1.5, 2.0, 2.25, 2.25]
    """
    loops = {"stock": _stock, "encapsulated": _step, "fit": _fit, "functional": _functional}
    return {name: loop(Turns(steps)) for name, loop in loops.items()}


def _stock(turns: Turns) -> Run:
    network = one_weight()
    optimizer = torch.optim.SGD(network.parameters(), lr=LR, momentum=MOMENTUM)
    turns.read = lambda: next(network.parameters())
    with Ledger(network=network, optimizer=optimizer) as ledger:
        for _ in turns:
            optimizer.zero_grad()
            output = network(FEATURE)
            loss = squared(output, LABEL)
            loss.backward()
            optimizer.step()
    return Run(ledger, Seen(turns.losses, turns.weights, ledger.counts))


def _box() -> encapsulated.Sequential:
    box = encapsulated.Sequential(*one_weight(), loss=squared, optimizer=RULE)
    box.parameters = Parameters.from_module(one_weight())
    return box


def _step(turns: Turns) -> Run:
    box = _box()
    turns.read = lambda: box.parameters["0.weight"]
    with Ledger(box=box) as ledger:
        for _ in turns:
            loss = box.step(FEATURE, LABEL)
    del loss
    return Run(ledger, Seen(turns.losses, turns.weights, ledger.counts))


def _fit(turns: Turns) -> Run:
    box = _box()
    with Ledger(box=box) as ledger:
        box.fit(FEATURE, LABEL, epochs=turns.count)
    turns.read = lambda: box.parameters["0.weight"]
    last = turns.weight()
    outside = [1.0, *[None] * (turns.count - 1), last]  # what fit lets you see
    return Run(ledger, Seen([*box.loss_curve_, loss_at(last)], outside, ledger.counts))


def _functional(turns: Turns) -> Run:
    factory = Factory(one_weight, optimizer=RULE)
    model = factory(Parameters.from_module(one_weight()))
    turns.read = lambda: model.parameters["0.weight"]
    with Ledger(model=model) as ledger:
        for _ in turns:
            output = model(FEATURE)
            loss = squared(output, LABEL)
            gradient = model.backward(loss)
            parameters = model.step(gradient)
            model = factory(parameters)
    return Run(ledger, Seen(turns.losses, turns.weights, ledger.counts))


def loss_at(weight: float) -> float:
    """Return the loss of one weight."""
    return (2 * weight - 4) ** 2 / 4


class Turns:
    """The turns of a loop; the weight is read before the first turn and after each."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.read: Callable[[], Tensor] = lambda: torch.ones(1)
        self.weights: list[float | None] = []
        self.losses: list[float] = []

    def weight(self) -> float:
        """Read the weight as it is now."""
        return self.read().item()

    def __iter__(self) -> Iterator[int]:
        for step in range(self.count):
            self._note()
            yield step
        self._note()

    def _note(self) -> None:
        self.weights.append(self.weight())
        self.losses.append(loss_at(self.weight()))


def nameless(runs: Mapping[str, Run], step: int = 3) -> None:
    """Print one step of each ledger without names and statements, in the order of ``NAMELESS``.

    Args:
        runs: loop -> its run.
        step: which step is printed; a ledger without a loop is printed whole.

    Example:
        >>> nameless({"stock": recorded()["stock"]})
        D
          1 ! gradient removed
          2   a name rebound, graph built
          3   a name rebound, graph built
          4 ! gradient created, graph freed
          5 ! weight and moment changed in place
    """
    for letter, name in NAMELESS.items():
        if name not in runs:
            continue
        print(letter)
        ledger = runs[name].ledger
        view = ledger.iteration(step) if ledger.iterations else ledger
        entries = [entry for entry in view.entries if entry.kind == "statement"]
        for number, entry in enumerate(entries, 1):
            mark = "!" if entry.acts_at_a_distance else " "
            print(f"  {number} {mark} {', '.join(_in_short(entry.changes))}")


def _in_short(changes: Sequence[Any]) -> list[str]:
    """What a statement changed, those of one kind together: "weight and moment replaced"."""
    said: dict[str, list[str]] = {}
    for change in changes:
        kind = GRAPH[change.kind] if change.state == "graph" else change.kind
        what = {"name": "a name", "graph": "", "optimizer state": "moment"}.get(
            change.state, change.state
        )
        if change.place == "step_count":
            kind, what = "", f"step count {change.before} to {change.after}"
        if change.state != "group entry" and what not in said.setdefault(kind, []):
            said[kind].append(what)
    return [f"{' and '.join(filter(None, what))} {kind}".strip() for kind, what in said.items()]
