"""A ledger that was given nothing finds by itself what there is to watch."""

from __future__ import annotations

import runpy
import textwrap
from pathlib import Path

import torch
from torch import nn

from fnlib.ledger import Ledger


def test_what_the_statements_name_is_watched() -> None:
    model, criterion = nn.Linear(2, 1), nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x, y = torch.ones(3, 2), torch.ones(3, 1)
    with Ledger() as ledger:
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
    assert "Ledger of model, optimizer" in str(
        ledger
    )  # and not of the criterion, which keeps nothing
    assert ledger.counts.at_a_distance == 2 and ledger.counts.overwritten == 2
    assert {change.label for change in ledger.entries[2].changes} >= {
        "model.weight",
        "optimizer.model.weight.momentum_buffer",
    }


def test_what_the_statements_make_is_watched_from_then_on() -> None:
    with Ledger() as ledger:
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        model(torch.randn(4, 2)).sum().backward()
        optimizer.step()
        scheduler.step()
    labels = [{change.label for change in entry.changes} for entry in ledger.entries]
    assert "model.1.running_mean" in labels[3] and "optimizer.model.0.weight.exp_avg" in labels[4]
    assert "optimizer.param_groups[0].lr" in labels[5] and "scheduler.last_epoch" in labels[5]
    assert {event.subject for event in ledger.events if event.kind == "step"} == {"optimizer"}


def test_objects_under_dotted_names_and_in_containers() -> None:
    class Trainer:
        def __init__(self) -> None:
            self.net = nn.Linear(2, 1)
            self.opts = {"main": torch.optim.SGD(self.net.parameters(), lr=0.1)}

        def train(self) -> Ledger:
            with Ledger() as ledger:
                self.net(torch.ones(1, 2)).sum().backward()
                self.opts["main"].step()
            return ledger

    ledger = Trainer().train()
    assert {
        change.owner
        for entry in ledger.entries
        for change in entry.changes
        if change.state in ("weight", "gradient")
    } == {"self.net"}
    assert [event.subject for event in ledger.events if event.kind == "step"] == [
        "self.opts['main']"
    ]
    assert [entry.acts_at_a_distance for entry in ledger.entries] == [False, True]


def test_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text(
        textwrap.dedent(
            """
            import torch
            from torch import nn

            def main():
                torch.manual_seed(0)
                model = nn.Linear(2, 1)
                optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
                for _ in range(2):
                    optimizer.zero_grad()
                    model(torch.ones(1, 2)).sum().backward()
                    optimizer.step()
                return model

            if __name__ == "__main__":
                trained = main()
            """
        )
    )
    ledger = Ledger(depth=1)
    namespace = {"__name__": "__main__"}
    ledger.run(compile(path.read_text(), str(path), "exec"), namespace=namespace)
    assert torch.equal(
        namespace["trained"].weight,
        runpy.run_path(str(path), run_name="__main__")["trained"].weight,
    )
    called = next(entry for entry in ledger.entries if entry.source == "trained = main()")
    steps = [entry for entry in called.inside if entry.source == "optimizer.step()"]
    assert [entry.iteration for entry in steps] == [1, 2]
    assert {(change.label, change.kind) for change in steps[1].changes} == {
        ("model.weight", "changed in place"), ("model.bias", "changed in place"),
    }  # fmt: skip
    assert ledger.raised is None and "> " in str(ledger)


def test_a_name_that_is_bound_to_another_model() -> None:
    model = nn.Linear(2, 1)
    with Ledger(model=model) as ledger:
        model = nn.Linear(2, 1)
        with torch.no_grad():
            model.weight.add_(1)
    names = [
        (change.owner, change.state, change.kind)
        for change in ledger.entries[0].changes
        if change.state == "name"
    ]
    assert names == [("model", "name", "rebound")]
