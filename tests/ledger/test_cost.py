"""What recording costs is bounded by what it keeps: summaries and not copies. How fast it is, `make bench` measures."""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
import weakref
from typing import Any

import pytest
import torch
from torch import nn

from fnlib.ledger import Ledger, Summary
from fnlib.ledger.looks import sighting


def trained(**how: Any) -> Ledger:
    model = nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Ledger(model=model, optimizer=optimizer, **how) as ledger:
        for _ in range(5):
            optimizer.zero_grad()
            model(torch.ones(2, 300)).sum().backward()
            optimizer.step()
    return ledger


def large_tensors() -> int:
    gc.collect()
    return sum(
        type(one) in (torch.Tensor, nn.Parameter) and one.numel() == 90_000
        for one in gc.get_objects()
    )


@pytest.mark.usefixtures("only_new_objects")
def test_changes_keep_summaries_and_copies_only_when_asked() -> None:
    before = large_tensors()
    ledger = trained()
    assert (
        large_tensors() == before
    )  # not one of the weights and gradients of five iterations is kept
    sides = [
        side
        for entry in ledger.entries
        for change in entry.changes
        for side in (change.before, change.after)
    ]
    assert all(side.value is None for side in sides if isinstance(side, Summary))
    kept = trained(keep=True)
    values = [side.value for entry in kept.entries for change in entry.changes for side in (change.before, change.after)
              if isinstance(side, Summary)]  # fmt: skip
    assert (
        values
        and all(isinstance(value, torch.Tensor) for value in values)
        and large_tensors() >= before + 10
    )


def test_memory_of_an_iteration_does_not_grow() -> None:
    """An iteration takes as much memory in a long recording as in a short one."""

    def recorded(steps: int) -> int:
        weight = torch.ones(3)
        with Ledger(weight=weight) as ledger:
            for _ in range(steps):
                weight.mul_(1.0001)
                total = weight.sum()
        assert len(ledger.entries) >= 2 * steps and total is not None
        return tracemalloc.get_traced_memory()[0]

    recorded(20)
    tracemalloc.start()
    try:
        start = tracemalloc.get_traced_memory()[0]
        short = recorded(100) - start
        long = recorded(1000) - start
    finally:
        tracemalloc.stop()
    assert (
        long < 15 * short and long < 1000 * 12_000
    )  # about 5 KB for an iteration of three entries


WAITING: dict[str, tuple[dict[str, int], int]] = {
    "few bytes of small copies": ({}, 0),
    "more than are kept": ({"KEPT": 1000}, 10),
    "few bytes of large copies": ({"SMALL": 10}, 0),
    "more than may wait": ({"SMALL": 10, "ENOUGH": 1000}, 10),
}


@pytest.mark.parametrize("case", WAITING)
def test_copies_wait_until_they_are_read_or_too_many(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 10 changes of 400 bytes each, 9 are summed up early where 1,000 bytes may wait."""
    limits, early = WAITING[case]
    for name, value in limits.items():
        monkeypatch.setattr(sighting, name, value)
    norms, original = list[float](), sighting.summarise

    def counted(*given: Any) -> Summary:
        norms.append(0.0 if not given[0] else float(given[0][0].norm()))
        return original(*given)

    monkeypatch.setattr(sighting, "summarise", counted)
    weight = torch.zeros(100)
    with Ledger(weight=weight) as ledger:
        for _ in range(10):
            weight.add_(1)
        assert len(norms) == early
    assert len(ledger.entries) >= 10 and norms == [10.0 * i for i in range(11)]


def test_loading_often_leaves_no_references_behind() -> None:
    """What asks whether a loaded module ends with its statement goes with the statement."""
    model = nn.Linear(2, 1)
    with Ledger(model=model):
        model.load_state_dict(model.state_dict())
        once = weakref.getweakrefcount(model)
        for _ in range(10):
            model.load_state_dict(model.state_dict())
        often = weakref.getweakrefcount(model)
    assert often == once


def test_watching_less_looks_at_less_and_still_sees_it() -> None:
    model = nn.Linear(2, 2)
    for watched in ({"gradient"}, {"weight"}, {"buffer"}, {"mode flag"}, {"weight", "gradient"}):
        with Ledger(model=model, watch=watched) as ledger:
            for _ in range(3):
                model(torch.ones(1, 2)).sum().backward()
                model.weight.data.add_(1)
                model.train(not model.training)
                model.weight.grad = None
        told = {change.state for entry in ledger.entries for change in entry.changes} - {
            "name",
            "graph",
        }
        assert told == watched - {"buffer"}, watched
        last = [
            [change.kind for change in entry.changes if change.place == "weight.grad"]
            for entry in ledger.entries
        ][-4:]
        assert ("gradient" in watched) == (last == [["created"], [], [], ["removed"]])


@pytest.mark.parametrize(
    "watched", [{"requires_grad flag"}, {"requires_grad flag", "gradient"}, None]
)
def test_a_flag_is_seen_whatever_else_is_watched(watched: set[str] | None) -> None:
    """A requires_grad flag that changes is seen without a look at the numbers, too."""
    model, weight = nn.Linear(2, 2), torch.ones(2, requires_grad=True)
    with Ledger(model=model, weight=weight, watch=watched) as ledger:
        for _ in range(3):
            model.eval()
        model.weight.requires_grad_(False)
        weight.requires_grad_(False)
        weight.requires_grad_(True)
    flags = [[change.label for change in entry.changes if change.state == "requires_grad flag"]
             for entry in ledger.entries]  # fmt: skip
    own = "weight.requires_grad"
    assert flags[-3:] == [["model.weight.requires_grad"], [own], [own]]


def test_bytes_that_cannot_be_read_in_place_are_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Compare the bytes of tensors whose memory can't be read in place."""
    seen = []
    for far in (False, True):
        if far:  # on an accelerator
            for name in ("sighting", "bytes"):
                monkeypatch.setattr(f"fnlib.ledger.looks.{name}.gapless", lambda tensor: False)
        weight, turned = torch.ones(3), torch.arange(6.0).view(2, 3).t()
        with Ledger(weight=weight, turned=turned, gaps=torch.arange(8.0)[::2]) as ledger:
            weight[1] = float("nan")
            weight.mul_(1)
            weight[0] = -0.0
            turned[2, 1] = 7
        seen.append([[change.label for change in entry.changes] for entry in ledger.entries])
    assert seen[0] == seen[1] == [["weight"], [], ["weight"], ["turned"]]


def test_another_kind_of_number_in_the_same_bytes_is_a_change() -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("mean", torch.ones(2))
    with Ledger(model=model) as ledger:
        for _ in range(2):
            model.train()
        model.mean.data = model.mean.data.view(torch.int32)
        model.mean.data = model.mean.data.view(torch.float32)
    assert [[change.label for change in entry.changes] for entry in ledger.entries[-2:]] == [
        ["model.mean"],
        ["model.mean"],
    ]


@pytest.mark.long
def test_without_a_ledger_nothing_is_slowed_down() -> None:
    """Importing and recording patch nothing: the code that runs afterwards is PyTorch's own."""
    program = """
import sys, torch
from torch import nn
kinds = (torch.Tensor, nn.Module, nn.Linear, nn.Parameter, torch.optim.Optimizer, torch.optim.SGD, torch.optim.lr_scheduler.LRScheduler)
model = nn.Linear(2, 2)
torch.optim.SGD(model.parameters(), lr=0.1).step()
def stands():
    return [dict(vars(kind)) for kind in kinds], dict(vars(torch.autograd)), sys.gettrace(), sys.getprofile(), dict(vars(nn.modules.module))
before = stands()
import fnlib
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with fnlib.Ledger(model=model, optimizer=optimizer) as ledger:
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
assert len(ledger.entries) == 2 and stands() == before
assert not model._forward_hooks and not optimizer._optimizer_step_pre_hooks
"""
    subprocess.run([sys.executable, "-c", program], check=True)
