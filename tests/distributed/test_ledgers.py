"""Which statement made the replicas differ: the recordings of all ranks, side by side."""

from __future__ import annotations

import os

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import fnlib
from fnlib.ledger import Ranks, across_ranks
from tests.distributed.ranks import on_ranks
from tests.distributed.test_distributed import batch, build

STEPS = 3
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="ranks are children made by fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


def loop(rank: int, fault: str) -> Ranks:
    """A stock loop with one line that a rank shouldn't have alone."""
    torch.manual_seed(rank if fault == "other start" else 0)
    module = build()
    wrapped = fault not in ("other start", "never reduced", "by hand", "clipped by hand")
    model: nn.Module = DistributedDataParallel(module) if wrapped else module
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    with fnlib.Ledger(model=model, optimizer=optimizer) as ledger:
        for step in range(STEPS):
            optimizer.zero_grad()
            forward = module if fault == "module called" and step else model
            loss = forward(batch(rank, step)).square().mean()
            loss.backward()
            if "by hand" in fault:
                reduce(module)
            if rank == 1 and step == 1 and fault in ("clipped", "clipped by hand"):
                nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            if rank == 1 and step == 1 and fault == "another rate":
                optimizer.param_groups[0]["lr"] = 0.5
            optimizer.step()
            if rank == 0 and step == 1 and fault == "loaded":
                module[0].weight.data.zero_()
    return across_ranks(ledger)


def reduce(module: nn.Module) -> None:
    for weight in module.parameters():
        if weight.grad is not None:
            dist.all_reduce(weight.grad)
            weight.grad /= dist.get_world_size()


# What the statement is that parts the ranks, and a part of what is said.
FAULTS: dict[str, tuple[str | None, str]] = {
    "clipped": ("nn.utils.clip_grad_norm_(model.parameters(), 0.01)", "were still the same"),
    "clipped by hand": ("nn.utils.clip_grad_norm_(model.parameters(), 0.01)", "still the same"),
    "never reduced": ("loss.backward()", "nothing reduced them before the step"),
    "another rate": ("optimizer.step()", "The gradients were the same"),
    "loaded": ("module[0].weight.data.zero_()", "Not every rank ran this statement"),
    "module called": ("loss.backward()", "nothing reduced them before the step"),
    "other start": (None, "differed before"),
}
OF_GRADIENTS = ("still the same", "were still the same", "nothing reduced them before the step")


# --- DistributedDataParallel wrapped anew, and other ways in which it loses a network -------------


def wrapped(rank: int, case: str) -> Ranks:
    """A loop in which the wrapper changes, or the network does after it was wrapped."""
    torch.manual_seed(rank if "other start" in case else 0)
    module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    module[0].requires_grad_(case != "unfrozen later")
    late = "other start" in case or case == "for one step"
    model: nn.Module = module if late else DistributedDataParallel(module)
    module[0].requires_grad_(True)
    if case == "converted and back":
        module.double().float()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    with fnlib.Ledger(model=module, optimizer=optimizer) as ledger:
        if "broadcast" in case:
            for weight in module.parameters():
                dist.broadcast(weight.data, 0)
        if "other start" in case:
            model = DistributedDataParallel(module)
        for step in range(STEPS):
            optimizer.zero_grad()
            if "anew" in case and step:
                model = DistributedDataParallel(module)
            if case == "for one step":
                loss = DistributedDataParallel(module)(batch(rank, step)).square().mean()
            else:
                bare = case == "left out once" and step == 1
                loss = (module if bare else model)(batch(rank, step)).square().mean()
            loss.backward()
            if "clipped" in case and rank == 1 and step == 1:
                nn.utils.clip_grad_norm_(module.parameters(), 0.01)
            optimizer.step()
    return across_ranks(ledger)


CLIP = "nn.utils.clip_grad_norm_(module.parameters(), 0.01)"
WRAPPED: dict[str, str | None] = {  # the statement that parts the ranks, if any
    "other start": None,
    "other start, broadcast": None,
    "anew": None,
    "anew, other start": None,
    "anew, clipped": CLIP,
    "other start, clipped": CLIP,
    "for one step": "loss.backward()",
    "left out once": "loss.backward()",
    "unfrozen later": "loss.backward()",
    "converted and back": "loss.backward()",
}


def test_a_wrapper_that_is_made_anew_is_seen_through() -> None:
    """Ranks that a broadcast brings together count from there; a lost exchange is named."""

    def run(rank: int) -> None:
        for case, statement in WRAPPED.items():
            found = wrapped(rank, case)
            assert (found.at and found.at.source) == statement, f"{case}: {found!r}"
            assert bool(found) == (statement is None), f"{case}: {found!r}"
            if statement == "loss.backward()":
                assert "nothing reduced them before the step" in repr(found), case

    on_ranks(2, run)


def test_a_write_on_some_ranks_is_told_from_a_missing_one() -> None:
    """A statement that all ran and that wrote on one rank alone isn't called missing."""

    def run(rank: int) -> None:
        torch.manual_seed(0)
        module = nn.Linear(4, 2)
        with fnlib.Ledger(model=module) as ledger:
            module.weight.data.mul_(1 + rank)
        found = across_ranks(ledger)
        assert f"at line {found.at and found.at.line}: model.weight" in repr(found), "no loop"
        assert found.at and found.at.source == "module.weight.data.mul_(1 + rank)"
        assert "Every rank ran this statement" in repr(found) and "on rank 1 alone" in repr(found)

    on_ranks(2, run)


def check(fault: str, found: Ranks) -> None:
    statement, says = FAULTS[fault]
    text = repr(found)
    assert not found and found.label is not None and found.label.startswith("model."), text
    assert (found.at and found.at.source) == statement, f"{fault}: {text}"
    assert says in text and "rank 1" in text, text
    first = text.splitlines()[0]
    assert first.endswith(".grad") == (says in OF_GRADIENTS), f"{fault}: {first}"
    iteration = 1 if fault == "never reduced" else 2
    assert found.at is None or f"line {found.at.line}, iteration {iteration}: " in first, first


def test_the_statement_that_parts_the_ranks_is_named() -> None:
    def run(rank: int) -> None:
        for fault in FAULTS:
            found = loop(rank, fault)
            check(fault, found)
            everybody: list[str] = [""] * dist.get_world_size()
            dist.all_gather_object(everybody, repr(found))
            assert len(set(everybody)) == 1, "the same table on every rank"

    on_ranks(2, run)


def sharded(rank: int, fault: str) -> Ranks:
    """A loop of FSDP: each rank keeps a share of weights and moments, and BatchNorm's are whole."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    mesh = init_device_mesh("cpu", (2,))
    for part in (network[0], network[2]):
        fully_shard(part, mesh=mesh)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    with fnlib.Ledger(model=network, optimizer=optimizer) as ledger:
        for step in range(STEPS):
            optimizer.zero_grad()
            x = batch(rank if fault == "never reduced" else 0, step)
            loss = network(x).square().mean()
            loss.backward()
            if rank == 1 and fault == "a share written":
                network[0].weight._local_tensor.add_(1)
            optimizer.step()
    return across_ranks(ledger)


def test_shares_of_sharded_weights_do_not_part_the_ranks() -> None:
    """A share is another part on each rank by design; what is whole beside it is still compared."""

    def run(rank: int) -> None:
        for fault in ("none", "a share written"):
            found = sharded(rank, fault)
            assert found and {"model.0.weight", "model.2.bias"} <= set(found.shares), repr(found)
            assert any("exp_avg" in place for place in found.shares)
            assert "held shares of sharded tensors" in repr(found)
        found = sharded(rank, "never reduced")
        assert not found and found.label is not None and found.label.startswith("model.1."), found
        assert "held shares of sharded tensors" in repr(found)

    on_ranks(2, run)


def test_a_replicated_dtensor_is_compared() -> None:
    """Not every DTensor is a share: one that is replicated is to be the same on all ranks."""

    def run(rank: int) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor import DTensor, Replicate, Shard

        mesh = init_device_mesh("cpu", (2,))
        for placement, parts in ((Replicate(), True), (Shard(0), False)):
            local = torch.ones(2, 2)
            whole = DTensor.from_local(local, mesh, [placement], run_check=False)
            held = {"weight": nn.Parameter(whole)}
            module = nn.ParameterDict(held)
            with fnlib.Ledger(model=module) as ledger:
                local.mul_(1 + rank)
            assert bool(across_ranks(ledger)) != parts, repr(across_ranks(ledger))

    on_ranks(2, run)


def test_sane_loops_do_not_part() -> None:
    """Weights and moments are the same after each statement; BatchNorm's own statistics aren't."""

    def run(rank: int) -> None:
        for kind in ("ddp", "by hand"):
            found = loop(rank, kind)
            assert found.label is not None and ".running_" in found.label, repr(found)
            assert "The weights are the same" in repr(found)

    on_ranks(2, run)


def test_alone_there_is_nothing_to_part() -> None:
    model = nn.Linear(2, 1)
    with fnlib.Ledger(model=model) as ledger:
        loss = model(torch.ones(1, 2)).sum()
        loss.backward()
    assert across_ranks(ledger) and "same" in repr(across_ranks(ledger))
