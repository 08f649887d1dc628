"""Each kind of state: created, changed in place, replaced, removed, as the code really does it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fnlib
from fnlib.ledger import Entry, Ledger
from fnlib.ledger.views.rows import rows_of

OPTIMIZERS = {
    "sgd": lambda weights: torch.optim.SGD(weights, lr=0.1),
    "momentum": lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9),
    "adam": lambda weights: torch.optim.Adam(weights, lr=0.1),
    "fused adam": lambda weights: torch.optim.Adam(weights, lr=0.1, fused=True),
}
STATE_A_WEIGHT = {
    "sgd": set(),
    "momentum": {"momentum_buffer"},
    "adam": {"step", "exp_avg", "exp_avg_sq"},
}
STATE_A_WEIGHT["fused adam"] = STATE_A_WEIGHT["adam"]


def told(entry: Entry) -> set[tuple[str, str]]:
    """(label, kind) of each change that is not a name or a graph."""
    return {
        (change.label, change.kind)
        for change in entry.changes
        if change.state not in ("name", "graph")
    }


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_each_optimizer(kind: str) -> None:
    model = nn.Linear(3, 2)
    optimizer = OPTIMIZERS[kind](model.parameters())
    x = torch.randn(4, 3)
    with Ledger(model=model, optimizer=optimizer) as ledger:
        for _ in range(2):
            optimizer.zero_grad()
            model(x).sum().backward()
            optimizer.step()
    steps = [entry for entry in ledger.entries if entry.source == "optimizer.step()"]
    weights = {("model.weight", "changed in place"), ("model.bias", "changed in place")}
    places = [
        f"optimizer.model.{name}.{place}"
        for name in ("weight", "bias")
        for place in STATE_A_WEIGHT[kind]
    ]
    assert told(steps[0]) == weights | {(place, "created") for place in places}
    assert told(steps[1]) == weights | {(place, "changed in place") for place in places}
    assert all(
        change.named == (change.owner == "optimizer") for entry in steps for change in entry.changes
    )
    assert ledger.events[-1].kind == "step" and ledger.events[-1].data["weights"] == (
        "model.weight",
        "model.bias",
    )


def test_gradients_are_created_accumulated_replaced_and_removed() -> None:
    weight = torch.ones(2, requires_grad=True)
    with Ledger(weight=weight) as ledger:
        weight.sum().backward()
        weight.sum().backward()
        weight.grad = weight.grad.clone()
        weight.grad.zero_()
        weight.grad = None
    kinds = [
        [change.kind for change in entry.changes if change.state == "gradient"]
        for entry in ledger.entries
    ]
    assert kinds == [
        ["created"],
        ["changed in place"],
        ["replaced"],
        ["changed in place"],
        ["removed"],
    ]
    assert ledger.entries[1].changes[0].moved == pytest.approx(2**0.5)


def test_buffers_of_batchnorm_move_without_a_version_counter() -> None:
    model = nn.BatchNorm1d(2)
    with Ledger(model=model) as ledger:
        with torch.no_grad():
            output = model(torch.randn(4, 2))
    assert told(ledger.entries[0]) == {
        (f"model.{name}", "changed in place")
        for name in ("running_mean", "running_var", "num_batches_tracked")
    } | {("random.torch", "changed in place")}
    assert not ledger.entries[0].grad_enabled
    del output


def test_writes_that_leave_the_version_counter_alone() -> None:
    model = nn.Linear(2, 2)
    array = model.weight.detach().numpy()
    with Ledger(model=model) as ledger:
        array += 1
        model.weight.data.add_(1)
        torch._C._autograd._unsafe_set_version_counter((model.weight,), (0,))
        model.bias.data = torch.zeros(2)
    assert [told(entry) for entry in ledger.entries] == [
        {("model.weight", "changed in place")},
        {("model.weight", "changed in place")},
        set(),
        {("model.bias", "replaced")},
    ]
    assert ".data" in ledger.entries[3].changes[0].note


def test_a_change_that_keeps_sum_and_norm() -> None:
    model = nn.Linear(4, 1)
    with Ledger(model=model) as ledger, torch.no_grad():
        model.weight.copy_(model.weight.flip(1))
        model.weight.copy_(model.weight)
    change = ledger.entries[0].changes[0]
    assert (
        change.before.norm == pytest.approx(change.after.norm)
        and change.before.fingerprint != change.after.fingerprint
    )
    assert ledger.entries[1].changes == ()


def test_signed_zero_and_nan() -> None:
    values = torch.tensor([0.0, float("nan")])
    with Ledger(values=values) as ledger:
        values[1] = float("nan")
        values[0] = -0.0
    assert [told(entry) for entry in ledger.entries] == [set(), {("values", "changed in place")}]


def test_modes_and_flags_per_part() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    with Ledger(model=model) as ledger:
        model.eval()
        model[1].train()
        model[0].weight.requires_grad_(False)
    assert [told(entry) for entry in ledger.entries] == [
        {
            ("model.training", "changed in place"),
            ("model.0.training", "changed in place"),
            ("model.1.training", "changed in place"),
        },
        {("model.1.training", "changed in place")},
        {("model.0.weight.requires_grad", "changed in place")},
    ]
    assert (ledger.entries[1].changes[0].before, ledger.entries[1].changes[0].after) == (
        False,
        True,
    )


def test_rates_groups_and_schedulers() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = torch.optim.SGD(model[0].parameters(), lr=1.0)
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    optimizer.step()
    with Ledger(model=model, optimizer=optimizer, scheduler=scheduler) as ledger:
        scheduler.step()
        for group in optimizer.param_groups:
            group["lr"] = 2.0
        optimizer.add_param_group({"params": model[1].parameters(), "lr": 0.25})
    first, second, third = (entry for entry in ledger.entries if entry.kind == "statement")
    assert ("optimizer.param_groups[0].lr", "changed in place") in told(
        first
    ) and first.acts_at_a_distance
    assert ("scheduler.last_epoch", "changed in place") in told(first)
    assert (
        told(second) == {("optimizer.param_groups[0].lr", "changed in place")}
        and not second.acts_at_a_distance
    )
    assert ("optimizer.param_groups[1].lr", "created") in told(third)
    assert ("optimizer.param_groups[1].params", "created") in told(third)
    assert "lr 0.5 to 2" in str(ledger)


def test_random_states() -> None:
    import random

    import numpy as np

    generator = torch.Generator()
    with Ledger(x=torch.ones(1), generator=generator) as ledger:
        torch.rand(1)
        np.random.rand()
        np.random.randn()
        np.random.randn()  # the second of a pair moves only what is held back
        random.random()
        torch.rand(1, generator=generator)
        abs(-1)
    moved = [[(change.owner, change.place) for change in entry.changes] for entry in ledger.entries]
    numpy_ = [("random", "numpy")]
    assert moved == [
        [("random", "torch")],
        numpy_,
        numpy_,
        numpy_,
        [("random", "python")],
        [("generator", "")],
        [],
    ]


def test_the_graph_is_built_kept_and_freed() -> None:
    weight = torch.ones(2, requires_grad=True)
    with Ledger(weight=weight) as ledger:
        loss = (weight * weight).sum()
        loss.backward(retain_graph=True)
        loss.backward()
        try:
            loss.backward()
        except RuntimeError:
            pass
        free = weight.detach().sum()
    graphs = [
        [
            (change.owner, change.kind, change.after)
            for change in entry.changes
            if change.state == "graph"
        ]
        for entry in ledger.entries
    ]
    assert graphs[:5] == [
        [("loss", "created", "built")],
        [("loss", "kept", "kept")],
        [("loss", "removed", "freed")],
        [],
        [],
    ]
    assert (
        ledger.entries[3].raised.startswith("RuntimeError: Trying to backward") and graphs[-1] == []
    )
    del free


def test_two_names_of_one_storage_are_one_place() -> None:
    model = nn.Linear(2, 2)
    best = model.state_dict()
    kept = copy.deepcopy(model.state_dict())
    with Ledger(model=model, best=best, kept=kept) as ledger, torch.no_grad():
        model.weight.add_(1)
        best["bias"].add_(1)
        best["weight"] = torch.zeros(2, 2)
        best["weight"].add_(1)
    assert [told(entry) for entry in ledger.entries] == [
        {("model.weight", "changed in place")},
        {("model.bias", "changed in place")},
        {("best.weight", "replaced")},
        {("best.weight", "changed in place")},
    ]
    assert ledger.entries[0].changes[0].also == ("best.weight",)
    assert not ledger.entries[1].acts_at_a_distance  # `best["bias"]` is one of the model's tensors
    assert [alias.names for alias in ledger.entries[0].aliases] == [
        ("model.weight", "best.weight"),
        ("model.bias", "best.bias"),
    ]
    assert [alias.names for alias in ledger.aliases] == [("model.bias", "best.bias")]


def test_tied_weights_and_overlapping_views() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
    model["b"].weight = model["a"].weight
    flat = torch.zeros(6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        Ledger(model=model, optimizer=optimizer, flat=flat, part=flat[2:4]) as ledger,
        torch.no_grad(),
    ):
        model["b"].weight.add_(1)
        flat.add_(1)
    assert told(ledger.entries[0]) == {("model.a.weight", "changed in place")}
    assert ledger.entries[0].changes[0].also == ("model.b.weight",)
    assert told(ledger.entries[1]) == {("flat", "changed in place"), ("part", "changed in place")}
    assert {(alias.names, alias.kind) for alias in ledger.aliases} == {
        (
            ("model.a.weight", "model.b.weight", "optimizer.param_groups[0].params[0]"),
            "same tensor",
        ),
        (("flat", "part"), "overlap"),
    }


def test_a_layer_that_is_replaced() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, bias=False))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Ledger(model=model, optimizer=optimizer) as ledger:
        model[1] = nn.Linear(2, 2, bias=False)
        model[0] = nn.Identity()
    assert ("model.1.weight", "replaced") in told(ledger.entries[0])
    held = ledger.entries[0].links.held["optimizer"]
    assert (
        ledger.entries[0].links.weights["model.1.weight"] not in held
        and ledger.entries[0].links.weights["model.0.weight"] in held
    )
    assert ("model.0.weight", "removed") in told(ledger.entries[1])


def test_values_of_the_package_are_seen_whole() -> None:
    ModelFactory = fnlib.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), optimizer=fnlib.Adam())
    model = ModelFactory(fnlib.Parameters())
    parameters = model.parameters
    with Ledger(parameters=parameters) as ledger:
        output, buffers = model.with_buffers(torch.randn(4, 2))
        gradient = model.backward(output.sum())
        parameters["0.weight"].add_(1)  # a write to what was handed out does not reach the value
        later = model.step(gradient, buffers=buffers)
        later = model.step(gradient, buffers=buffers, donate=True)  # noqa: F841
    assert [
        told(entry) - {("random.torch", "changed in place")} for entry in ledger.entries[:4]
    ] == [set()] * 4
    given = {
        change.label: change.kind for change in ledger.entries[4].changes if change.state != "name"
    }
    assert given["parameters.0.weight"] == "removed"
    cells = {cell.what: cell.how for cell in rows_of(ledger.entries[4:5])[0].cells}
    assert cells == {
        **dict.fromkeys(("parameters: 7 tensors", "model: 7 tensors"), "given away"),
        "later (4 tensors)": "rebound",
    }
    bound = next(change for change in ledger.entries[4].changes if change.owner == "later")
    assert bound.kind == "rebound" and str(bound.after) == "Parameters, 4 tensors"


def test_a_value_that_is_changed_after_all_is_told() -> None:
    parameters = fnlib.Parameters.from_module(nn.Linear(2, 2))
    with Ledger(parameters=parameters) as ledger:
        parameters._held().weights["weight"] = torch.zeros(2, 2)
    assert told(ledger.entries[0]) == {("parameters.weight", "changed in place")}


def test_kept_copies_and_summaries() -> None:
    model = nn.Linear(2, 2)
    before = model.weight.detach().clone()
    for keep in (False, True):
        with Ledger(model=model, keep=keep) as ledger, torch.no_grad():
            model.weight.mul_(2)
        change = ledger.entries[0].changes[0]
        assert (change.before.shape, change.before.dtype, change.before.device) == (
            (2, 2),
            "float32",
            "cpu",
        )
        assert change.after.norm == pytest.approx(model.weight.norm().item())
        assert change.moved == pytest.approx(change.before.norm)
        if not keep:
            assert change.before.value is None and change.after.value is None
            before = model.weight.detach().clone()
    assert torch.equal(change.before.value, before) and torch.equal(
        change.after.value, model.weight
    )


def test_watching_less() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Ledger(model=model, optimizer=optimizer, watch={"gradient"}) as ledger:
        loss = model(torch.randn(3, 2)).sum()
        loss.backward()
        optimizer.step()
    assert {change.state for entry in ledger.entries for change in entry.changes} <= {
        "gradient",
        "name",
        "graph",
    }
    assert ledger.events[-1].data["weights"] == (
        "model.0.weight",
        "model.0.bias",
    )  # labels are known all the same


class Around(torch.optim.Optimizer):
    """A wrapper as they are often written: the groups of the optimizer inside, and state of its own."""

    def __init__(self, base_optimizer: torch.optim.Optimizer) -> None:
        super().__init__(base_optimizer.param_groups, {})
        self.base_optimizer = base_optimizer
        self.param_groups = base_optimizer.param_groups

    def step(self) -> None:
        self.base_optimizer.step()
        for weight in self.param_groups[0]["params"]:
            self.state[weight]["slow"] = weight.detach().clone()


@pytest.mark.parametrize("watched", ["the outer one", "both", "what the loop names"])
def test_an_optimizer_inside_of_another_is_watched_too(watched: str) -> None:
    model = nn.Linear(2, 2)
    base = torch.optim.Adam(model.parameters(), lr=0.1)
    optimizer = Around(base)
    things = {"model": model, "optimizer": optimizer, "base": base}
    if watched != "both":
        things = {"model": model, "optimizer": optimizer} if watched == "the outer one" else {}
    with Ledger(**things) as ledger:
        base.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        optimizer.param_groups[0]["lr"] = 0.2
        optimizer.step()
    inside = "optimizer.base_optimizer" if watched == "the outer one" else "base"
    *_, rate, step = ledger.entries
    assert [(change.owner, change.place, change.named) for change in rate.changes] == [
        (inside, "param_groups[0].lr", True)
    ]
    moments = [change for change in step.changes if change.state == "optimizer state"]
    assert {change.owner for change in moments if "exp_avg" in change.place} == {inside}
    assert {change.owner for change in moments if "slow" in change.place} == {"optimizer"}
    assert all(
        change.named for change in moments
    )  # what it holds is part of it, and it alone is named
    cells = [cell.what for row in rows_of(ledger.entries) for cell in row.cells]
    assert f"{inside}: 6 entries of its state" in cells and ledger.findings == []


def test_a_graph_that_grows_under_a_name_is_told() -> None:
    model, total, other = nn.Linear(2, 1), torch.zeros(()), torch.zeros(())
    with Ledger(model=model, follow=False) as ledger:
        loss = model(torch.ones(1, 2)).sum()
        total += loss
        other.requires_grad_()
        total.detach_()
        total.mul_(2)
    graphs = [
        (entry.source, change.owner)
        for entry in ledger.entries
        for change in entry.changes
        if change.state == "graph"
    ]
    grown = [source for source, owner in graphs if owner == "total"]
    assert grown == ["total += loss", "total.detach_()"]


UNWATCHED = {
    "dense": lambda: (nn.Linear(2, 1), torch.ones(1, 2)),
    "sparse": lambda: (nn.Embedding(3, 2, sparse=True), torch.tensor([0, 2])),
    "complex": lambda: (nn.Linear(2, 1, dtype=torch.complex64), torch.ones(1, 2) + 0j),
}


@pytest.mark.parametrize("kind", UNWATCHED)
def test_a_step_tells_new_gradients_of_unwatched_weights(kind: str) -> None:
    """A gradient that no pass has written to since the last step is the same; any other isn't."""
    model, x = UNWATCHED[kind]()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Ledger(optimizer=optimizer) as ledger:
        model(x).abs().sum().backward()
        optimizer.step()
        optimizer.step()
        model(x).abs().sum().backward()
        optimizer.step()
    first, second, third = (e.data["others"] for e in ledger.events if e.kind == "step")
    assert first and first == second != third


FLAT = nn.Linear(4, 3)
ROWS, PIXELS = torch.zeros(5, dtype=torch.long), torch.zeros(5, 2, dtype=torch.long)
SQUASHED: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str]] = {
    "softmax twice": (lambda x: F.cross_entropy(FLAT(x).softmax(1), ROWS), "Softmax"),
    "of some rows": (lambda x: F.cross_entropy(FLAT(x).softmax(1)[ROWS > -1], ROWS), "Softmax"),
    "of one row": (lambda x: F.cross_entropy(FLAT(x).softmax(1).unbind()[0], ROWS[0]), "Softmax"),
    "converted": (lambda x: F.cross_entropy(FLAT(x).softmax(1).double(), ROWS), "Softmax"),
    "expanded": (lambda x: F.cross_entropy(FLAT(x).softmax(1).expand(5, 3), ROWS), "Softmax"),
    "raw scores": (lambda x: F.nll_loss(FLAT(x), ROWS), "Addmm"),
    "without a bias": (lambda x: F.nll_loss(F.linear(x, FLAT.weight), ROWS), "Mm"),
    "of each pixel": (
        lambda x: F.nll_loss(FLAT(torch.stack([x, x], 1)).movedim(2, 1), PIXELS), "Addmm",
    ),
    "as it should be": (lambda x: F.nll_loss(FLAT(x).log_softmax(1)[ROWS > -1], ROWS), ""),
    "a logarithm": (lambda x: F.nll_loss(FLAT(x).softmax(1).log(), ROWS), ""),
}  # fmt: skip


@pytest.mark.parametrize("case", SQUASHED)
def test_a_backward_tells_what_made_the_scores_of_a_loss(case: str) -> None:
    loss_of, made = SQUASHED[case]
    with Ledger(model=FLAT) as ledger:
        loss_of(torch.ones(5, 4)).backward()
    (squashed,) = (e.data["squashed"] for e in ledger.events if e.kind == "backward")
    assert squashed[1] == f"{made}Backward0" if made else squashed is None


def test_state_of_a_replaced_layer_is_told_from_the_new_one() -> None:
    """Moments of two weights that had the same name one after the other have places of their own."""
    model = nn.Sequential(nn.Linear(2, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    with Ledger(model=model, optimizer=optimizer) as ledger:
        model[0] = nn.Linear(2, 2)
        optimizer.add_param_group({"params": list(model.parameters())})
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        model.eval()
        model.train()
    states = [
        [change.place for change in entry.changes if change.state == "optimizer state"]
        for entry in ledger.entries[-3:]
    ]
    own = [f"param_groups[1].params[{number}].momentum_buffer" for number in (0, 1)]
    old = [f"model.0.{name}.momentum_buffer" for name in ("weight", "bias")]
    assert states == [[*old, *own], [], []]
