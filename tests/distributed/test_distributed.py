"""Ranks that exchange values: equal everywhere, the bits of DDP, and errors instead of hangs."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import fnlib
from fnlib.distributed import all_reduce, broadcast, same_everywhere
from tests.distributed.ranks import on_ranks

ROOT = Path(__file__).parents[2]
STEPS = 6
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="ranks are children made by fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))


def batch(rank: int, step: int, part: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(100 * step + 10 * rank + part)
    return torch.randn(6, 4, generator=generator)


class SometimesUsed(nn.Module):
    """A branch that only rank 0 takes, in every second step, and one that nobody takes."""

    def __init__(self) -> None:
        super().__init__()
        self.always, self.sometimes, self.never = (nn.Linear(4, 2) for _ in range(3))

    def forward(self, x: Tensor, branch: bool) -> Tensor:
        return self.always(x) + (self.sometimes(x) if branch else 0)


def gathered(thing: Any) -> list[Any]:
    everybody: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everybody, thing)
    return everybody


# --- the bits of DDP ------------------------------------------------------------------------------


def ddp_run(rank: int, bucket: float, parts: int, clip: float | None) -> tuple[Any, Any]:
    torch.manual_seed(0)
    module = build()
    model = DistributedDataParallel(module, bucket_cap_mb=bucket)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for step in range(STEPS):
        optimizer.zero_grad()
        for part in range(parts):
            last = part == parts - 1
            with torch.enable_grad() if last else model.no_sync():
                loss = model(batch(rank, step, part)).square().mean() / parts
                loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
    return module, optimizer


def functional_run(rank: int, parts: int, clip: float | None) -> fnlib.Parameters:
    torch.manual_seed(0)
    ModelFactory = fnlib.Factory(build, optimizer=fnlib.Adam(lr=0.05))
    parameters = broadcast(ModelFactory(fnlib.Parameters()).parameters)
    for step in range(STEPS):
        model = ModelFactory(parameters)
        gradient: Any = 0
        buffers: Any = broadcast(parameters.buffers)
        for part in range(parts):
            output, buffers = model.carry(buffers).with_buffers(batch(rank, step, part))
            gradient = gradient + model.backward(output.square().mean() / parts)
        gradient = all_reduce(gradient)
        if clip is not None:
            gradient = gradient.clip_norm(clip)
        parameters = model.step(gradient, buffers=dict(buffers))
    return parameters


def the_bits_of_ddp(rank: int) -> None:
    """Adam, BatchNorm, several bucket sizes, accumulation, clipping."""
    for bucket, parts, clip in ((25, 1, None), (0.0001, 1, 0.1), (0.02, 3, None), (25, 2, 0.1)):
        module, optimizer = ddp_run(rank, bucket, parts, clip)
        parameters = functional_run(rank, parts, clip)
        for name, weight in module.named_parameters():
            assert torch.equal(parameters[name], weight), (bucket, parts, clip, name)
            moments = parameters.optimizer_state["state"][name]
            for key, moment in optimizer.state[weight].items():
                assert torch.equal(moments[key], moment), (name, key)
        for name, buffer in module.named_buffers():
            assert torch.equal(parameters.buffers[name], buffer), name
        same_everywhere(parameters.replace(buffers=broadcast(parameters.buffers)))


def unused_as_in_ddp(rank: int) -> None:
    """Zero where a rank lacks an entry, absent where all do."""
    torch.manual_seed(0)
    module = SometimesUsed()
    parameters = fnlib.Parameters.from_module(module)
    ModelFactory = fnlib.Factory(SometimesUsed, optimizer=fnlib.SGD(lr=0.1, momentum=0.9))
    ddp = DistributedDataParallel(module, find_unused_parameters=True)
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.1, momentum=0.9)
    for step in range(4):
        branch = rank == 0 and step % 2 == 1
        optimizer.zero_grad()
        ddp(batch(rank, step), branch).square().mean().backward()
        optimizer.step()
        model = ModelFactory(parameters)
        gradient = all_reduce(model.backward(model(batch(rank, step), branch).square().mean()))
        assert "never.weight" not in gradient
        assert ("sometimes.weight" in gradient) == (step % 2 == 1)
        parameters = model.step(gradient)
    for name, weight in module.named_parameters():
        assert torch.equal(parameters[name], weight), name
    same_everywhere(parameters)


# --- what is equal everywhere ---------------------------------------------------------------------


def equal_everywhere(rank: int) -> None:
    """The mean, of each kind of number, on any number of ranks, and nothing given is changed."""
    size = dist.get_world_size()
    kinds = (torch.float32, torch.float64, torch.bfloat16, torch.complex64)
    network = nn.ModuleDict({str(i): nn.Linear(2, 3, dtype=k) for i, k in enumerate(kinds)})
    given = fnlib.Gradient(
        {name: torch.full_like(weight, float(rank)) for name, weight in network.named_parameters()}
    )
    before = copy.deepcopy(given)
    mean = all_reduce(given)
    assert given == before and list(mean) == list(given)
    for name, tensor in mean.items():
        assert tensor.dtype == given[name].dtype and tensor.shape == given[name].shape
        assert torch.allclose(tensor, torch.full_like(tensor, (size - 1) / 2))
    random = fnlib.Gradient({"w": torch.randn(1000), "last": torch.randn(3, 4, 5, 6).mT})
    everybody = gathered({name: tensor for name, tensor in all_reduce(random).items()})
    for other in everybody:
        for name in other:
            assert torch.equal(other[name], everybody[0][name])
            assert other[name].stride() == random[name].stride()


def by_hand(rank: int) -> None:
    """Gradients that somebody made may lack entries: also all of them (a rank without a batch)."""
    size = dist.get_world_size()
    entries = {"a": torch.ones(2), "b": torch.ones(3, 2)}
    mean = all_reduce(fnlib.Gradient(entries if rank == 0 else {}))
    assert mean["b"].equal(torch.full((3, 2), 1 / size)) and list(mean) == ["a", "b"]
    only = {"a": torch.ones(2)} if rank == 0 else {"c": torch.ones(())}
    assert sorted(all_reduce(fnlib.Gradient(only))) == ["a", "c"]
    assert len(all_reduce(fnlib.Gradient({}))) == 0


def buffers_of_a_pass(rank: int) -> None:
    """A step takes reduced or broadcast buffers for those of its own forward pass."""
    size = dist.get_world_size()
    ModelFactory = fnlib.Sequential(nn.BatchNorm1d(3))
    model = ModelFactory(fnlib.Parameters())
    output, buffers = model.with_buffers(torch.full((4, 3), float(rank)))
    means = buffers["0.running_mean"].clone()
    gradient = model.backward(output.sum())
    for function, expected in ((all_reduce, 0.1 * (size - 1) / 2), (broadcast, 0.0)):
        after = model.step(gradient, buffers=function(buffers))
        assert torch.allclose(after.buffers["0.running_mean"], torch.full((3,), expected))
        assert after.buffers["0.num_batches_tracked"] == 1
        same_everywhere(after.replace(optimizer_state=None))
        assert torch.equal(buffers["0.running_mean"], means)


def from_rank_0(rank: int) -> None:
    """Everybody starts from rank 0: moments, count and layout too, whatever the others hold."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(
        memory_format=torch.channels_last
    )
    ModelFactory = fnlib.Factory(lambda: network, optimizer=fnlib.Adam(amsgrad=True))
    parameters = fnlib.Parameters.from_module(network)
    if rank == 0:
        model = ModelFactory(parameters)
        output, buffers = model.with_buffers(torch.randn(2, 3, 8, 8))
        parameters = model.step(model.backward(output.sum()), buffers=buffers)
    elif rank == 1:
        parameters = fnlib.Parameters()
    found = broadcast(parameters)
    everybody = gathered(found)
    assert all(other == everybody[0] for other in everybody) and found.step_count == 1
    assert found["0.weight"].stride() == everybody[0]["0.weight"].stride()
    same_everywhere(found)
    model = ModelFactory(found)
    output, buffers = model.with_buffers(torch.ones(2, 3, 8, 8))
    same_everywhere(model.step(all_reduce(model.backward(output.sum())), buffers=buffers))


def uneven_batches(rank: int) -> None:
    """Weighted means give the gradient of the whole batch; a rank without data sends nothing."""
    size = dist.get_world_size()
    x = torch.randn(3 * size - 1, 4, generator=torch.Generator().manual_seed(0))
    ModelFactory = fnlib.Sequential(nn.Linear(4, 2))
    model = ModelFactory(fnlib.Parameters(seed=0))
    mine = x[rank::size] if rank else x[0::size]
    gradient = model.backward(model(mine).square().sum() / len(x)) * float(size)
    whole = model.backward(model(x).square().sum() / len(x))
    for name, tensor in all_reduce(gradient).items():
        assert torch.allclose(tensor, whole[name], atol=1e-6)


# --- what differs ---------------------------------------------------------------------------------


def replicas_that_differ(rank: int) -> None:
    last = dist.get_world_size() - 1
    ModelFactory = fnlib.Sequential(nn.Linear(4, 2), nn.Linear(2, 1), optimizer=fnlib.Adam())
    model = ModelFactory(fnlib.Parameters(seed=0))
    value = model.step(model.backward(model(torch.ones(1, 4)).sum()))
    same_everywhere(value)
    bias = value["1.bias"] + (rank == last)
    with pytest.raises(fnlib.ReplicasDiffer) as caught:
        same_everywhere(value.replace(weights={"1.bias": bias}))
    says = str(caught.value)
    others = "rank 0" if last == 1 else f"ranks {', '.join(map(str, range(last)))}"
    assert "parameters['1.bias'] isn't the same everywhere" in says and "after step 1" in says
    assert f"({others} against rank {last})" in says and "1 of" in says
    state = value.optimizer_state
    state["state"]["0.weight"]["exp_avg"][0, 0] += rank
    with pytest.raises(fnlib.ReplicasDiffer, match=r"\['0.weight'\]\['exp_avg'\]"):
        same_everywhere(value.replace(optimizer_state=state))
    later = ModelFactory(value).step(model.backward(model(torch.ones(1, 4)).sum()))
    with pytest.raises(fnlib.ReplicasDiffer, match="after step 1 and 2"):
        same_everywhere(later if rank else value)
    same_everywhere(value)  # the group goes on


def ranks_that_disagree(rank: int) -> None:
    """Other shapes, other calls, other buffers: a named error on every rank, and the group goes on."""
    gradient = fnlib.Gradient({"w": torch.ones(2 + rank)})
    with pytest.raises(fnlib.RanksDisagree, match=r"'w' is \(2,\) float32 on rank 0, \(3,\)"):
        all_reduce(gradient)
    half = torch.ones(2, dtype=torch.bfloat16 if rank else torch.float32)
    with pytest.raises(fnlib.RanksDisagree, match="bfloat16 on rank"):
        all_reduce(fnlib.Gradient({"w": half}))
    with pytest.raises(fnlib.RanksDisagree, match="the number of tensors is 2 on rank 0"):
        broadcast({str(i): torch.ones(1) for i in range(2 + rank)})
    with pytest.raises(fnlib.RanksDisagree) as caught:
        if rank == 0:
            same_everywhere(fnlib.Parameters.from_module(nn.Linear(1, 1)))
        else:
            all_reduce(fnlib.Gradient({"w": torch.ones(2)}))
    says = str(caught.value)
    assert "same_everywhere at " in says and "all_reduce of a gradient at " in says
    assert "test_distributed.py" in says and "on rank 0" in says
    with pytest.raises((fnlib.EmptyParameters, fnlib.RanksDisagree)):
        broadcast(fnlib.Parameters())
    model = fnlib.Sequential(nn.Linear(1, 1))(fnlib.Parameters(seed=0))
    if rank == 0:
        model.step({}, donate=True)
    with pytest.raises(fnlib.RanksDisagree if rank else fnlib.Donated):
        broadcast(model.parameters)
    assert all_reduce(fnlib.Gradient({"w": torch.ones(2)}))["w"].equal(torch.ones(2))


def what_cannot_be_sent(rank: int) -> None:
    sparse = torch.eye(2).to_sparse()
    with pytest.raises(fnlib.CannotReduce, match="'w' is sparse"):
        all_reduce(fnlib.Gradient({"w": sparse}))
    for wrong in (3, [torch.ones(1)], {"w": 1.0}):
        for function in (all_reduce, broadcast, same_everywhere):
            with pytest.raises(fnlib.WrongParameters, match="Ranks exchange gradients"):
                function(wrong)  # type: ignore[operator]


FOR_ALL = (equal_everywhere, by_hand, buffers_of_a_pass, from_rank_0, uneven_batches, replicas_that_differ,
           ranks_that_disagree, what_cannot_be_sent)  # fmt: skip


@pytest.mark.parametrize("size", [2, 3, 4])
def test_ranks_exchange_values(size: int) -> None:
    """One group runs the whole table, so what an error leaves behind would show."""
    cases = (the_bits_of_ddp, unused_as_in_ddp, *FOR_ALL) if size == 2 else FOR_ALL

    def run(rank: int) -> None:
        for case in cases:
            case(rank)
            dist.barrier()

    on_ranks(size, run)


def counted(function: Callable[[], object]) -> dict[str, int]:
    """Count the collectives in a call."""
    found: dict[str, int] = {}
    names = ("all_reduce", "broadcast", "all_gather", "all_gather_object", "broadcast_object_list")
    originals = {name: getattr(dist, name) for name in names}

    def wrapped(name: str) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            found[name] = found.get(name, 0) + 1
            return originals[name](*args, **kwargs)

        return wrapper

    for name in names:
        setattr(dist, name, wrapped(name))
    try:
        function()
    finally:
        for name, original in originals.items():
            setattr(dist, name, original)
    return found


def test_one_flat_collective_a_step() -> None:
    """After the check of 24 bytes, one collective carries the whole gradient."""

    def run(rank: int) -> None:
        model = fnlib.Factory(build)(fnlib.Parameters(seed=0))
        output, buffers = model.with_buffers(batch(rank, 0))
        gradient = model.backward(output.sum())
        flat = {"all_gather": 1, "all_reduce": 1}
        assert counted(lambda: all_reduce(gradient)) == flat
        assert counted(lambda: all_reduce(buffers)) == flat
        assert counted(lambda: broadcast(buffers)) == {"all_gather": 1, "broadcast": 1}
        assert counted(lambda: same_everywhere(model.parameters)) == {"all_gather": 1}

    on_ranks(2, run)


# --- ranks that are lost --------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["dies", "hangs", "ends"])
def test_a_lost_rank_is_a_named_error_in_time(how: str) -> None:
    """Within the timeout of the group, in whatever call the others are."""

    def run(rank: int) -> None:
        gradient = fnlib.Gradient({"w": torch.ones(3)})
        all_reduce(gradient)
        if rank == 1:
            if how == "dies":
                os.kill(os.getpid(), 9)
            if how == "hangs":
                time.sleep(8)
            return
        begin = time.monotonic()
        with pytest.raises(fnlib.RankLost) as caught:
            for _ in range(3):
                all_reduce(gradient)
        assert time.monotonic() - begin < 30
        assert "Another rank didn't take part in all_reduce of a gradient" in str(caught.value)

    on_ranks(2, run, timeout=4, dies=(1,))


# --- alone ----------------------------------------------------------------------------------------


def test_alone_they_are_the_identity() -> None:
    """A script runs unchanged without a process group, and in a group of one."""

    def check(rank: int = 0) -> None:
        model = fnlib.Factory(build)(fnlib.Parameters(seed=0))
        output, buffers = model.with_buffers(batch(0, 0))
        gradient = model.backward(output.sum())
        assert all_reduce(gradient) is gradient and all_reduce(buffers) is buffers
        assert broadcast(buffers) is buffers and broadcast(model.parameters) is model.parameters
        same_everywhere(model.parameters)
        what_cannot_be_sent(0)

    check()
    on_ranks(1, check)


SCRIPT = """
import torch, torch.distributed as dist, fnlib
from torch import nn
dist.init_process_group("gloo")
rank = dist.get_rank()
ModelFactory = fnlib.Sequential(nn.Linear(4, 2), optimizer=fnlib.Adam())
torch.manual_seed(rank)
parameters = fnlib.distributed.broadcast(ModelFactory(fnlib.Parameters()).parameters)
for step in range(5):
    model = ModelFactory(parameters)
    loss = model(torch.randn(8, 4)).square().mean()
    parameters = model.step(fnlib.distributed.all_reduce(model.backward(loss)))
fnlib.distributed.same_everywhere(parameters)
print(f"same after {parameters.step_count}")  # one write, which the other rank cannot split
dist.destroy_process_group()
"""


@pytest.mark.long
def test_a_script_under_torchrun(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, "train.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0 and done.stdout.count("same after 5") == 2, done.stderr
