"""Loops that look like a bug and are none: no certain finding, whatever they do with their gradients and weights."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

import fnlib


def parts(**settings: float) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    return model, torch.optim.SGD(model.parameters(), lr=0.1, **settings)


def loss_of(model: nn.Module) -> torch.Tensor:
    return model(torch.randn(8, 4)).pow(2).mean()


def gradients_cleared_by_hand() -> fnlib.Ledger:
    model, optimizer = parts()
    with fnlib.Ledger(model=model, optimizer=optimizer) as ledger:
        for _ in range(3):
            for weight in model.parameters():
                weight.grad = None
            loss = loss_of(model)
            loss.backward()
            optimizer.step()
    return ledger


def gradients_faded_instead_of_cleared() -> fnlib.Ledger:
    model, optimizer = parts()
    with fnlib.Ledger(model=model, optimizer=optimizer) as ledger:
        for _ in range(3):
            loss = loss_of(model)
            loss.backward()
            optimizer.step()
            for weight in model.parameters():
                weight.grad.mul_(0.5)
    return ledger


def two_losses_one_step() -> fnlib.Ledger:
    model, optimizer = parts()
    with fnlib.Ledger(model=model, optimizer=optimizer) as ledger:
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(model).backward()
            loss_of(model).backward()
            optimizer.step()
    return ledger


def a_shared_body_after_two_heads() -> fnlib.Ledger:
    body, head_a, head_b = nn.Linear(4, 8), nn.Linear(8, 1), nn.Linear(8, 1)
    a, b, shared = (torch.optim.SGD(part.parameters(), lr=0.1) for part in (head_a, head_b, body))
    with fnlib.Ledger(body=body, head_a=head_a, head_b=head_b, a=a, b=b, shared=shared) as ledger:
        for _ in range(2):
            for optimizer in (a, b, shared):
                optimizer.zero_grad()
            head_a(body(torch.randn(8, 4))).mean().backward()
            a.step()
            head_b(body(torch.randn(8, 4))).mean().backward()
            b.step()
            shared.step()
    return ledger


def two_optimizers_one_after_the_other() -> fnlib.Ledger:
    model, first = parts()
    with fnlib.Ledger(model=model, first=first) as ledger:
        loss_of(model).backward()
        first.step()
        second = torch.optim.Adam(model.parameters())
        second.zero_grad()
        loss_of(model).backward()
        second.step()
    return ledger


def a_closure() -> fnlib.Ledger:
    model, optimizer = parts()
    lbfgs = torch.optim.LBFGS(model.parameters(), max_iter=3)
    feature = torch.randn(8, 4)

    def closure() -> torch.Tensor:
        lbfgs.zero_grad()
        loss = model(feature).pow(2).mean()
        loss.backward()
        return loss

    with fnlib.Ledger(model=model, optimizer=optimizer, lbfgs=lbfgs) as ledger:
        loss_of(model).backward()
        optimizer.step()
        for _ in range(2):
            lbfgs.step(closure)
    return ledger


def a_bad_batch_is_dropped() -> fnlib.Ledger:
    model, optimizer = parts()
    with fnlib.Ledger(model=model, optimizer=optimizer) as ledger:
        for index in range(3):
            optimizer.zero_grad()
            loss = loss_of(model)
            loss.backward()
            if index == 1:
                optimizer.zero_grad()
                continue
            optimizer.step()
    return ledger


def weights_are_binarised_for_the_forward() -> fnlib.Ledger:
    model, optimizer = parts()
    with fnlib.Ledger(model=model, optimizer=optimizer) as ledger:
        for _ in range(2):
            real = [weight.data.clone() for weight in model.parameters()]
            for weight in model.parameters():
                weight.data.copy_(weight.data.sign())
            optimizer.zero_grad()
            loss = loss_of(model)
            loss.backward()
            for weight, value in zip(model.parameters(), real, strict=True):
                weight.data.copy_(value)
            optimizer.step()
    return ledger


def sharpness_aware() -> fnlib.Ledger:
    model, optimizer = parts()
    with fnlib.Ledger(model=model, optimizer=optimizer) as ledger:
        for _ in range(2):
            loss_of(model).backward()
            with torch.no_grad():
                steps = [0.05 * weight.grad for weight in model.parameters()]
                for weight, step in zip(model.parameters(), steps, strict=True):
                    weight.add_(step)
            optimizer.zero_grad()
            loss_of(model).backward()
            with torch.no_grad():
                for weight, step in zip(model.parameters(), steps, strict=True):
                    weight.sub_(step)
            optimizer.step()
            optimizer.zero_grad()
    return ledger


def losses_are_added_and_then_followed() -> fnlib.Ledger:
    model, optimizer = parts()
    with fnlib.Ledger(model=model, optimizer=optimizer) as ledger:
        for _ in range(2):
            total = torch.zeros(())
            for _ in range(3):
                total = total + loss_of(model)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
    return ledger


def a_head_is_taken_from_one_model_to_another() -> fnlib.Ledger:
    model, optimizer = parts()
    other = nn.Sequential(nn.Linear(4, 8), model[2])
    with fnlib.Ledger(model=model, other=other, optimizer=optimizer) as ledger:
        other[1] = nn.Linear(8, 3)
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
    return ledger


def only_some_weights_are_trained() -> fnlib.Ledger:
    model, _ = parts()
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
    with fnlib.Ledger(model=model, optimizer=optimizer) as ledger:
        for _ in range(2):
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()
    return ledger


def the_optimizer_also_holds_a_module_that_is_not_watched() -> fnlib.Ledger:
    body, head = nn.Linear(4, 8), nn.Linear(8, 1)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    with fnlib.Ledger(body=body, optimizer=optimizer) as ledger:
        for _ in range(2):
            optimizer.zero_grad()
            head(body(torch.randn(8, 4))).mean().backward()
            optimizer.step()
    return ledger


def a_state_dict_is_read_at_once() -> fnlib.Ledger:
    model, optimizer = parts()
    slow = copy.deepcopy(model)
    with fnlib.Ledger(model=model, optimizer=optimizer, slow=slow) as ledger:
        for _ in range(2):
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()
            state = model.state_dict()
            slow.load_state_dict(state)
    return ledger


def statistics_move_between_two_forwards_in_training_mode() -> fnlib.Ledger:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with fnlib.Ledger(model=model, optimizer=optimizer) as ledger:
        for _ in range(2):
            left = model(torch.randn(8, 4))
            right = model(torch.randn(8, 4))
            optimizer.zero_grad()
            (left - right).pow(2).mean().backward()
            optimizer.step()
    return ledger


def checkpointed_activations() -> fnlib.Ledger:
    model, optimizer = parts()
    with fnlib.Ledger(model=model, optimizer=optimizer) as ledger:
        for _ in range(2):
            optimizer.zero_grad()
            output = torch.utils.checkpoint.checkpoint(
                model, torch.randn(8, 4), use_reentrant=False
            )
            output.pow(2).mean().backward()
            optimizer.step()
    return ledger


def a_new_optimizer_each_round_all_on_one_line() -> fnlib.Ledger:
    model, _ = parts()
    with fnlib.Ledger(model=model) as ledger:
        for _ in range(2):
            start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            inner = torch.optim.SGD(model.parameters(), lr=0.1)
            for _ in range(2):
                inner.zero_grad(); loss_of(model).backward(); inner.step()  # noqa: E702  # fmt: skip
            end = model.state_dict()
            model.load_state_dict(
                {name: start[name] + (end[name] - start[name]) * 0.5 for name in start}
            )
    return ledger


def clients_that_clear_after_their_step() -> fnlib.Ledger:
    models = [parts()[0] for _ in range(2)]
    with fnlib.Ledger(models=models) as ledger:
        for _ in range(3):
            for model in models:
                # fmt: off
                loss_of(model).backward(); (own := torch.optim.SGD(model.parameters(), lr=0.1)).step(); own.zero_grad()  # noqa: E702
                # fmt: on
    return ledger


class Dropped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.drop = nn.Linear(4, 4), nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.linear(x))


def checkpointed_dropout_after_a_seed() -> fnlib.Ledger:
    model = nn.Sequential(Dropped(), Dropped())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with fnlib.Ledger(model=model, optimizer=optimizer, depth=2) as ledger:
        torch.manual_seed(0)
        for _ in range(2):
            optimizer.zero_grad()
            output = torch.randn(8, 4)
            for block in model:
                output = torch.utils.checkpoint.checkpoint(block, output, use_reentrant=False)
            output.pow(2).mean().backward()
            optimizer.step()
    assert (
        sum(entry.function.endswith("forward") for entry in ledger.walk()) == 8
    )  # computed again in the backward
    assert ledger.findings == []
    return ledger


def averaged_weights_whose_statistics_are_taken_again() -> fnlib.Ledger:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    averaged = torch.optim.swa_utils.AveragedModel(model)
    with fnlib.Ledger(model=model, optimizer=optimizer, averaged=averaged) as ledger:
        for _ in range(2):
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()
            averaged.update_parameters(model)
        torch.optim.swa_utils.update_bn([torch.randn(8, 4)], averaged)
    assert ledger.findings == []
    return ledger


class Position(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + 1
        x = x * 2
        return x


def a_forward_that_uses_its_name_again() -> fnlib.Ledger:
    layer = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    model = nn.Sequential(layer, Position())
    with fnlib.Ledger(model=model, optimizer=optimizer, depth=2) as ledger:
        for _ in range(4):
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()
    assert any(entry.function.endswith("forward") for entry in ledger.walk())
    return ledger


LOOPS = [
    a_forward_that_uses_its_name_again,
    gradients_cleared_by_hand,
    gradients_faded_instead_of_cleared,
    two_losses_one_step,
    a_shared_body_after_two_heads,
    two_optimizers_one_after_the_other,
    a_closure,
    a_bad_batch_is_dropped,
    weights_are_binarised_for_the_forward,
    sharpness_aware,
    losses_are_added_and_then_followed,
    a_head_is_taken_from_one_model_to_another,
    only_some_weights_are_trained,
    the_optimizer_also_holds_a_module_that_is_not_watched,
    a_state_dict_is_read_at_once,
    statistics_move_between_two_forwards_in_training_mode,
    checkpointed_activations,
    checkpointed_dropout_after_a_seed,
    a_new_optimizer_each_round_all_on_one_line,
    clients_that_clear_after_their_step,
    averaged_weights_whose_statistics_are_taken_again,
]


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.__name__)
def test_nothing_certain(loop: Callable[[], fnlib.Ledger]) -> None:
    ledger = loop()
    assert any(event.kind == "backward" for event in ledger.events), "the loop was not recorded"
    assert not [str(finding) for finding in ledger.findings if finding.severity == "certain"]


OWN = [
    "ASGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGD",
]


@pytest.mark.parametrize("name", OWN)
def test_nothing_at_all_about_the_rules_of_pytorch(name: str) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))  # every weight moves
    optimizer = getattr(torch.optim, name)(model.parameters())
    with fnlib.Ledger(model=model, optimizer=optimizer) as ledger:
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()
    assert any(event.kind == "step" for event in ledger.events) and ledger.findings == []


def test_a_ledger_that_saw_nothing_has_no_findings() -> None:
    with fnlib.Ledger(model=nn.Linear(2, 1)) as ledger, contextlib.nullcontext():
        pass
    assert ledger.findings == []
