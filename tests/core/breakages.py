"""Ways to break a promise on purpose: a function of the package is replaced wherever it has been imported.

A breakage names a function by its path (`fnlib.Parameters.__getitem__`) and says what takes its place, so
it survives every change inside the function. Each is applied in a child process that ends afterwards.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import itertools
import sys
import types
from collections.abc import Callable
from typing import Any

Function = Callable[..., Any]
Make = Callable[[Function], Any]  # from what was there to what takes its place

_numbers = itertools.count()


@dataclasses.dataclass(frozen=True)
class Breakage:
    """Something to break.

    Args:
        paths: the functions that it names.
        apply: breaks them, in the process that calls it.
    """

    paths: tuple[str, ...]
    apply: Callable[[], None]


def find(path: str) -> tuple[Any, str]:
    """Return what holds the function of a path, and the function's name there."""
    parts = path.split(".")
    holder: Any = importlib.import_module(parts[0])
    for i, part in enumerate(parts[1:-1], 2):
        try:
            holder = getattr(holder, part)
        except AttributeError:
            holder = importlib.import_module(".".join(parts[:i]))
    inspect.getattr_static(holder, parts[-1])  # raises where there is none
    return holder, parts[-1]


def swap(path: str, make: Make) -> Breakage:
    """Put another function in the place of one."""

    def apply() -> None:
        holder, name = find(path)
        held = inspect.getattr_static(holder, name)
        function = getattr(held, "__func__", getattr(held, "fget", held))
        if isinstance(function, types.FunctionType):
            _redirect(function, make)
        else:  # of C, or no function at all
            old = getattr(holder, name)
            new = make(old)
            setattr(holder, name, new)
            for module in [
                module for key, module in sys.modules.items() if key.startswith("fnlib")
            ]:
                for imported in [key for key, value in vars(module).items() if value is old]:
                    setattr(module, imported, new)

    return Breakage((path,), apply)


def _redirect(function: types.FunctionType, make: Make) -> None:
    """Change what a function object runs, so that whoever imported it runs it too."""
    original = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    original.__kwdefaults__ = function.__kwdefaults__
    name = f"_breakage_{next(_numbers)}"
    function.__globals__[name] = make(original)
    function.__defaults__ = function.__kwdefaults__ = None
    made: dict[str, Any] = {}
    exec(f"def call(*args, **kwargs): return {name}(*args, **kwargs)", made)
    cells = function.__code__.co_freevars  # a method that uses super() has one
    function.__code__ = made["call"].__code__.replace(co_freevars=cells)


def within(outer: str, inner: str, make: Make) -> Breakage:
    """Put another function in the place of one, only while another one runs."""
    running = [0]

    def inside(old: Function) -> Function:
        def run(*args: Any, **kwargs: Any) -> Any:
            running[0] += 1
            try:
                return old(*args, **kwargs)
            finally:
                running[0] -= 1

        return run

    def choose(old: Function) -> Function:
        new = make(old)
        return lambda *args, **kwargs: (new if running[0] else old)(*args, **kwargs)

    return together(swap(inner, choose), swap(outer, inside))


def unrefused(path: str, error: str, otherwise: Function) -> Breakage:
    """Let a function return something where it raises an error of fnlib."""

    def make(old: Function) -> Function:
        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                return old(*args, **kwargs)
            except getattr(importlib.import_module("fnlib.errors"), error):
                return otherwise(*args, **kwargs)

        return run

    return swap(path, make)


def unexplained(path: str) -> Breakage:
    """Let a function raise what its named error was made from."""

    def make(old: Function) -> Function:
        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                return old(*args, **kwargs)
            except Exception as error:
                raise (error.__cause__ or error) from None

        return run

    return swap(path, make)


def result(path: str, change: Function) -> Breakage:
    """Change what a function returns."""
    return swap(path, lambda old: lambda *args, **kwargs: change(old(*args, **kwargs)))


def together(*breakages: Breakage) -> Breakage:
    """Break several things at once."""

    def apply() -> None:
        for breakage in breakages:
            breakage.apply()

    return Breakage(tuple(path for breakage in breakages for path in breakage.paths), apply)
