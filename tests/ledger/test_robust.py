"""Nothing of the ledger's loses a recording, and what it counts is there once."""

from __future__ import annotations

import ast
import copy
import os
import random
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fnlib.ledger import Ledger, UnknownObject
from fnlib.ledger.looks import differ, owners, randomness, sighting, watches
from fnlib.ledger.recording import calls, graphs, names, recorder
from fnlib.ledger.recording.limits import Limits
from fnlib.ledger.recording.tracing import libraries


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    best = {}
    for _ in range(steps):
        optimizer.zero_grad()
        output = model(torch.ones(4, 2))
        loss = output.square().sum() + model[0].weight.norm()
        loss.backward()
        optimizer.step()
        scheduler.step()
        best = model.state_dict()
    model.load_state_dict(best)


def a_network() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.1), nn.Linear(3, 1))
    return model, torch.optim.Adam(model.parameters(), lr=0.1)


def recorded() -> tuple[Ledger, dict[str, torch.Tensor]]:
    model, optimizer = a_network()
    ledger = Ledger(depth=1, only=(__file__,))
    code = compile("train(model, optimizer)", "<run>", "exec")
    ledger.run(code, namespace={"train": train, "model": model, "optimizer": optimizer})
    return ledger, {name: one.clone() for name, one in model.state_dict().items()}


# A row for each function that looks at an object, and the share of its calls that fail.
FAULTS: list[tuple[Any, str, float]] = [
    (watches.ModuleWatch, "read", 1.0),
    (watches.ModuleWatch, "flat", 0.5),
    (watches.ModuleWatch, "tables", 0.5),
    (watches.OptimizerWatch, "read", 0.5),
    (watches.OptimizerWatch, "flat", 0.5),
    (watches.OptimizerWatch, "_own", 0.5),
    (watches.SchedulerWatch, "read", 0.5),
    (watches.TensorWatch, "read", 0.3),
    (watches.DictWatch, "read", 0.5),
    (owners.Owners, "owners", 0.3),
    (owners.Owners, "token", 0.2),
    (owners.Owners, "weight_label", 0.2),
    (owners.Owners, "module_label", 0.3),
    (owners.Owners, "label_of", 0.3),
    (owners.Owners, "free_label", 0.5),
    (owners.Owners, "renamed", 0.5),
    (owners, "address", 0.5),
    (owners, "held_in", 0.5),
    (differ.Keeper, "look", 0.3),
    (differ.Keeper, "sites", 0.3),
    (differ.Keeper, "prime", 0.3),
    (differ.Keeper, "_tensor_at_length", 0.3),
    (differ.Keeper, "_link", 0.5),
    (differ.Keeper, "_rewritten", 0.3),
    (differ, "same", 0.3),
    (differ, "parts", 0.3),
    (differ, "address", 0.3),
    (differ, "unreadable", 0.3),
    (differ, "ordinary", 0.1),
    (differ.Whole, "stays", 0.3),
    (sighting.Seen, "unchanged", 0.3),
    (sighting, "gapless", 0.3),
    (sighting, "over", 0.3),
    (sighting, "summarise", 0.3),
    (sighting, "distance", 0.3),
    (randomness.RandomState, "moved", 0.3),
    (names, "graph_of", 0.5),
    (names, "unreadable", 0.3),
    (names, "watch", 0.5),
    (names, "attribute", 0.3),
    (names.Names, "met", 0.3),
    (names.Names, "_remember", 0.3),
    (names.Names, "used_up", 0.5),
    (calls, "wrapped_by", 0.5),
    (calls, "saved_by", 0.5),
    (calls, "depends_on_mode", 0.3),
    (graphs, "address", 0.3),
    (recorder.Recorder, "graph_behind", 0.5),
]


@pytest.mark.parametrize(("where", "name", "share"), FAULTS)
def test_a_fault_in_a_look_names_it_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, where: Any, name: str, share: float
) -> None:
    """The program's numbers and the statements recorded stay; the fault is a sentence below the table."""
    whole, right = recorded()
    assert not whole.faults and whole.failure is None, (whole.faults, whole.failure)
    dice, function, failed = random.Random(0), getattr(where, name), []

    def broken(*given: Any, **named: Any) -> Any:
        if dice.random() < share:
            failed.append(given)
            raise KeyError("_modules")
        return function(*given, **named)

    monkeypatch.setattr(where, name, broken)
    ledger, numbers = recorded()
    entries = ledger.walk()  # summed up when they're read
    monkeypatch.undo()
    assert all(torch.equal(numbers[key], right[key]) for key in right)
    assert ledger.failure is None, repr(ledger.failure)
    assert [one.source for one in statements(ledger)] == [one.source for one in statements(whole)]
    summed_up = [change.note for entry in entries for change in entry.changes]
    assert failed, "this row breaks nothing"
    assert ledger.faults or any("could not be summed up" in note for note in summed_up)
    for label in ledger.faults:
        assert f"note: {label} could not be looked at (KeyError: '_modules')" in flat(ledger)


def statements(ledger: Ledger) -> list[Any]:
    return [entry for entry in ledger.walk() if entry.kind == "statement"]


def flat(ledger: Ledger) -> str:
    return " ".join(str(ledger).split())


class Old(nn.Module):
    def __init__(self) -> None:
        super(Old, self).__init__()  # noqa: UP008
        self.main = nn.Linear(2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.main(x)


class Late(nn.Module):
    def __init__(self) -> None:
        self.__dict__["note"] = nn.Linear(2, 1)
        nn.Module.__init__(self)
        self.main = nn.Linear(2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.main(x)


class Without(nn.Module):
    """A module whose `__init__` never called its base class; PyTorch itself refuses to run it."""

    def __init__(self) -> None:
        pass


@pytest.mark.parametrize("kind", [Old, Late, Without])
def test_a_module_before_its_tables(kind: type[nn.Module]) -> None:
    """Naming `self` before `__init__` has made its tables loses nothing (DCGAN, PyTorch-GAN)."""
    criterion = nn.BCEWithLogitsLoss(pos_weight=torch.ones(1))  # it has a buffer
    with Ledger(depth=2) as ledger:
        value = criterion(torch.zeros(1), torch.ones(1))
        net = kind()
        other = net
    assert ledger.failure is None and not ledger.faults, ledger.faults
    assert value is not None and other is net
    assert [one.source for one in ledger.entries][1] == "net = kind()"


# --- whose code it is -----------------------------------------------------------------------------

PLACES = [
    "venv2/lib/python3.11/site-packages/other.py",
    "usr/lib/python3/dist-packages/other.py",
    "home/.local/lib/python3.11/site-packages/other.py",
    "vendor/other.py",
    "editable/src/other.py",
    "linked/other.py",
]


@pytest.mark.parametrize("place", PLACES)
def test_packages_are_libraries_wherever_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Code of installed packages is not recorded, the user's beside it is."""
    file = tmp_path / place
    file.parent.mkdir(parents=True)
    file.write_text("def double(x):\n    y = x * 2\n    return y\n")
    project, installed = tmp_path / "project", tmp_path / "env" / "site-packages"
    project.mkdir()
    monkeypatch.chdir(project)
    monkeypatch.setattr(
        sys.modules["__main__"], "__file__", str(project / "train.py"), raising=False
    )
    (file.parent / "other-1.dist-info").mkdir() if "vendor" in place else None
    (installed / "other-1.dist-info").mkdir(parents=True)
    if "editable" in place:
        url = f'{{"url": "file://{tmp_path}/editable", "dir_info": {{"editable": true}}}}'
        (installed / "other-1.dist-info" / "direct_url.json").write_text(url)
    if "linked" in place:
        (installed / "linked.pth").write_text(f"# a path\nimport sys\n{tmp_path}/linked\n")
    monkeypatch.setattr(sys, "path", [str(file.parent), str(installed), *sys.path])
    own = project / "own.py"
    own.write_text(file.read_text())
    spaces: list[dict[str, Any]] = [{}, {}]
    for path, space in zip((file, own), spaces, strict=True):
        exec(compile(path.read_text(), str(path), "exec"), space)
    x = torch.ones(1)
    with Ledger(x=x, depth=2) as ledger:
        a = spaces[0]["double"](x)
        b = spaces[1]["double"](x)
    assert torch.equal(a, b)
    assert [len(entry.inside) for entry in ledger.entries] == [0, 2], place


def test_an_editable_install_of_the_project_is_the_users(tmp_path: Path) -> None:
    """The project that the script belongs to may be an editable install; its code is recorded."""
    installed = tmp_path / "site-packages" / "mine-1.dist-info"
    installed.mkdir(parents=True)
    url = f'{{"url": "file://{tmp_path}/mine", "dir_info": {{"editable": true}}}}'
    (installed / "direct_url.json").write_text(url)
    search, mine = (str(installed.parent),), str(tmp_path / "mine")
    assert mine not in libraries(search, mine, "")
    assert mine not in libraries(search, "/", str(tmp_path / "mine" / "examples" / "train.py"))
    assert mine in libraries(search, str(tmp_path / "elsewhere"), "")


# --- what is counted ------------------------------------------------------------------------------


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(4, 3), nn.Linear(3, 4, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(x))


def test_tied_weights_are_counted_once() -> None:
    """One gradient is created, clipped, overwritten and removed; one weight steps; one flag changes."""
    model = Tied()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Ledger(model=model, optimizer=optimizer) as ledger:
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.arange(4)).square().sum().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            optimizer.step()
        model.requires_grad_(False)
    kinds = ("weight", "gradient", "requires_grad flag")
    seen = [[one for one in entry.changes if one.state in kinds] for entry in statements(ledger)]
    assert [len(some) for some in seen] == [0, 1, 1, 1, 1, 1, 1, 1, 1]
    assert any("model.head.weight" in one.also for some in seen for one in some)


def test_weights_tied_across_modules_are_counted_once() -> None:
    """Two watched modules that share a weight tell of one gradient."""
    encoder, decoder = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    decoder.weight = encoder.weight
    with Ledger(encoder=encoder, decoder=decoder) as ledger:
        decoder(encoder(torch.ones(1, 2))).sum().backward()
        encoder.zero_grad()
    gradients = [
        [one for one in entry.changes if one.state == "gradient"] for entry in ledger.entries
    ]
    assert [len(some) for some in gradients] == [1, 1]


def a_snapshot_of_the_module(model: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    return model.state_dict()


def a_snapshot_of_the_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    return optimizer.state_dict()


def a_nested_snapshot(model: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    return {"epoch": 1, "model": model.state_dict(), "optimizer": optimizer.state_dict()}


@pytest.mark.parametrize(
    ("take", "moves"),
    [
        (a_snapshot_of_the_module, {"model.weight"}),
        (a_snapshot_of_the_optimizer, {"optimizer.weight.exp_avg"}),
        (a_nested_snapshot, {"model.weight", "optimizer.weight.exp_avg"}),
    ],
)
def test_a_snapshot_from_before_moves_and_is_seen(
    take: Callable[..., Any], moves: set[str]
) -> None:
    """A snapshot made before the recording is a second name of what moves inside of it."""
    model = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    best = take(model, optimizer)
    with Ledger(model=model, optimizer=optimizer) as ledger:
        optimizer.step()
        kept = best
    assert kept is best
    also = {
        "model.weight" if one.owner == "model" else one.label: one.also
        for one in ledger.entries[0].changes
        if any(name.startswith("best") for name in one.also)
    }
    labels = {label.replace("model.weight.", "weight.") for label in also}
    assert {
        one for one in moves if any(one.split(".")[-1] in label for label in labels)
    } == moves, also


@pytest.mark.parametrize("part", ["model", "optimizer"])
def test_loading_a_snapshot_from_before_is_found(part: str) -> None:
    """It has moved with what it was made of, so loading it back rescues nothing."""
    model = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    owner = {"model": model, "optimizer": optimizer}[part]
    found = []
    for copy_of in (lambda value: value, copy.deepcopy):
        best = copy_of(owner.state_dict())
        with Ledger(model=model, optimizer=optimizer) as ledger:
            optimizer.step()
            owner.load_state_dict(best)
        found.append([finding for finding in ledger.findings if finding.code == "snapshot-moved"])
    assert [finding.severity for finding in found[0]] == ["certain"] and not found[1]
    assert "`best`, made before the recording, is used here" in found[0][0].what


# --- compilers, forks, limits ---------------------------------------------------------------------


def test_the_compiler_never_traces_the_ledger() -> None:
    """A compiled function that calls back into Python compiles no more frames under a ledger."""
    program = """
    import torch, torch._dynamo, fnlib
    from torch._dynamo.utils import counters
    seen = []
    def backend(graph, inputs):
        seen.append(graph)
        return graph.forward
    def inner(x):
        y = x + 1
        torch._dynamo.graph_break()
        return y * 2
    def run():
        torch._dynamo.reset(); seen.clear(); counters.clear()
        model = torch.nn.Linear(2, 2)
        step = torch.compile(lambda x: inner(model(x)) + 1, backend=backend)
        for _ in range(3):
            out = step(torch.ones(1, 2))
            out.sum().backward()
        return len(seen), dict(counters["frames"])
    plain = run()
    with fnlib.Ledger(depth=3) as ledger:
        watched = run()
    print(plain, watched)
    assert plain == watched, (plain, watched)
    assert ledger.failure is None and not ledger.faults, ledger.faults
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "fnlib/ledger" not in done.stderr, done.stdout + done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_is_not_recorded() -> None:
    """A worker that is forked off runs without a tracer, and its parent is recorded on."""
    with Ledger() as ledger:
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            os.write(write, b"1" if sys.gettrace() is None else b"0")
            os._exit(0)
        os.waitpid(child, 0)
        free = os.read(read, 1)
    assert free == b"1" and ledger.entries[-1].binds == ("free",)
    os.close(read), os.close(write)


class Two(Limits):
    """Two optimizer steps, nothing of `dull`, every third statement of a loop."""

    def __init__(self) -> None:
        self.steps, self.seconds, self.asked, self.frames = 0, 0.0, 0, 0
        self.changed = 0

    def enter(self, code: Any) -> bool:
        return code.co_name != "dull"

    def look(self, loop: Any, busy: bool) -> bool:
        self.asked += 1
        return busy or self.asked % 3 == 0

    def closed(self, entry: Any, loops: Any, code: Any) -> None:
        self.changed += sum(change.state == "weight" for change in entry.changes)

    def stepped(self, steps: int) -> None:
        self.steps = steps

    def spent(self, seconds: float) -> None:
        self.seconds += seconds

    def over(self) -> bool:
        return self.steps >= 2

    def stopping(self, frames: Any) -> None:
        self.frames = len(frames)


def test_limits_say_what_is_recorded_and_when_it_stops() -> None:
    """The recorder asks; a recording without limits has all of it."""
    model, optimizer = a_network()

    def dull() -> int:
        a = 1
        return a

    limits = Two()
    before = sys.gettrace()
    with Ledger(model=model, optimizer=optimizer, limits=limits, depth=1) as ledger:
        dull()
        for number in range(6):
            number += 1
            number += 2
            number += 3
        for _ in range(5):
            model(torch.ones(4, 2)).sum().backward()
            optimizer.step()
        after = sys.gettrace()
    assert after is before and ledger.ended
    assert limits.changed > 0, "the changes of a closed entry are known"
    assert limits.steps == 2 and limits.frames == 1 and limits.seconds > 0
    assert sum(event.kind == "step" for event in ledger.events) == 2
    assert ledger.entries[0].inside == () and ledger.failure is None
    counted = [entry for entry in ledger.entries if entry.source.startswith("number +=")]
    assert 0 < len(counted) < 18


def test_a_fault_of_the_limits_costs_nothing() -> None:
    """What fails in a subclass is the ledger's, too."""

    class Broken(Limits):
        def closed(self, *given: Any) -> None:
            raise ZeroDivisionError

    x = torch.zeros(1)
    with Ledger(x=x, limits=Broken()) as ledger:
        x.add_(1)
        x.add_(1)
    assert len(ledger.entries) == 2 and "limits" in ledger.faults


UNKNOWN = {
    "a number": 3,
    "a function": len,
    "a dict without tensors": {"a": 1},
    "in a list": [nn.Linear(1, 1), object()],
    "with a state": types.SimpleNamespace(state_dict=dict),
}


@pytest.mark.parametrize("kind", UNKNOWN)
@pytest.mark.parametrize("named", [True, False])
def test_what_cannot_be_watched_shows_valid_code(kind: str, named: bool) -> None:
    """Both lines of the message are Python, under a keyword or the variable's own name."""
    thing = UNKNOWN[kind]
    with pytest.raises(UnknownObject) as caught:
        Ledger(thing=thing) if named else Ledger(thing)
    lines = [line.strip() for line in str(caught.value).splitlines() if "fnlib.Ledger(" in line]
    assert len(lines) == 2 and "thing" in lines[0]
    for line in lines:
        ast.parse(line.replace(":   #", ": pass  #"))


def test_objects_are_called_as_the_variables_that_hold_them() -> None:
    """`fnlib.Ledger(model)` watches `model` under that name."""
    model = nn.Linear(2, 1)
    with Ledger(model, nn.Linear(1, 1)) as ledger:
        model.weight.data.zero_()
    assert ledger.watched == ("model", "linear")
    assert [change.label for change in ledger.entries[0].changes] == ["model.weight"]
    assert not ledger.entries[0].acts_at_a_distance
