"""Small runs to keep, and the damage to do to them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import fnlib
from fnlib.values import store

ModelFactory = fnlib.Sequential(
    nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 2), optimizer=fnlib.Adam()
)


def step(parameters: fnlib.Parameters, i: int) -> fnlib.Parameters:
    """Take step i of a run that has everything: moments, buffers and dropout."""
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(i))
    model = ModelFactory(parameters, seed=5)
    output, buffers = model.with_buffers(x)
    return model.step(model.backward(output.square().mean()), buffers=buffers)


def states(count: int) -> list[fnlib.Parameters]:
    """Return the first states of the run."""
    found = [ModelFactory(fnlib.Parameters(seed=0)).parameters]
    while len(found) < count:
        found.append(step(found[-1], len(found) - 1))
    return found


def kept(path: Path, values: list[fnlib.Parameters], **settings: Any) -> fnlib.History:
    """Keep a run, and let others write to it."""
    with fnlib.History(path, **settings) as history:
        for value in values:
            history.append(value)
    return fnlib.History(path, **settings)


def trunk(count: int, size: int = 10_000) -> list[fnlib.Parameters]:
    """Return states that share a large weight and differ in a small one."""
    first = fnlib.Parameters.from_module(nn.Linear(size, 1))
    return [first.replace(weights={"bias": torch.tensor([float(i)])}) for i in range(count)]


CALLS = ("open", "write", "fsync", "replace", "rename", "link", "unlink", "mkdir", "close")


def intercept(before: Callable[[str, tuple[Any, ...]], None]) -> None:
    """Call a function before each call to the system; for a child process, which it is left in."""

    def wrapped(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            before(name, args)
            return call(*args, **kwargs)

        return wrapper

    for name in CALLS:
        setattr(os, name, wrapped(name, getattr(os, name)))

    write = store.written

    def written(path: Path, *rest: Any) -> None:
        write(path, *rest)
        whole = path.read_bytes()
        for size in (0, len(whole) // 2, len(whole) - 1):  # what a kill in the middle leaves
            path.write_bytes(whole[:size])
            before("written", (path,))
        path.write_bytes(whole)

    store.written = written


def in_child(function: Callable[[], object]) -> int:
    """Run a function in a child process and return its exit status, negative for a signal.

    A child of this process has loaded PyTorch already, so a hundred of them take seconds.
    """
    child = os.fork()
    if child == 0:
        status = 70
        try:
            function()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(call: int, function: Callable[[], object]) -> bool:
    """Run a function in a child that is killed before its n-th call; False if it has fewer."""
    count = 0

    def before(name: str, args: tuple[Any, ...]) -> None:
        nonlocal count
        if count == call:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    def child() -> None:
        intercept(before)
        function()

    status = in_child(child)
    assert status in (0, -signal.SIGKILL), f"the child failed by itself: {status}"
    return status != 0
