"""Where statements begin and end, how iterations are numbered, and what happens in called functions."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from fnlib.ledger import Ledger

# fmt: off: the layout of the statements is what is tested here


def sources(ledger: Ledger) -> list[str]:
    return [entry.source for entry in ledger.entries]


def test_a_statement_of_several_lines_is_one_entry() -> None:
    with Ledger(x=torch.ones(1)) as ledger:
        a = max(
            1,
            2,
        )
        # fmt: off
        b = (
            [number for number in range(3)]
        )
        # fmt: on
        text = """one
        two"""
    assert [(entry.end_line - entry.line, entry.shares_line) for entry in ledger.entries] == [
        (3, 1),
        (2, 1),
        (1, 1),
    ]
    assert ledger.entries[0].source.splitlines() == ["a = max(", "    1,", "    2,", ")"]
    del a, b, text


def test_statements_on_one_line_are_one_entry_that_says_so() -> None:
    x = torch.zeros(1)
    with Ledger(x=x) as ledger:
        # fmt: off
        x.add_(1); y = x + 1  # noqa: E702
        for _ in range(3): x.add_(1)  # noqa: E701
        if y is not None: x.add_(1); x.add_(1)  # noqa: E701, E702
        # fmt: on
    assert [entry.shares_line for entry in ledger.entries] == [2, 2, 3]
    assert ledger.entries[1].changes[0].moved == 3.0
    assert "2 statements share this line and are one entry" in " ".join(str(ledger).split())


def test_iterations_of_for_while_and_while_true() -> None:
    with Ledger(x=torch.ones(1)) as ledger:
        for i in range(3):
            if i == 1:
                continue
            a = i
        n = 0
        while n < 3:
            n += 1
        while True:
            n += 1
            if n == 6:
                break
        # fmt: off
        while True:
            n += 1; assert n < 9 or n == 9  # noqa: E702
            if n == 9: break  # noqa: E701
        # fmt: on
        else:
            a = 0
    by_source: dict[str, list[int | None]] = {}
    for entry in ledger.entries:
        by_source.setdefault(entry.source, []).append(entry.iteration)
    assert by_source["a = i"] == [1, 3]
    assert by_source["n += 1"] == [1, 2, 3, 1, 2, 3]
    assert by_source["n = 0"] == [None]
    assert by_source["n += 1; assert n < 9 or n == 9  # noqa: E702"] == [1, 2, 3]
    del a


def test_a_loop_whose_body_is_one_statement() -> None:
    def numbers() -> object:
        yield from range(4)

    x = torch.zeros(1)
    with Ledger(x=x) as ledger:
        for _ in numbers():
            x.add_(1)
        with torch.no_grad():
            for _ in range(2):
                for _ in range(2):
                    x.add_(1)
    assert [entry.iterations for entry in ledger.entries if entry.source == "x.add_(1)"][:4] == [
        ((ledger.entries[0].line, number),) for number in (1, 2, 3, 4)
    ]
    assert [[number for _, number in entry.iterations] for entry in ledger.entries if entry.source == "x.add_(1)"][4:] == [
        [1, 1], [1, 2], [2, 1], [2, 2],
    ]  # fmt: skip


def test_try_finally_with_match_and_walrus() -> None:
    x = torch.zeros(1)
    with Ledger(x=x) as ledger:
        try:
            x.add_(1)
            raise ValueError("on purpose")
        except ValueError as error:
            text = str(error)
        finally:
            x.add_(2)
        match text:
            case "on purpose":
                x.add_(3)
        if (n := 4) > 3:
            x.add_(n)
    moved = [
        change.moved for entry in ledger.entries for change in entry.changes if change.owner == "x"
    ]
    assert moved == [1.0, 2.0, 3.0, 4.0]
    assert [entry.raised for entry in ledger.entries if entry.raised] == ["ValueError: on purpose"]
    assert [entry.binds for entry in ledger.entries if entry.source.startswith("if (n")] == [("n",)]


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor) -> float:
    optimizer.zero_grad()
    loss = model(x).sum()
    loss.backward()
    optimizer.step()
    return loss.item()


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 1)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.inner(x)


def test_functions_are_opened_when_asked() -> None:
    x = torch.ones(1, 2)
    found = {}
    for depth in (0, 1, 2):
        model = Network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with Ledger(model=model, optimizer=optimizer, depth=depth) as ledger:
            value = train_step(model, optimizer, x)
        (entry,) = ledger.entries
        found[depth] = entry
        assert {(change.label, change.kind) for change in entry.changes if change.state == "weight"} == {
            ("model.inner.weight", "changed in place"), ("model.inner.bias", "changed in place"),
        }  # fmt: skip
        assert [event.kind for event in entry.all_events if event.kind != "forward"] == [
            "zero_grad",
            "backward",
            "step",
        ]
    assert found[0].inside == ()
    assert [inner.source for inner in found[1].inside] == [
        "optimizer.zero_grad()", "loss = model(x).sum()", "loss.backward()", "optimizer.step()", "return loss.item()",
    ]  # fmt: skip
    assert [change.label for change in found[1].inside[1].changes][0] == "model.calls" and found[
        1
    ].inside[1].inside == ()
    forward = found[2].inside[1]
    assert [inner.source for inner in forward.inside] == [
        "self.calls += 1",
        "return self.inner(x)",
    ]  # torch's own calls do not count
    assert [(change.label, change.kind) for change in forward.inside[0].changes] == [
        ("model.calls", "changed in place")
    ]
    assert [event.entry for event in found[1].inside[3].events] == [found[1].inside[3].index]
    assert "> > self.calls += 1" in str(ledger)
    indexes = [entry.index for entry in ledger.walk()]
    assert indexes == sorted(set(indexes)) and len(indexes) == 8
    del value


def test_generators_resume_where_they_were() -> None:
    x = torch.zeros(1)

    def batches() -> object:
        for number in range(2):
            x.add_(1)
            yield number

    with Ledger(x=x, depth=1) as ledger:
        for _ in batches():
            x.add_(10)
    moved = [
        (entry.source, [change.moved for change in entry.changes if change.owner == "x"])
        for entry in ledger.walk()
    ]
    assert ("x.add_(1)", [1.0]) in moved and ("x.add_(10)", [10.0]) in moved
    headers = [entry for entry in ledger.entries if entry.kind == "header"]
    assert [
        change.moved for entry in headers for change in entry.changes if change.owner == "x"
    ] == [1.0, 1.0]


def test_recursion_and_methods() -> None:
    x = torch.zeros(1)

    def down(n: int) -> None:
        x.add_(1)
        if n:
            down(n - 1)

    with Ledger(x=x, depth=9) as ledger:
        down(3)
    (entry,) = ledger.entries
    assert [change.moved for change in entry.changes if change.owner == "x"] == [4.0]
    assert sum(one.source == "x.add_(1)" for one in ledger.walk()) == 4


def test_code_without_source_is_named() -> None:
    namespace = {"Ledger": Ledger, "x": torch.zeros(1)}
    exec("with Ledger(x=x) as ledger:\n    x.add_(1)\n    x.add_(2)", namespace)
    ledger = namespace["ledger"]
    assert sources(ledger) == ["<no source: line 2 of <string>>", "<no source: line 3 of <string>>"]
    assert [entry.changes[0].moved for entry in ledger.entries] == [1.0, 2.0]
    assert ledger.counts.at_a_distance == ledger.counts.statements == 0
    assert "2 statements without source text" in str(ledger)


def test_code_without_source_beside_python_c() -> None:
    """Python 3.13 keeps the text of ``python -c`` under the name that ``exec`` gives its own."""
    code = "import torch; from fnlib.ledger import Ledger; x = torch.zeros(1); e = {'Ledger': Ledger, 'x': x}\n"
    code += "exec('with Ledger(x=x) as ledger:\\n    x.add_(1)', e); print(e['ledger'].entries[0].source)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "<no source: line 2 of <string>>", done.stderr


def test_seconds_are_the_statements_own() -> None:
    import time

    model = nn.Linear(1000, 1000)
    with Ledger(model=model) as ledger:
        time.sleep(0.05)
        torch.zeros(1)
    assert 0.05 <= ledger.entries[0].seconds < 0.5 and 0 <= ledger.entries[1].seconds < 0.05


def test_what_a_statement_reads_and_binds() -> None:
    class Place:
        inner = {"a": [torch.zeros(1)]}

    place = Place()
    with Ledger(x=torch.ones(1)) as ledger:
        result = place.inner["a"][0] + len("text")
        first, (second, *rest) = 1, (2, 3)  # noqa: F841
        result += 1
    assert ledger.entries[0].reads == ("place.inner['a'][0]", "len") and ledger.entries[
        0
    ].binds == ("result",)
    assert ledger.entries[1].binds == ("first", "second", "rest")
    assert (ledger.entries[2].reads, ledger.entries[2].binds) == (("result",), ("result",))


def test_the_cases_of_a_match_are_lines_of_their_own() -> None:
    model = nn.Linear(1, 1)
    with Ledger(model=model) as ledger:
        for kind in ("a", "b"):
            # fmt: off
            match kind:
                case "a":
                    model.eval()
                case (
                    "b"
                ):
                    model.train()
            # fmt: on
    assert [entry.source for entry in ledger.entries if entry.kind == "statement"] == [
        "model.eval()",
        "model.train()",
    ]
    assert all(entry.has_source for entry in ledger.entries)


def test_awaiting_and_yielding_from_raise_nothing() -> None:
    async def batch() -> torch.Tensor:
        await asyncio.sleep(0)
        return torch.ones(1, 1)

    async def train() -> Ledger:
        model = nn.Linear(1, 1)
        with Ledger(model=model) as ledger:
            x = await batch()
            model(x).sum().backward()
        return ledger

    entries = asyncio.run(train()).entries
    assert [entry.source for entry in entries] == ["x = await batch()", "model(x).sum().backward()"]
    assert [entry.raised for entry in entries] == [None, None]


def test_only_the_header_over_a_range_is_skipped() -> None:
    """The header of a loop over a range changes nothing; over anything else it may."""
    model = nn.Linear(2, 2)

    def training(n: int) -> Iterator[int]:
        for number in range(n):
            model.weight.data.add_(1)
            yield number

    with Ledger(model=model) as ledger:
        for _ in range(len([model.weight.data.mul_(2)])):
            pass
        for _ in range(2):
            model.weight.data.add_(1)
        for _ in training(2):
            pass
    told = [
        (entry.source, len(entry.changes))
        for entry in ledger.entries
        if any(change.state == "weight" for change in entry.changes)
    ]
    assert [source for source, _ in told] == [
        "for _ in range(len([model.weight.data.mul_(2)])):",
        *["model.weight.data.add_(1)"] * 2,
        *["for _ in training(2):"] * 2,
    ]

    def shadowed(range: Callable[[int], Iterator[int]]) -> Ledger:  # noqa: A002
        with Ledger(model=model) as ledger:
            for _ in range(2):
                pass
        return ledger

    ledger = shadowed(training)
    assert (
        sum(change.state == "weight" for entry in ledger.entries for change in entry.changes) == 2
    )


LOSSES: dict[str, Callable[[nn.Module, torch.Tensor], object]] = {
    "real": lambda model, x: model(x).sum().backward(),
    "complex": lambda model, x: (model(x).to(torch.cfloat) * 1j).sum().abs().backward(),
    "mapped": lambda model, x: torch.func.vmap(torch.func.grad(lambda row: model(row).sum()))(x),
}


@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_is_read_without_a_warning(kind: str) -> None:
    """The ledger reads a loss, and PyTorch's warning, an error here, loses no event."""
    model, x = nn.Linear(2, 1), torch.ones(4, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.set_warn_always(True)
        try:
            with Ledger(model=model) as ledger:
                LOSSES[kind](model, x)
        finally:
            torch.set_warn_always(False)
    events = {event.kind for entry in ledger.entries for event in entry.all_events}
    assert events & {"backward", "grad"}
    assert not any("fault of fnlib" in note for note in ledger.notes)
