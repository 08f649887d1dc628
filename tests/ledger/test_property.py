"""Random small loops: what the ledger tells of each statement is what a deep copy before and after it shows."""

from __future__ import annotations

import copy
import linecache
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fnlib.ledger import Ledger

OPTIMIZERS = [
    "torch.optim.SGD(model.parameters(), lr=0.1)",
    "torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)",
    "torch.optim.Adam(model.parameters(), lr=0.1, amsgrad=True)",
    "torch.optim.Adam(model.parameters(), lr=0.1, fused=True)",
    "torch.optim.RMSprop([{'params': model[0].parameters()}, {'params': model[3].parameters(), 'lr': 0.01}], lr=0.1)",
]

# Every statement runs in every order: losses are made anew where a backward needs one.
STATEMENTS = [
    "optimizer.zero_grad()",
    "optimizer.zero_grad(set_to_none=False)",
    "output = model(x)",
    "with torch.no_grad(): output = model(x)",
    "model(x).pow(2).sum().backward()",
    "model(x).sum().backward(retain_graph=True)",
    "model[0](x).sum().backward()",
    "optimizer.step()",
    "scheduler.step()",
    "model.train()",
    "model.eval()",
    "model[1].eval()",
    "model[0].weight.requires_grad_(False)",
    "model.requires_grad_(True)",
    "model[0].weight.data.mul_(0.5)",
    "model[0].weight.data = model[0].weight.data.clone()",
    "model[0].weight.data = model[0].weight.data * 2",
    "model[3].bias.grad = torch.ones(2)",
    "model[3].bias.grad = None",
    "optimizer.param_groups[0]['lr'] = 0.5",
    "model[3] = copy.deepcopy(model[3])",
    "model[3].bias = nn.Parameter(torch.zeros(2))",
    "model[1].running_mean.zero_()",
    "model[1].reset_running_stats()",
    "model[1].running_mean = torch.ones(3)",
    "best = model.state_dict()",
    "model.load_state_dict(copy.deepcopy(model.state_dict()))",
    "model.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)",
    "optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))",
    "nn.utils.clip_grad_norm_(model.parameters(), 0.1)",
    "x.data.add_(1)",
    "x.data.mul_(1)",
    "x.numpy(force=True)[0] += 1",
    "torch.rand(2)",
    "model.weights = [1, 2]",
    "x = x.clone()",
    "x.requires_grad_(not x.requires_grad)",
]


def things(optimizer: str) -> dict[str, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(3, 2))
    found = {"torch": torch, "nn": nn, "copy": copy, "model": model, "Ledger": Ledger}
    found["optimizer"] = eval(optimizer, {"torch": torch, "model": model})
    found["optimizer"].step()
    found["scheduler"] = torch.optim.lr_scheduler.StepLR(found["optimizer"], 1, 0.5)
    found["optimizer"].step()  # a scheduler that steps first warns
    found["x"] = torch.randn(5, 4)
    return found


def stands(
    found: dict[str, Any], x: torch.Tensor, named: dict[int, str]
) -> dict[str, tuple[Any, Any]]:
    """Every watched place by brute force: the object that stands there, and a deep copy of its value."""
    places: dict[str, Any] = {}
    model, optimizer, scheduler = found["model"], found["optimizer"], found["scheduler"]
    labels: dict[int, str] = {}
    for name, module in model.named_modules():
        places[f"model.{name}.training" if name else "model.training"] = module.training
    for name, weight in model.named_parameters():
        labels[id(weight)] = f"model.{name}"
        places[f"model.{name}"], places[f"model.{name}.requires_grad"] = (
            weight,
            weight.requires_grad,
        )
        if weight.grad is not None:
            places[f"model.{name}.grad"] = weight.grad
    for name, buffer in model.named_buffers():
        places[f"model.{name}"] = buffer
    for number, group in enumerate(optimizer.param_groups):
        for name, entry in group.items():
            if name == "params":
                for position, weight in enumerate(entry):
                    labels.setdefault(id(weight), f"param_groups[{number}].params[{position}]")
            else:
                for position, value in (
                    enumerate(entry) if isinstance(entry, tuple) else [(None, entry)]
                ):
                    places[
                        f"optimizer.param_groups[{number}].{name}"
                        + ("" if position is None else f"[{position}]")
                    ] = value
    for weight in named.keys() - set(map(id, optimizer.state)):
        del named[weight]
    for weight, state in optimizer.state.items():
        named.setdefault(
            id(weight), labels.get(id(weight), "gone")
        )  # state keeps its name when its weight leaves the model
        for name, entry in state.items():
            places[f"optimizer.{named[id(weight)]}.{name}"] = entry
    places["scheduler.last_epoch"], places["scheduler._step_count"] = (
        scheduler.last_epoch,
        scheduler._step_count,
    )
    places["x"], places["x.requires_grad"] = x, x.requires_grad
    if x.grad is not None:
        places["x.grad"] = x.grad
    return {
        place: (
            value,
            (value.data_ptr(), value.detach().clone())
            if isinstance(value, torch.Tensor)
            else copy.deepcopy(value),
        )
        for place, value in places.items()
    }


def difference(
    before: dict[str, tuple[Any, Any]], after: dict[str, tuple[Any, Any]]
) -> set[tuple[str, str]]:
    found = {(place, "created") for place in after.keys() - before.keys()} | {
        (place, "removed") for place in before.keys() - after.keys()
    }
    for place in before.keys() & after.keys():
        (old, was), (new, now) = before[place], after[place]
        if not isinstance(new, torch.Tensor):
            if was != now:
                found.add((place, "changed in place"))
        elif old is not new or was[0] != now[0]:
            found.add((place, "replaced"))
        elif not torch.equal(was[1], now[1]):
            found.add((place, "changed in place"))
    return found


@given(st.sampled_from(OPTIMIZERS), st.lists(st.sampled_from(STATEMENTS), min_size=2, max_size=9))
def test_against_brute_force(optimizer: str, statements: list[str]) -> None:
    namespace = things(optimizer)
    x = namespace["x"]  # watched as an object: another value under its name is another object
    expected, named = [], dict[int, str]()
    for statement in statements:
        before = stands(namespace, x, named)
        exec(compile(statement, "<brute force>", "exec"), namespace)
        expected.append(difference(before, stands(namespace, x, named)))

    recorded = things(optimizer)
    recorded["held"] = recorded["x"]
    source = (
        "with Ledger(model=model, optimizer=optimizer, scheduler=scheduler, x=x, follow=False) as ledger:\n    "
        + "\n    ".join(statements)
        + "\n"
    )
    name = "<random loop>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(source, name, "exec"), recorded)
    entries = recorded["ledger"].entries
    assert [entry.source for entry in entries] == statements
    told = [
        {(change.label, change.kind) for change in entry.changes if change.state not in UNTOLD}
        for entry in entries
    ]
    for statement, seen, true in zip(statements, told, expected, strict=True):
        seen = {(place, kind) for place, kind in seen if not place.startswith("scheduler._")}
        true = {(place, kind) for place, kind in true if not place.startswith("scheduler._")}
        assert seen == true, statement
    others = stands(recorded, recorded["held"], {})
    for place, (_, value) in stands(
        namespace, x, {}
    ).items():  # and the numbers are those of the run without a ledger
        other = others[place][1]
        assert torch.equal(value[1], other[1]) if isinstance(value, tuple) else value == other


UNTOLD = {"name", "graph", "random state"}
