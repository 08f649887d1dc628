"""What goes wrong, or cannot be followed, is said."""

from __future__ import annotations

import bdb
import gc
import os
import subprocess
import sys
import textwrap
import threading
from multiprocessing import Queue
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fnlib.errors import FnlibError
from fnlib.ledger import (
    AlreadyRecording,
    Ledger,
    LedgerError,
    NoSuchIteration,
    NothingToCompare,
    UnknownObject,
    UnknownWatch,
    compare,
)
from fnlib.ledger.looks.watches import ModuleWatch
from fnlib.ledger.recording.recorder import Recorder


def test_an_exception_passes_through_the_ledger() -> None:
    """An exception passes through, and the ledger keeps what it saw."""
    model = nn.Linear(2, 2)
    with (
        pytest.raises(RuntimeError, match="mat1 and mat2") as caught,
        Ledger(model=model) as ledger,
    ):
        with torch.no_grad():
            model.weight.add_(1)
        model(torch.ones(1, 3))
        raise AssertionError("not reached")
    assert [entry.raised is not None for entry in ledger.entries] == [False, True]
    assert (
        ledger.entries[0].changes[0].label == "model.weight"
        and ledger.raised == f"RuntimeError: {caught.value}"
    )
    shown = " ".join(str(ledger).split())
    assert "raised RuntimeError: mat1 and mat2 shapes cannot be multiplied" in shown
    assert len(ledger.entries) == 2


def test_a_statement_that_changes_something_and_then_raises() -> None:
    x = torch.zeros(2)

    def change() -> None:
        x.add_(1)
        raise KeyError("late")

    with pytest.raises(KeyError), Ledger(x=x, depth=1) as ledger:
        change()
    (entry,) = ledger.entries
    assert entry.changes[0].kind == "changed in place" and entry.raised == "KeyError: 'late'"
    assert [inner.raised for inner in entry.inside] == [None, "KeyError: 'late'"]


def test_leaving_with_return_break_and_sys_exit() -> None:
    def leave(how: str) -> Ledger:
        for _ in range(2):
            with Ledger(x=torch.ones(1)) as ledger:
                if how == "return":
                    return ledger
                if how == "break":
                    break
                sys.exit(3)
        return ledger

    assert leave("return").raised is None and leave("break").raised is None
    with pytest.raises(SystemExit):
        leave("exit")
    assert sys.gettrace() is None or "coverage" in repr(sys.gettrace())


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (len, "A function keeps no state"),
        (3, "an? int"),
        ([1], "int"),
        (object(), "object"),
        ("text", "str"),
        ({"a": 1}, "dict"),
    ],
)
def test_an_unknown_object_is_named_before_recording_starts(value: object, says: str) -> None:
    with pytest.raises(UnknownObject, match=says) as caught:
        Ledger(thing=value)
    assert (
        "# wrong" in str(caught.value)
        and "# right" in str(caught.value)
        and "thing" in str(caught.value)
    )
    assert isinstance(caught.value, FnlibError)


def test_other_errors_teach() -> None:
    ledger = Ledger(x=torch.ones(1))
    with ledger:
        pass
    with pytest.raises(AlreadyRecording, match="ledger of its own|a ledger of its own"), ledger:
        pass
    with pytest.raises(UnknownWatch, match="'weights', which is no kind of state"):
        Ledger(x=torch.ones(1), watch={"weights"})
    with pytest.raises(NoSuchIteration, match="no loop was recorded"):
        ledger.iteration(1)
    with pytest.raises(NothingToCompare, match="not a Linear"):
        compare(nn.Linear(1, 1), ledger)
    assert all(
        issubclass(kind, LedgerError)
        for kind in (AlreadyRecording, UnknownWatch, NoSuchIteration, NothingToCompare)
    )


def test_meta_lazy_sparse_and_subclasses_are_followed_or_named() -> None:
    class Marked(torch.Tensor):
        pass

    class Wrapping(torch.Tensor):
        @staticmethod
        def __new__(cls, inner: torch.Tensor) -> Wrapping:
            return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

        def __init__(self, inner: torch.Tensor) -> None:
            self.inner = inner

        @classmethod
        def __torch_dispatch__(
            cls,
            function: object,
            types: object,
            arguments: tuple = (),
            keywords: dict | None = None,
        ) -> object:
            raise AssertionError("the ledger must not compute with it")

    class Flat(Wrapping):
        def __tensor_flatten__(self) -> tuple[list[str], None]:
            return ["inner"], None

    meta, marked, wrapping, flat = (
        torch.zeros(2, device="meta"),
        torch.zeros(2).as_subclass(Marked),
        Wrapping(torch.ones(2)),
        Flat(torch.ones(2)),
    )
    lazy, embedding = nn.LazyLinear(2), nn.Embedding(4, 2, sparse=True)
    things = {
        "meta": meta,
        "marked": marked,
        "wrapping": wrapping,
        "flat": flat,
        "lazy": lazy,
        "embedding": embedding,
    }
    with Ledger(
        **things,
        half=torch.ones(2, dtype=torch.bfloat16),
        imaginary=torch.ones(2, dtype=torch.complex64),
    ) as ledger:
        marked.add_(1)
        flat.inner.add_(1)
        lazy(torch.ones(1, 3))
        embedding(torch.tensor([1])).sum().backward()
        embedding.weight.grad._values().mul_(2)
    changed = [
        {
            change.label
            for change in entry.changes
            if change.state not in ("name", "graph", "random state")
        }
        for entry in ledger.entries
    ]
    assert (
        changed[0] == {"marked"}
        and changed[1] == {"flat"}
        and {"lazy.weight", "lazy.bias"} <= changed[2]
    )
    assert changed[3] == changed[4] == {"embedding.weight.grad"}
    assert ledger.entries[4].changes[0].kind == "changed in place"
    notes = "\n".join(ledger.notes)
    assert (
        "meta is a meta tensor" in notes
        and "wrapping is a Wrapping that computes its own operations" in notes
    )
    assert "lazy.weight has no shape yet" in notes and "flat" not in notes and "marked" not in notes
    assert "note: meta is a meta tensor" in str(ledger)


@pytest.mark.filterwarnings("ignore")
def test_a_scripted_network_is_named_before_recording_starts() -> None:
    scripted = torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2))
    for network in (scripted, nn.Sequential(nn.Linear(2, 2), scripted)):
        with (
            pytest.raises(UnknownObject, match="made by torch.jit") as caught,
            Ledger(network=network),
        ):
            pass
        assert "network.state_dict()" in str(caught.value)
        with Ledger() as ledger:
            network(torch.ones(1, 2)).sum().backward()
        assert "network is made by torch.jit" in str(ledger)
    with Ledger(network=scripted.state_dict()) as ledger:
        scripted.weight.data.add_(1)
    assert [change.label for change in ledger.entries[0].changes] == ["network.weight"]


def test_a_name_rebound_to_an_unwatched_object_is_noted() -> None:
    """Note a watched name that is rebound to an object that isn't watched."""
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Ledger(model=model, optimizer=optimizer) as ledger:
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        model = nn.Sequential(nn.Linear(2, 2))  # a run that begins afresh
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    notes = "\n".join(ledger.notes)
    assert "model was rebound to another Sequential, which is not watched" in notes
    assert "optimizer was rebound to another Adam, which is not watched" in notes and "Adam" in str(
        ledger
    )
    with Ledger() as ledger:
        model = nn.Linear(2, 2)
        model(torch.ones(1, 2)).sum().backward()
        model = nn.Linear(2, 2)
        model(torch.ones(1, 2)).sum().backward()
    assert (
        ledger.notes == []
        and sum(change.state == "gradient" for entry in ledger.entries for change in entry.changes)
        == 4
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("asked", [True, False])
def test_nested_and_quantized_tensors_are_named(asked: bool) -> None:
    def make() -> dict[str, torch.Tensor]:
        ragged = [torch.ones(2), torch.ones(3)]
        return {
            "nested": torch.nested.nested_tensor(ragged),
            "jagged": torch.nested.nested_tensor(ragged, layout=torch.jagged),
            "quantized": torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.quint8),
        }

    things = make()
    with Ledger(**things if asked else {"weight": torch.ones(1)}) as ledger:
        nested, jagged, quantized = make().values()
        nested.mul_(2)
        nested = nested * 2
    notes = "\n".join(ledger.notes)
    assert (
        "nested is nested and has no shape" in notes
        and "jagged is nested" in notes
        and "quantized is quantized" in notes
    )
    assert [
        change.kind
        for change in ledger.entries[2].changes
        if change.owner == "nested" and change.state == "name"
    ] == ["rebound"]
    assert (
        jagged is not None
        and quantized is not None
        and "nested" in str(ledger)
        and ledger.to_dict()
    )


@pytest.mark.parametrize("asked", [True, False])
def test_a_tensor_may_give_its_memory_back_and_get_it_again(asked: bool) -> None:
    weight = torch.ones(4)  # as fully sharded training and offloading do between two uses
    size = weight.untyped_storage().nbytes()
    with Ledger(**{"weight": weight} if asked else {"other": torch.ones(1)}) as ledger:
        weight.mul_(2)
        weight.untyped_storage().resize_(0)
        weight.untyped_storage().resize_(size)
        weight.fill_(3)
        weight.add_(1)
    kinds = [
        [change.kind for change in entry.changes if change.label == "weight"]
        for entry in ledger.entries
    ]
    assert kinds[0] == kinds[4] == ["changed in place"] and kinds[1] and kinds[2]
    assert (
        "weight has given its memory back" in "\n".join(ledger.notes)
        and str(ledger)
        and ledger.to_dict()
    )


def test_other_dtypes_are_compared_by_their_bytes() -> None:
    kinds = (
        torch.bfloat16,
        torch.float16,
        torch.float64,
        torch.complex64,
        torch.complex128,
        torch.int8,
        torch.bool,
        torch.int64,
        torch.float8_e4m3fn,
    )
    tensors = {str(kind).removeprefix("torch."): torch.zeros(3, 2).to(kind).t() for kind in kinds}
    with Ledger(**tensors) as ledger:
        for tensor in tensors.values():
            tensor[0, 0] = 1
        for tensor in tensors.values():
            tensor[0, 0] = 1
    told = [
        change.label
        for entry in ledger.entries
        for change in entry.changes
        if change.state == "value"
    ]
    assert told == list(tensors)


def test_the_thread_of_a_loaders_queue_is_not_named() -> None:
    """A `DataLoader` with workers has one, and it outlives the statement or doesn't."""
    from multiprocessing import Queue

    x, queue = torch.zeros(1), Queue()
    with Ledger(x=x) as ledger:
        queue.put(1)
        x.add_(1)
    assert queue.get(timeout=5) == 1 and not ledger.notes


def test_a_thread_that_is_not_followed_is_named() -> None:
    x, go = torch.zeros(1), threading.Event()

    def later() -> None:
        go.wait(5)
        x.add_(1)

    with Ledger(x=x) as ledger:
        thread = threading.Thread(target=later)
        thread.start()
        go.set(), thread.join()
    assert any("started a thread" in note for note in ledger.notes)
    assert [
        change.label for entry in ledger.entries for change in entry.changes if change.owner == "x"
    ] == ["x"]


def test_a_thread_is_named_where_a_queue_runs_one_already() -> None:
    """What isn't counted later isn't counted at the start."""
    queue, go = Queue(), threading.Event()
    queue.put(1)
    assert queue.get(timeout=5) == 1
    assert any(thread.name == "QueueFeederThread" for thread in threading.enumerate())
    with Ledger(x=torch.zeros(1)) as ledger:
        thread = threading.Thread(target=go.wait, args=(5,))
        thread.start()
        go.set(), thread.join()
    assert any("started a thread" in note for note in ledger.notes)


def test_two_threads_each_with_a_ledger() -> None:
    found = {}

    def record(name: str) -> None:
        x = torch.zeros(1)
        with Ledger(x=x) as ledger:
            for _ in range(20):
                x.add_(1)
        found[name] = sum(
            change.owner == "x" for entry in ledger.entries for change in entry.changes
        )

    threads = [threading.Thread(target=record, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys("abcd", 20)


class Counting(bdb.Bdb):
    """A debugger that only notes the lines it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []

    def user_line(self, frame: object) -> None:
        self.lines.append(frame.f_lineno)  # type: ignore[attr-defined]
        self.set_step()


def test_a_debugger_that_traces_already() -> None:
    def program(recorded: bool) -> Ledger | None:
        x = torch.zeros(1)
        if recorded:
            with Ledger(x=x) as ledger:
                x.add_(1)
                x.add_(2)
            return ledger
        return None

    debugger = Counting()
    ledger = debugger.runcall(program, True)
    first = program.__code__.co_firstlineno
    assert [
        change.moved for entry in ledger.entries for change in entry.changes if change.owner == "x"
    ] == [1.0, 2.0]
    assert {first + line for line in (1, 2, 3, 4, 5, 6)} <= set(debugger.lines)
    assert sys.gettrace() is None or "coverage" in repr(sys.gettrace())


def test_a_tracer_that_takes_over_is_named() -> None:
    x = torch.zeros(1)
    with Ledger(x=x) as ledger:
        x.add_(1)
        sys.settrace(None)
        x.add_(2)
    assert any("another tracer" in note for note in ledger.notes)
    assert (
        sum(
            change.moved
            for entry in ledger.entries
            for change in entry.changes
            if change.owner == "x"
        )
        == 3.0
    )


@pytest.mark.long
def test_coverage_that_traces_already(tmp_path: Path) -> None:
    coverage = pytest.importorskip("coverage")
    assert coverage
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import torch
            from fnlib.ledger import Ledger
            def called(x):
                return x + 1
            x = torch.zeros(1)
            with Ledger(x=x) as ledger:
                x.add_(1)
                y = called(x)
                x.add_(2)
            moved = [change.moved for entry in ledger.entries for change in entry.changes if change.owner == "x"]
            assert moved == [1.0, 2.0], moved
            z = 1
            """
        )
    )
    here = os.getcwd()
    command = [sys.executable, "-m", "coverage", "run", "--include=program.py", str(program)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": here},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "trace-changed" not in done.stderr, done.stderr
    report = subprocess.run(
        [sys.executable, "-m", "coverage", "report", "-m"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "100%" in report.stdout, report.stdout


def test_a_fault_of_the_ledger_reaches_its_user_only_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = torch.zeros(1)
    ledger = Ledger(x=x)
    whole, times = Recorder._open, []

    def broken(recorder: Recorder, *given: Any) -> None:
        times.append(1)
        if len(times) == 2:
            raise ZeroDivisionError("a bug in the ledger")
        whole(recorder, *given)

    monkeypatch.setattr(Recorder, "_open", broken)
    with pytest.raises(LedgerError, match="a bug in the ledger"), ledger:
        x.add_(1)
        x.add_(2)
    assert x.item() == 3.0 and isinstance(ledger.failure, ZeroDivisionError)
    assert [entry.source for entry in ledger.entries] == ["x.add_(2)"]


def test_scalers_and_two_optimizers() -> None:
    model = nn.Linear(2, 2)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1)
    optimizers = [torch.optim.SGD([weight], lr=0.1) for weight in model.parameters()]
    with Ledger(model=model, scaler=scaler, optimizers=optimizers) as ledger:
        scaler.scale(model(torch.ones(1, 2)).sum()).backward()
        scaler.step(optimizers[0])
        scaler.update()
    changed = [
        {change.label for change in entry.changes if change.state not in ("name", "graph")}
        for entry in ledger.entries
    ]
    assert changed[1] >= {"model.weight"} and "scaler.scale" in changed[2]
    assert [event.subject for event in ledger.events if event.kind == "step"] == ["optimizers[0]"]


def test_a_dict_that_contains_itself_and_one_that_is_a_data_set() -> None:
    model, ring = nn.Linear(2, 1), {"w": torch.ones(2)}
    ring["ring"] = ring  # type: ignore[assignment]
    data = {"text": ["words"] * 100_000, "x": torch.ones(4, 2)}
    with Ledger(model=model) as ledger:
        ring["w"].add_(1)
        x = data["x"]
        model(x).sum().backward()
    assert [change.label for change in ledger.entries[0].changes] == ["ring.w"]
    assert not any(change.owner == "data" for entry in ledger.entries for change in entry.changes)
    assert (
        "note: data holds more than 5,000 values and was not asked for; fnlib.Ledger(data=data) follows it"
        in str(ledger)
    )


def test_a_new_object_at_an_old_address_is_new() -> None:
    """Don't take a new object for the one whose address it reuses.

    Once an object is gone, its identity can be used again, and no program can tell the two apart by it.
    """

    def lying_where_it_lay() -> nn.Module:
        module = nn.Linear(2, 2)
        watches = [one for one in gc.get_objects() if type(one) is ModuleWatch]
        [gone] = [one for one in watches if one.label == "first" and one.value() is None]
        gone.ids = {id(module): ""}
        return module

    with Ledger() as ledger:
        first = nn.Linear(2, 2)
        first = None
        model = lying_where_it_lay()
        model(torch.ones(1, 2)).sum().backward()
    assert first is None
    assert [
        change.label for change in ledger.entries[-1].changes if change.state == "gradient"
    ] == ["model.weight.grad", "model.bias.grad"]
