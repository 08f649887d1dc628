"""A run is a list of values: what is appended comes back bit for bit, and is stored once."""

from __future__ import annotations

import copy
import ctypes
import json
import os
import pickle
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file
from torch import nn

import fnlib
from fnlib.history import Found
from fnlib.values import store
from tests.core import networks as nets
from tests.core.loops import functional_run
from tests.core.tables import NETWORKS, SPARSE, Network
from tests.core.test_files import trees
from tests.history.runs import ModelFactory, in_child, kept, states, step, trunk

NAMES = ("bfloat16", "complex", "tied weights", "channels last", "batchnorm, cumulative",
         "no dimensions, no elements", "frozen weights", "transposed weight", "spectral norm",
         "buffers replaced, counted, unsaved", "lstm", "kinds mixed", "embedding, greatest norm")  # fmt: skip
ROWS = [row for row in NETWORKS if row.name in NAMES]
RULES: dict[str, Callable[[], Any]] = {
    "Adam": lambda: fnlib.Adam(lr=lambda i: 0.1 / (1 + i), amsgrad=True),
    "NAdam": lambda: fnlib.wrap(torch.optim.NAdam, lr=0.1),
    "ASGD": lambda: fnlib.wrap(torch.optim.ASGD, t0=3),
    "Rprop": lambda: fnlib.wrap(torch.optim.Rprop),
}
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="the other process is made by fork")
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


# --- what is appended comes back ------------------------------------------------------------------


def test_the_table_has_all_kinds_of_state() -> None:
    assert len(ROWS) == len(NAMES)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_every_kind_of_state_comes_back(row: Network, rule: str, tmp_path: Path) -> None:
    """Weights, buffers, moments, rule and count, with strides, in another process too."""
    if rule == "ASGD" and row.name in ("complex", "bfloat16"):
        rule = "NAdam"
    values = [functional_run(row, RULES[rule](), steps=n)[0] for n in (1, 2)]
    for history in (fnlib.History(tmp_path), kept(tmp_path, values)):
        for value, found in zip(values, history, strict=False):
            assert found == value and list(found) == list(value)
            assert list(found.buffers) == list(value.buffers)
            assert found._content.rule == value._content.rule  # type: ignore[union-attr]
            assert found._content.names[:3] == value._content.names[:3]  # type: ignore[union-attr]
            for name in value:
                assert found[name].stride() == value[name].stride()
    assert len(history) == 2
    fnlib.Factory(row.build, optimizer=RULES[rule]())(history[-1], training=row.training)


@given(tree=trees)
def test_any_state_of_a_rule_comes_back(tree: Any) -> None:
    value = fnlib.Parameters.from_module(nn.Linear(1, 1)).replace(optimizer_state={"kept": tree})
    with tempfile.TemporaryDirectory() as folder:
        found = kept(Path(folder), [value])[0]
    assert found == value and repr(found.optimizer_state) == repr(value.optimizer_state)


def test_a_history_is_a_sequence(tmp_path: Path) -> None:
    values = states(5)
    history = kept(tmp_path / "run", values)
    assert len(history) == 5 and history and not fnlib.History(tmp_path / "other")
    assert list(history) == values and list(reversed(history)) == values[::-1]
    assert [history[i] for i in range(-5, 5)] == values + values
    assert history[1:-1:2] == values[1:-1:2] and history[7:] == []
    assert values[3] in history and history.index(values[3]) == 3
    for index in (5, -6, 10**9):
        with pytest.raises(IndexError, match="this history has 5 states"):
            history[index]
    assert "5 states" in " ".join(repr(history).split()) and "run" in repr(history)


def test_donated_values_are_kept_as_they_were(tmp_path: Path) -> None:
    """Append, then give the value away: neither the file nor the latest state changes."""
    for every in (1, 3):
        expected, history = states(5), fnlib.History(tmp_path / str(every), every=every, step=step)
        value = copy.deepcopy(expected[0])
        for i in range(5):
            history.append(value)
            model = ModelFactory(value, seed=5)
            x = torch.randn(6, 4, generator=torch.Generator().manual_seed(i))
            output, buffers = model.with_buffers(x)
            gradient = model.backward(output.square().mean())
            value = model.step(gradient, buffers=buffers, donate=True)
            assert history[-1] == expected[i]
        assert list(history) == expected


def test_writing_to_what_is_read_reaches_nothing(tmp_path: Path) -> None:
    values = states(2)
    history = kept(tmp_path, values)
    found = history[1]
    for tensor in (*found.values(), *found.buffers.values()):
        tensor.zero_()
    assert found == values[1] == history[1]


# --- stored once ----------------------------------------------------------------------------------


def test_a_frozen_trunk_is_stored_once(tmp_path: Path) -> None:
    """On disk, when it's the same tensor, when it was copied, and when the run is opened again."""
    values = trunk(30)
    kept(tmp_path, values[:10])
    kept(tmp_path, [copy.deepcopy(value) for value in values[10:]])
    assert size_of(tmp_path) < 40_000 + 30 * 2_000
    assert list(fnlib.History(tmp_path)) == values


def test_a_trunk_that_no_gradient_reaches_is_stored_once(tmp_path: Path) -> None:
    """A frozen layer, through the steps of a run, with its neighbours' moments."""

    def build() -> nn.Module:
        network = nn.Sequential(nn.Linear(200, 100), nn.Linear(100, 1))
        network[0].requires_grad_(False)
        return network

    for rule in (fnlib.Adam(), fnlib.wrap(torch.optim.RMSprop)):
        model = fnlib.Factory(build, optimizer=rule)(fnlib.Parameters(seed=0))
        folder = tmp_path / type(rule).__name__
        with fnlib.History(folder) as history:
            for _ in range(10):
                history.append(model.parameters)
                loss = model(torch.ones(1, 200)).square().sum()
                model = model.factory(model.step(model.backward(loss)))
        assert size_of(folder) < 80_000 + 10 * 8_000


def test_what_did_not_change_is_not_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[int] = []
    original = store.hash_of
    monkeypatch.setattr(store, "hash_of", lambda t: hashed.append(t.numel()) or original(t))
    history = fnlib.History(tmp_path)
    for value in trunk(5):
        history.append(value)
    assert hashed.count(10_000) == 1 and hashed.count(1) == 5
    history.append(copy.deepcopy(history[0]))
    assert hashed.count(10_000) > 1, "a copy is another tensor"


def test_a_size_is_told_before_it_is_written(tmp_path: Path) -> None:
    history = fnlib.History(tmp_path / "run")
    for value in (*trunk(2), *states(3)):
        told = history.cost(value)
        history.append(value)
        written = history._store.path(len(history) - 1).stat().st_size
        assert abs(told - written) < 300
    assert fnlib.History(tmp_path / "none").cost(value) > 0 and not (tmp_path / "none").exists()


def test_opening_only_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is opened, however many states there are, and none is made."""
    folder = tmp_path / "run"
    kept(folder, trunk(1))
    for i in range(1, 1000):
        os.link(folder / "000000.safetensors", folder / f"{i:06}.safetensors")
    before = {path: path.stat() for path in folder.iterdir()}
    opened: list[Any] = []
    monkeypatch.setattr(store, "safe_open", lambda *args, **kwargs: opened.append(args))
    monkeypatch.setattr(os, "open", lambda *args, **kwargs: opened.append(args))
    assert len(fnlib.History(folder)) == 1000 and not opened
    assert {path: path.stat() for path in folder.iterdir()} == before
    fnlib.History(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


# --- going back -----------------------------------------------------------------------------------


def test_a_branch_shares_and_changes_nothing(tmp_path: Path) -> None:
    values, other = trunk(10), trunk(3, 500)
    history = kept(tmp_path / "run", values)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.safetensors")}
    for start in (0, 4, 9, -1):
        branch = history.branch(start, tmp_path / f"b{start}")
        count = range(10)[start] + 1
        assert list(branch) == values[:count]
        assert (tmp_path / f"b{start}" / "000000.safetensors").stat().st_nlink > 1
        for value in other:
            branch.append(value)
        branch.prune(range(count))
        assert branch[-1] == other[-1]
        branch.close()
    after = {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.safetensors")}
    assert after == before and list(fnlib.History(tmp_path / "run")) == values
    with pytest.raises(fnlib.WrongHistory, match="there is something at"):
        history.branch(3, tmp_path / "b4")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_branch_outlives_the_run(tmp_path: Path) -> None:
    """What is pruned or removed in the run is still in the branch."""
    values = trunk(6)
    history = kept(tmp_path / "run", values)
    branch = history.branch(3, tmp_path / "b")
    history.prune(range(5))
    for path in (tmp_path / "run").iterdir():
        path.unlink()
    assert list(branch) == values[:4]


def test_a_branch_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system has none, or the disk is another one, files are copied."""

    def refused(*args: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    values = trunk(3)
    branch = kept(tmp_path / "run", values).branch(1, tmp_path / "b")
    assert list(branch) == values[:2]


@pytest.mark.parametrize("every", [1, 7, 100])
def test_bisect_looks_at_few_states(every: int, tmp_path: Path) -> None:
    """1,000 states, at most 12 looks, wherever the run breaks; replays are few too."""
    one = fnlib.Parameters.from_module(nn.Linear(1, 1))
    numbers = [one.replace(weights={"bias": torch.tensor([float(i)])}) for i in range(1000)]
    steps: list[int] = []

    def forward(parameters: fnlib.Parameters, i: int) -> fnlib.Parameters:
        steps.append(i)
        return numbers[i + 1]

    if every == 1:  # a state a file, of which only a few are looked at
        history = fnlib.History(tmp_path)
        history._store.indices = list(range(1000))
        history._store.read = lambda i: numbers[i]._held()  # type: ignore[method-assign]
        history._length = 1000
    else:
        history = kept(tmp_path, numbers, every=every, step=forward)
    for broken in (0, 1, 317, 499, 500, 998, 999):
        looked: list[float] = []
        steps.clear()

        def sound(value: fnlib.Parameters, broken: int = broken, looked: Any = looked) -> bool:
            looked.append(float(value["bias"]))
            return looked[-1] < broken

        found = history.bisect(sound)
        assert found == broken and len(looked) == found.looked_at <= 12
        assert len(set(looked)) == len(looked) and len(steps) <= 2 * every
    with pytest.raises(fnlib.WrongHistory, match="it is true of the last one, 999, too"):
        history.bisect(lambda value: True)


def test_a_found_state_is_an_integer() -> None:
    found = Found(3, 5)
    assert [10, 11, 12, 13][found] == 13 and f"{found}" == "3"
    assert str(found) == "3" and repr(found) == "state 3 (looked at 5 states)"
    assert pickle.loads(pickle.dumps(found)).looked_at == 5
    with pytest.raises(fnlib.WrongHistory, match="there is no state"):
        fnlib.History(tempfile.gettempdir() + "/no such run").bisect(bool)


@pytest.mark.parametrize("every", [2, 3, 50])
def test_states_between_are_replayed(every: int, tmp_path: Path) -> None:
    values = states(8)
    history = fnlib.History(tmp_path, every=every, step=step)
    for count, value in enumerate(values, 1):
        history.append(value)
        assert len(history) == count and history[-1] == value
    assert list(history) == values and history[5] == values[5]
    assert history[2:7] == values[2:7]
    branch = history.branch(5, tmp_path / "b")
    assert list(branch) == values[:6]
    assert len(fnlib.History(tmp_path)) == 1 + 7 // every * every, "what a crash leaves"
    history.close()
    again = fnlib.History(tmp_path, every=every, step=step)
    assert len(again) == 8 and again[-1] == values[-1] and list(again) == values
    without = fnlib.History(tmp_path)
    assert without[0] == values[0]
    with pytest.raises(fnlib.NotKept, match="State 1 isn't on disk: the last one before it is 0"):
        without[1]


def test_a_step_that_gives_away_and_one_that_returns_nothing(tmp_path: Path) -> None:
    """A replay may donate; what is no step says so."""
    values = states(4)

    def donating(parameters: fnlib.Parameters, i: int) -> fnlib.Parameters:
        following = step(parameters, i)
        parameters._give_away()
        return following

    history = kept(tmp_path, values, every=10, step=donating)
    assert list(history) == values and history.bisect(lambda v: v.step_count < 2) == 2
    history = fnlib.History(tmp_path, step=lambda parameters, i: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(fnlib.WrongHistory, match=r"step\(parameters, 0\) returned NoneType"):
        history[1]


PRUNED: dict[str, tuple[list[int], ...]] = {
    "the first": ([0],),
    "all but the last": (list(range(9)),),
    "every second": (list(range(0, 9, 2)),),
    "again and again": ([0], [1, 2], [3, 4, 5, 6, 7, 8]),
    "one that is gone": ([3], [3, 4]),
    "negative": ([-2, -3],),
    "none": ([],),
}


@pytest.mark.parametrize("how", PRUNED)
def test_prune_keeps_what_others_need(how: str, tmp_path: Path) -> None:
    """Tensors that a later state shares survive; what nobody needs goes."""
    values = [*trunk(4), *trunk(3, 3_000), *trunk(3)]
    history = kept(tmp_path, values)
    gone: set[int] = set()
    for indices in PRUNED[how]:
        before = size_of(tmp_path)
        freed = history.prune(indices)
        assert freed == before - size_of(tmp_path)
        gone |= {range(10)[i] for i in indices}
    history.close()
    for found in (history, fnlib.History(tmp_path)):
        assert len(found) == 10
        for index, value in enumerate(values):
            if index in gone:
                with pytest.raises(fnlib.NotKept):
                    found[index]
            else:
                assert found[index] == value
    if how == "all but the last":
        assert size_of(tmp_path) < 43_000, "the other trunks are gone"
    found.append(values[0])
    assert found[-1] == values[0]


def test_the_last_state_stays(tmp_path: Path) -> None:
    history = kept(tmp_path, trunk(3))
    for indices in ([2], [-1], range(3)):
        with pytest.raises(fnlib.WrongHistory, match="The last state stays"):
            history.prune(indices)
    with pytest.raises(IndexError):
        history.prune([3])
    assert len(list(history)) == 3


# --- many at once ---------------------------------------------------------------------------------


def test_threads_read_at_once(tmp_path: Path) -> None:
    values = states(6)
    history = kept(tmp_path, values, every=2, step=None)
    failed: list[object] = []

    def read() -> None:
        try:
            for i in (0, 2, 4, 5) * 5:
                assert history[i] == values[i]
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for value in values:
        history.append(value)
    for thread in threads:
        thread.join()
    assert not failed


@forks
def test_a_second_writer_is_refused_by_name(tmp_path: Path) -> None:
    """In this process and in another one; readers aren't, and the end of the first lets it in."""
    values = states(3)
    first, second = fnlib.History(tmp_path), fnlib.History(tmp_path)
    first.append(values[0])
    for attempt in (second, fnlib.History(tmp_path, every=5)):
        with pytest.raises(fnlib.HistoryInUse, match=f"process {os.getpid()} is writing to it"):
            attempt.append(values[1])
        assert fnlib.History(tmp_path)[0] == values[0]

    def child() -> None:
        with pytest.raises(fnlib.HistoryInUse):
            fnlib.History(tmp_path).append(values[1])
        with pytest.raises(fnlib.HistoryInUse):
            first.append(values[1])  # a fork isn't the writer

    assert in_child(child) == 0
    first.append(values[1])
    first.close()
    with pytest.raises(fnlib.HistoryInUse, match="somebody wrote to it since you opened it"):
        second.append(values[2])
    third = fnlib.History(tmp_path)
    third.append(values[2])
    del third
    assert list(fnlib.History(tmp_path)) == values
    fnlib.History(tmp_path).append(values[0])


@forks
@pytest.mark.parametrize("how", ["closed", "closed, forked by C", "killed"])
def test_a_forked_worker_does_not_hold_the_lock(how: str, tmp_path: Path) -> None:
    """A data loader's worker that outlives the run, or its killed writer, keeps nobody out.

    Python's hooks don't run in a process that C code forks, as in one that `subprocess` is starting.
    """
    fork = ctypes.PyDLL(None).fork if how == "closed, forked by C" else os.fork
    values = states(2)
    wait, release = os.pipe()
    started, start = os.pipe()

    def writer() -> None:
        history = fnlib.History(tmp_path)
        history.append(values[0])
        if fork() == 0:
            os.close(release)
            os.write(start, b"!")
            os.read(wait, 1)  # until the test closes its end
            os._exit(0)
        os.read(started, 1)
        os.close(release)
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        history.close()

    assert in_child(writer) == (-signal.SIGKILL if how == "killed" else 0)
    fnlib.History(tmp_path).append(values[1])
    for end in (wait, release, started, start):
        os.close(end)


# --- damage ---------------------------------------------------------------------------------------


def test_flipped_bytes_are_noticed(tmp_path: Path) -> None:
    """In every kind of file, at every part: a named error that names the file, or the same value."""
    values = trunk(4, 200)
    history = kept(tmp_path, values)
    history.prune([0])
    kinds = {"000001": {1}, "000003": {3}, "000000-tensors": {1, 2, 3}}
    for name, needing in kinds.items():
        path = tmp_path / f"{name}.safetensors"
        whole = path.read_bytes()
        noticed = 0
        for at in {*range(0, 16), *range(16, len(whole), max(1, len(whole) // 60)), len(whole) - 1}:
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
            for index in (1, 2, 3):
                try:
                    assert history[index] == values[index]
                except fnlib.DamagedHistory as error:
                    assert index in needing and str(path) in str(error)
                    noticed += 1
        path.write_bytes(whole)
        assert noticed > 40 * len(needing)
    assert [history[i] for i in (1, 2, 3)] == values[1:]


@pytest.mark.parametrize("size", [0, 7, 8, 100, -1])
def test_a_file_cut_short_is_named_and_the_rest_read(size: int, tmp_path: Path) -> None:
    values = trunk(3, 50)
    history = kept(tmp_path, values)
    path = tmp_path / "000001.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(fnlib.DamagedHistory, match="000001.safetensors can't be read"):
        history[1]
    assert history[0] == values[0] and history[2] == values[2]
    path.unlink()
    with pytest.raises(fnlib.DamagedHistory, match="000001.safetensors"):
        history[1]
    path.mkdir()
    with pytest.raises(fnlib.DamagedHistory, match="000001.safetensors"):
        history[1]


def test_a_damaged_last_state_does_not_stop_the_run(tmp_path: Path) -> None:
    """The next state doesn't rest on it: everything is stored again."""
    values = trunk(3, 50)
    kept(tmp_path, values[:2])
    (tmp_path / "000001.safetensors").write_bytes(b"")
    (tmp_path / "000000.safetensors").write_bytes(b"")
    assert kept(tmp_path, values[2:])[2] == values[2]


def test_a_file_under_another_name_is_noticed(tmp_path: Path) -> None:
    history = kept(tmp_path, trunk(3, 50))
    os.replace(tmp_path / "000001.safetensors", tmp_path / "000002.safetensors")
    with pytest.raises(fnlib.DamagedHistory, match="its header was changed"):
        history[2]


def altered(path: Path, index: int, **change: str) -> None:
    """Write a file as another machine, or another version, would have."""
    with safe_open(path, framework="pt") as file:
        said = {**file.metadata(), **change}
    said["check"] = store._check(index, said)
    save_file(load_file(path), path, said)


ELSEWHERE: dict[str, tuple[dict[str, str], str]] = {
    "another byte order": ({"byteorder": "big"}, "it's from a big-endian machine"),
    "a newer version": ({"format": "fnlib.History 2"}, "another version of fnlib wrote it"),
    "parameters": ({"format": "fnlib.Parameters 1"}, "it isn't the file of a history"),
    "no tree": ({"tree": "{}"}, "its description doesn't fit"),
    "places are a list": ({"places": "[]"}, "its description doesn't fit"),
    "a tensor that isn't there": ({"places": '{"1": ["00"]}'}, "00"),
    "a file that isn't there": ({"places": '{"7": ["00"]}'}, "000007"),
    "no environment": ({"environment": "{"}, "its description doesn't fit"),
}


@pytest.mark.parametrize("how", ELSEWHERE)
def test_a_file_of_another_machine_is_named(how: str, tmp_path: Path) -> None:
    values = trunk(3, 50)
    history = kept(tmp_path, values)
    change, says = ELSEWHERE[how]
    altered(tmp_path / "000001.safetensors", 1, **change)
    with pytest.raises(fnlib.DamagedHistory) as caught:
        history[1]
    assert says in str(caught.value) and "safetensors can't be read" in str(caught.value)
    assert history[2] == values[2]


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    for name in ("notes.txt", "1.safetensors", "model.safetensors", ".hidden"):
        (tmp_path / name).write_text("mine")
    values = trunk(3, 50)
    history = kept(tmp_path, values)
    history.prune([0, 1])
    assert history[2] == values[2] and (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(NotADirectoryError):
        fnlib.History(tmp_path / "notes.txt")


# --- what isn't a state ---------------------------------------------------------------------------


def append(path: Path, value: Any) -> None:
    fnlib.History(path).append(value)


def sparse() -> fnlib.Parameters:
    return functional_run(SPARSE, fnlib.SGD(lr=0.1, momentum=0.9), steps=2)[0]


def with_graph() -> fnlib.Parameters:
    bias = torch.ones(3, requires_grad=True) * 2
    return states(1)[0].replace(weights={"0.bias": bias})


REFUSED: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "a module": (lambda p: append(p, nn.Linear(1, 1)), fnlib.WrongHistory, "A history keeps parameters: got Linear"),
    "empty": (lambda p: append(p, fnlib.Parameters()), fnlib.EmptyParameters, "can't be appended"),
    "every=0": (lambda p: fnlib.History(p, every=0), fnlib.WrongHistory, "positive integer: got 0"),
    "every=True": (lambda p: fnlib.History(p, every=True), fnlib.WrongHistory, "got True"),
    "step=3": (lambda p: fnlib.History(p, step=3), fnlib.WrongHistory, r"function of \(parameters, i\): got int"),
    "no step": (lambda p: fnlib.History(p).verify(), fnlib.WrongHistory, "this history was opened without one"),
    "sparse": (lambda p: append(p, sparse()), fnlib.CannotStore, "sparse"),
    "a graph": (lambda p: append(p, with_graph()), fnlib.CarriesGraph, "be appended"),
}  # fmt: skip


@pytest.mark.parametrize("how", REFUSED)
def test_what_is_no_state_is_refused(how: str, tmp_path: Path) -> None:
    situation, kind, says = REFUSED[how]
    with pytest.raises(kind, match=says) as caught:
        situation(tmp_path / "run")
    assert type(caught.value) is kind
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert len(fnlib.History(tmp_path / "run")) == 0


def test_ties_are_stored_once(tmp_path: Path) -> None:
    value = fnlib.Factory(nets.Tied)(fnlib.Parameters(seed=0)).parameters
    found = kept(tmp_path, [value])[0]
    assert found == value and found.state_dict().keys() == value.state_dict().keys()
    with safe_open(tmp_path / "000000.safetensors", framework="pt") as file:
        assert len(file.keys()) == len(value)
        assert sorted(json.loads(file.metadata()["places"])["0"]) == sorted(file.keys())


def test_a_state_is_a_safetensors_file_as_safetensors_writes_it(tmp_path: Path) -> None:
    """The header says what safetensors' own would, and each tensor is aligned to its numbers."""
    kinds = [torch.float16, torch.bool, torch.bfloat16, torch.float64, torch.int32]
    start = fnlib.Parameters.from_module(nn.Linear(3, 1))
    module = nn.Module()
    for at, kind in enumerate(kinds):
        module.register_buffer(f"b{at}", torch.ones(3 + 2 * at).to(kind))
    module.weight = nn.Parameter(start["weight"])
    kept(tmp_path, [fnlib.Parameters.from_module(module)])
    path = tmp_path / "000000.safetensors"
    written, tensors = path.read_bytes(), load_file(path)
    size = int.from_bytes(written[:8], "little")
    said, own = json.loads(written[8 : 8 + size]), json.loads(_header_of(save(tensors)))
    assert said.pop("__metadata__") and size % 8 == 0 and len(own) == len(kinds) + 1
    for name, one in said.items():
        assert (one["dtype"], one["shape"]) == (own[name]["dtype"], own[name]["shape"])
        assert one["data_offsets"][0] % tensors[name].element_size() == 0
        begin, end = (8 + size + at for at in one["data_offsets"])
        assert written[begin:end] == bytes(tensors[name].view(torch.uint8).tolist())


def _header_of(written: bytes) -> bytes:
    return written[8 : 8 + int.from_bytes(written[:8], "little")]
