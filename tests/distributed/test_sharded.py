"""Weights and moments as DTensors: what of fnlib works on them unchanged, and what refuses by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fnlib
from tests.distributed.ranks import on_ranks

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="ranks are children made by fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
RULES: dict[str, Any] = {
    "SGD": fnlib.SGD(lr=0.1, momentum=0.9),
    "Adam": fnlib.Adam(lr=0.1),
    "wrap": fnlib.wrap(torch.optim.AdamW, lr=0.1),
}


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))


def tensors_in(tree: Any) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree]
    inside = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return [tensor for part in inside for tensor in tensors_in(part)]


def test_a_sharded_step_and_what_refuses(tmp_path: Path) -> None:
    """Each rank keeps half of weights and moments (as ZeRO does); the steps are those of one rank."""

    def run(rank: int) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor import DTensor, Shard, distribute_tensor

        mesh = init_device_mesh("cpu", (2,))
        whole = fnlib.Factory(build)(fnlib.Parameters(seed=0)).parameters
        sharded = whole.replace(
            weights={name: distribute_tensor(whole[name], mesh, [Shard(0)]) for name in whole}
        )
        x = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
        for rule in RULES.values():
            ModelFactory = fnlib.Factory(build, optimizer=rule)
            one, many = whole, sharded
            for step in range(3):
                model = ModelFactory(one)
                one = model.step(model.backward(model(x).square().mean()))
                model = ModelFactory(many)
                output = model(distribute_tensor(x, mesh, [Shard(0)]))  # a share of the batch
                gradient = model.backward(output.square().mean()).clip_norm(10.0)
                many = model.step(gradient, donate=step == 2)
            for name in one:
                found: Any = many[name]
                assert isinstance(found, DTensor)
                assert 2 * found.to_local().numel() == one[name].numel()
                assert torch.allclose(found.full_tensor(), one[name], atol=1e-6)
            moments = [t for t in tensors_in(many.optimizer_state) if t.ndim]
            assert moments and all(isinstance(moment, DTensor) for moment in moments)
        kept: Any = sharded["0.weight"]
        kept.zero_()
        assert sharded == sharded.replace() and "16" in repr(sharded)
        again: Any = sharded["0.weight"]
        assert again.to_local().abs().sum() > 0, "a write reached the value"
        for refused in (sharded.save, fnlib.History(tmp_path / str(rank)).append):
            with pytest.raises(fnlib.CannotStore, match="A sharded tensor"):
                refused(tmp_path / "file" if refused == sharded.save else sharded)  # type: ignore[operator]
        with pytest.raises(fnlib.CannotReduce, match="a DTensor, which autograd reduces by itself"):
            fnlib.distributed.all_reduce(gradient)
        with pytest.raises(fnlib.CannotReduce, match="'0.weight' is a DTensor"):
            fnlib.distributed.same_everywhere(sharded)

    on_ranks(2, run)


def test_the_ledger_follows_weights_that_are_sharded() -> None:
    """Each line that swaps shares for whole weights, or back, is a row; the step writes in place."""

    def run(rank: int) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (2,))
        network = build()
        with fnlib.Ledger(network=network) as ledger:
            fully_shard(network, mesh=mesh)
            optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
            loss = network(torch.ones(2, 8)).sum()
            loss.backward()
            optimizer.step()
        assert not ledger.notes, ledger.notes
        seen = {
            entry.source.strip(): [
                (change.state, change.kind) for change in entry.changes if change.owner == "network"
            ]
            for entry in ledger.entries
        }
        replaced, created = ("weight", "replaced"), ("gradient", "created")
        assert seen["fully_shard(network, mesh=mesh)"] == [replaced] * 4
        assert seen["loss = network(torch.ones(2, 8)).sum()"] == [replaced] * 4
        assert sorted(seen["loss.backward()"]) == [created] * 4 + [replaced] * 4
        assert seen["optimizer.step()"] == [("weight", "changed in place")] * 4

    on_ranks(2, run)
