"""A crash at any point loses at most the state being written; a full disk loses none."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fnlib
from fnlib.values import store
from tests.history.runs import CALLS, in_child, intercept, kept, killed_at, states, step, trunk

resource = pytest.importorskip("resource")  # Windows has neither this nor fork
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
VALUES = [*trunk(3, 300), *trunk(2, 200)]


def first(path: Path) -> None:
    fnlib.History(path / "deep" / "run").append(VALUES[0])


def fourth(path: Path) -> None:
    history = fnlib.History(path / "deep" / "run")
    history.append(VALUES[3])


def several(path: Path) -> None:
    with fnlib.History(path / "deep" / "run", every=2) as history:
        for value in VALUES[3:]:
            history.append(value)


def branch(path: Path) -> None:
    fnlib.History(path / "deep" / "run").branch(1, path / "branch")


def prune(path: Path) -> None:
    fnlib.History(path / "deep" / "run").prune([0, 1])


SCENES: dict[str, tuple[Callable[[Path], None], int]] = {
    "the first append": (first, 0),
    "an append": (fourth, 3),
    "every second, then close": (several, 3),
    "a branch": (branch, 3),
    "a prune": (prune, 3),
}


@pytest.mark.parametrize("scene", SCENES)
def test_killed_before_each_call_to_the_system(scene: str, tmp_path: Path) -> None:
    """SIGKILL at every stage: what was there is there, and the run can go on at once."""
    act, before = SCENES[scene]
    call, killed = 0, True
    while killed:
        path = tmp_path / str(call)
        if before:
            kept(path / "deep" / "run", VALUES[:before])
        killed = killed_at(call, lambda path=path: act(path))
        history = fnlib.History(path / "deep" / "run")
        assert before <= len(history) <= before + (2 if act is several else 1)
        for index in history._store.indices:
            assert history[index] == VALUES[index]
        if act is prune:
            assert history[2] == VALUES[2]
        if (path / "branch").exists():
            assert list(fnlib.History(path / "branch")) == VALUES[:2]
        while len(history) < 5:
            history.append(VALUES[len(history)])
        stored = [i for i in history._store.indices if i > 1]  # not all, if every was 2
        assert [history[i] for i in stored] == [VALUES[i] for i in stored]
        assert stored[0] == 2 and stored[-1] == 4
        history.prune([2])  # reads every header
        assert history[4] == VALUES[4]
        history.branch(4, path / "after")
        history.close()
        shutil.rmtree(path)
        call += 1
    assert call > 8, "each stage was tried"


def test_a_killed_run_resumes_with_the_same_bits(tmp_path: Path) -> None:
    expected = states(8)

    def child() -> None:
        history = fnlib.History(tmp_path)
        history.append(states(1)[0])
        while True:
            history.append(step(history[-1], len(history) - 1))
            if len(history) == 5:
                os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(child) == -signal.SIGKILL
    history = fnlib.History(tmp_path)
    assert len(history) == 5
    while len(history) < 8:
        history.append(step(history[-1], len(history) - 1))
    assert list(history) == expected


def recorded(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> list[tuple[str, str]]:
    """List the calls to the system with the file that each is about."""
    calls: list[tuple[str, str]] = []
    opened: dict[int, str] = {}
    written = ""  # the file that `open` opened, of which `os` isn't told
    originals = {name: getattr(os, name) for name in CALLS}

    def wrapped(name: str) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            about = opened.get(args[0], written) if isinstance(args[0], int) else os.fspath(args[0])
            calls.append((name, os.path.basename(about)))
            found = originals[name](*args, **kwargs)
            if name == "open":
                opened[found] = os.fspath(args[0])
            elif name == "close":
                opened.pop(args[0], None)
            return found

        return wrapper

    write = store.written

    def write_whole(path: Path, *rest: Any) -> None:
        nonlocal written
        written = os.fspath(path)
        calls.append(("write", path.name))
        write(path, *rest)

    with monkeypatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, wrapped(name))
        patch.setattr(store, "written", write_whole)
        act()
    return [call for call in calls if call[0] not in ("open", "close")]


WRITE = [("write", "part"), ("fsync", "part"), ("replace", "part"), ("fsync", "run")]


def test_bytes_are_on_disk_before_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Write, fsync, rename, fsync of the folder, in this order: what a power loss needs."""
    history = fnlib.History(tmp_path / "new" / "run")
    calls = recorded(monkeypatch, lambda: history.append(VALUES[0]))
    assert calls[:4] == [("mkdir", "run"), ("mkdir", "new"), ("mkdir", "run"), ("fsync", "new")]
    assert calls[4] == ("fsync", tmp_path.name) and calls[-4:] == WRITE
    assert recorded(monkeypatch, lambda: history.append(VALUES[1])) == WRITE
    # A tensor is safe under its new name before its old one goes.
    calls = recorded(monkeypatch, lambda: history.prune([0]))
    assert calls == [*WRITE, ("unlink", "000000.safetensors"), ("fsync", "run")]
    calls = recorded(monkeypatch, lambda: history.branch(1, tmp_path / "b"))
    names = [name for name, _ in calls]
    assert names.index("link") < names.index("rename") and calls[-1] == ("fsync", tmp_path.name)
    assert names[names.index("rename") - 1] == "fsync"


def full(name: str, number: int) -> Callable[[str, tuple[Any, ...]], None]:
    """Make the n-th call of a name fail, as on a full disk."""
    seen = 0

    def before(call: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        if call == name:
            seen += 1
            if seen == number:
                raise OSError(errno.ENOSPC, "No space left on device")

    return before


@pytest.mark.parametrize(
    ("name", "number"),
    [("written", 1), ("written", 2), ("fsync", 1), ("fsync", 2), ("replace", 1)],
)
def test_a_full_disk_is_a_named_error(name: str, number: int, tmp_path: Path) -> None:
    """Nothing is lost, and the same append works once there is room."""

    def child() -> None:
        history = kept(tmp_path, VALUES[:3])
        history.prune([])  # takes the lock
        intercept(full(name, number))
        with pytest.raises(fnlib.StateNotWritten, match="No space left on device") as caught:
            history.append(VALUES[3])
        assert isinstance(caught.value, OSError) and "000003" in str(caught.value)
        assert list(history) == VALUES[:3] and not (tmp_path / "part").exists()
        history.append(VALUES[3])
        history.append(VALUES[4])
        assert list(history) == VALUES

    assert in_child(child) == 0
    assert list(fnlib.History(tmp_path)) == VALUES


def test_what_a_killed_writer_leaves_is_removed(tmp_path: Path) -> None:
    """A file of safetensors' own; and what is written has the rights of an ordinary file."""
    history = kept(tmp_path, VALUES[:2])
    history.close()
    (tmp_path / ".tmpAb12Cd").write_bytes(b"half")
    assert list(fnlib.History(tmp_path)) == VALUES[:2] and (tmp_path / ".tmpAb12Cd").exists()
    with fnlib.History(tmp_path) as history:
        history.append(VALUES[2])
    assert not (tmp_path / ".tmpAb12Cd").exists()
    (tmp_path / "ordinary").write_bytes(b"")
    assert {path.stat().st_mode for path in tmp_path.iterdir()} == {
        (tmp_path / "ordinary").stat().st_mode
    }


def test_a_limit_of_the_system_is_a_named_error(tmp_path: Path) -> None:
    """The real thing: the kernel refuses to make the file larger."""
    large = trunk(2, 50_000)

    def child() -> None:
        history = kept(tmp_path, VALUES[:1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        with pytest.raises(fnlib.StateNotWritten, match="couldn't be written: .*too large"):
            history.append(large[0])
        history.append(VALUES[1])
        assert history[1] == VALUES[1]

    assert in_child(child) == 0
    assert list(fnlib.History(tmp_path)) == VALUES[:2]


def test_a_folder_that_cannot_be_made_is_a_named_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(fnlib.StateNotWritten, match="couldn't be written"):
        history = fnlib.History(tmp_path / "run")
        history._store.folder = tmp_path / "file" / "run"
        history.append(VALUES[0])
    if os.geteuid():  # nothing is closed to root
        tmp_path.chmod(0o500)
        with pytest.raises(fnlib.StateNotWritten, match="Permission denied"):
            fnlib.History(tmp_path / "run").append(VALUES[0])
        tmp_path.chmod(0o700)
