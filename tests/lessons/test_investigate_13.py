"""What lesson 13 asks to change, and what it claims, done as a learner does it."""

from __future__ import annotations

import functools
import os
import re
import subprocess
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tests.distributed.ranks import on_ranks
from tests.lessons.tried import Tried, cell, rows

STOCK = ("predict", "launch", "launcher", "stock", "stock-run", "row")
CONDITION = "if clipping and loss > 1:"
forked = pytest.mark.skipif(not hasattr(os, "fork"), reason="ranks are children made by fork")


# `torchrun` starts a process that starts two, and each loads PyTorch: it's run once as it is, and in other tests
# its two ranks are forked off this process. What the lesson does with their output stays.
FORKED = [
    (
        """done = subprocess.run([*torchrun, "train.py"], cwd=room.name, env=os.environ | settings,
                              capture_output=True, text=True, timeout=90, check=True)""",
        """from tests.distributed import ranks
        done = ranks.torchrun("train.py", cwd=room.name, env=os.environ | settings)""",
    )
]


def verdicts(said: str) -> list[str]:
    return re.findall(
        r"The replicas (?:are the same|diverge at line \d+, iteration \d+: \S+)", said
    )


@functools.lru_cache(maxsize=1)
def whole() -> Tried:
    """Both launches of the lesson, once."""
    return Tried("13", (*STOCK, "functional", "functional-run"), {})


def test_13_the_row_of_the_clipping_parts_the_replicas() -> None:
    """The first run stays together; in the second, one rank clips."""
    tried = whole()
    assert tried.error is None
    sane, parted = verdicts(tried.said)
    assert sane == "The replicas are the same" and parted.endswith(": model.0.weight.grad")
    table = tried.said.split(parted)[1]
    found = re.findall(r"(\w+)\(.*?\)  +(\w{8})  (\w{8})$", table, re.M)
    assert [name for name, *_ in found] == ["backward", "clip_grad_norm_", "step"]
    assert [a == b for _, a, b in found] == [True, False, False]
    assert found[0][1] in found[1][1:], "one rank keeps the gradient, the other one clips it"
    line, iteration = re.findall(r"line (\d+), iteration (\d+)", parted)[0]
    assert f"after step {iteration}\n" in tried.said, "both loops part at the same step"
    assert re.search(rf"^ +{line}  nn.utils.clip_grad_norm_", table, re.M)
    assert re.search(r"loss.backward\(\) +! model: 4 gradients +created", tried.said)


@forked
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_13_without_the_condition_they_stay_the_same() -> None:
    tried = Tried("13", STOCK, {"stock": [(CONDITION, "if clipping:")], "launcher": FORKED})
    assert tried.error is None and verdicts(tried.said) == ["The replicas are the same"] * 2
    assert tried.said.count("test images: True") == 2


@forked
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_13_the_network_inside_exchanges_nothing() -> None:
    """Both runs part at `loss.backward()`, in the first step; undone, the change leaves no trace."""
    change = {"stock": [("model(feature)", "model.module(feature)")], "launcher": FORKED}
    undone = "\n".join(cell("13", id) for id in ("stock", "functional", "functional-run"))
    tried = Tried("13", STOCK, change, undone)
    assert tried.error is None and "the same weights as DDP: True" in tried.said
    assert all("diverge at line" in verdict for verdict in verdicts(tried.said))
    for table in tried.said.split("The replicas diverge")[1:]:
        first = table.splitlines()[2]
        assert "loss.backward()" in first and "nothing reduced them" in table


@forked
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_13_running_statistics_part_and_weights_do_not() -> None:
    """In DDP they diverge; `fnlib` stops at the pass that would drop them, and says so."""
    statistics = [("nn.Linear(128, 64), ", "nn.Linear(128, 64), nn.BatchNorm1d(64), ")]
    change = {"launch": statistics, "launcher": FORKED}
    functional = "\n".join(cell("13", id) for id in ("functional", "functional-run"))
    tried = Tried("13", STOCK, change, functional)
    assert tried.error is None
    assert "The two processes stopped: fnlib.errors.StateDropped: This forward" in tried.said
    for verdict in verdicts(tried.said):
        assert re.search(r"model\.1\.(running_|num_)", verdict), verdict
    assert tried.said.count("The weights are the same.") == 2
    assert "test images: False" in tried.said, "in evaluation mode, the statistics answer too"


def test_13_values_have_the_weights_of_ddp_and_name_the_step() -> None:
    """The functional loop, whose bug is found in its step."""
    tried = whole()
    assert tried.error is None and "the same weights as DDP: True" in tried.said
    assert "The replicas differ: parameters['0.weight'] isn't the same everywhere" in tried.said


def test_13_goes_on_where_no_process_can_be_started() -> None:
    """It says so in each cell that needs two ranks, and the rest of the lesson runs."""
    change = {"launcher": [("[sys.executable, ", "['no such program', ")]}
    cells = (*STOCK, "functional", "functional-run", "modify", "make", "shard")
    tried = Tried("13", cells, change)
    assert tried.error is None
    assert tried.said.count("The two processes stopped: [Errno 2]") >= 2
    assert "13-clip: passed" in tried.said and "13-differ: passed" in tried.said


def test_13_a_mistake_in_an_edit_is_shown() -> None:
    tried = Tried("13", STOCK[:-1], {"stock": [("loss.backward()", "los.backward()")]})
    assert tried.error is None
    assert "stopped: NameError: name 'los' is not defined" in tried.said


def test_13_a_rank_that_hangs_is_ended_in_time() -> None:
    """The ranks give up before the notebook does, so no process is left behind."""
    seconds = int(re.search(r"timedelta\(seconds=(\d+)\)", cell("13", "launch"))[1])  # type: ignore[index]
    limit = int(re.search(r"timeout=(\d+)", cell("13", "launcher"))[1])  # type: ignore[index]
    assert seconds <= limit / 2 and timedelta(seconds=limit) < timedelta(minutes=2)


@forked
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_13_who_skips_a_batch_leaves_the_other_waiting() -> None:
    """The decision: the rank that skips has one exchange less, and the other waits for it."""

    def run(rank: int) -> None:
        torch.manual_seed(0)
        model = DistributedDataParallel(nn.Linear(3, 1))
        count = 0
        try:
            for i in range(3):
                loss = model(torch.ones(2, 3)).sum()
                if rank == 1 and i == 1:
                    continue
                loss.backward()
                count += 1
        except RuntimeError as problem:  # gloo gives up: after its timeout, or as rank 1 is gone
            assert "imed out" in str(problem) or "losed" in str(problem) or "reset" in str(problem)
        assert count == 2

    on_ranks(2, run, timeout=4)


@forked
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_13_a_flag_lets_all_ranks_decide_alike() -> None:
    """The decision's cure: all skip the batch that one rank can't use, and nobody waits."""

    def run(rank: int) -> None:
        torch.manual_seed(0)
        model = DistributedDataParallel(nn.Linear(3, 1))
        count = 0
        for i in range(3):
            feature = torch.full((2, 3), float("nan") if rank == 1 and i == 1 else 1.0)
            loss = model(feature).sum()
            flag = loss.isnan().float()
            dist.all_reduce(flag)
            if flag:
                continue
            loss.backward()
            count += 1
        assert count == 2

    on_ranks(2, run, timeout=10)


@forked
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_13_runs_again_from_anycell() -> None:
    cells = ("functional", "modify", "make", "shard")
    tried = Tried(
        "13",
        (*STOCK, *cells, *reversed(cells), "functional-run", "stock-run", "row"),
        {"launcher": FORKED},
    )
    assert tried.error is None
    assert tried.said.count("The replicas diverge at line") == 2
    assert tried.said.count("the same weights as DDP: True") == 1
    seen = rows(tried.names["sharding"])
    replacing = ("fully_shard(large, mesh=mesh)", "loss.backward()")
    assert all("large weight replaced" in seen[statement] for statement in replacing)
    assert "large weight replaced" in seen["loss = large(torch.ones(2, 128)).sum()"]
    assert seen["optimizer.step()"] == {"large weight changed in place"}
    held = tried.names["optimizer"].param_groups[0]["params"]
    assert all(a is b for a, b in zip(held, tried.names["large"].parameters(), strict=True))
    assert not subprocess._active  # type: ignore[attr-defined]  # nothing is left running
