"""Whose code a frame runs, and trace functions that share a frame."""

from __future__ import annotations

import functools
import inspect
import json
import os
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator
from glob import escape, glob
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from urllib.parse import unquote, urlparse

import torch

from fnlib.torch_private import active_transform, never_compiled

Trace = Callable[[FrameType, str, Any], Any]
_INSTALLED = {"site-packages", "dist-packages"}  # parts of the path of an installed package
_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_EXHIBITS = os.path.join(_PACKAGE, "teaching", "content", "exhibits")  # a user's loops, to look at


class Users:
    """Tell the user's code from that of libraries, wherever these are installed.

    Args:
        only: folders or files; code elsewhere counts as a library's. Without any, all that is
            neither Python's, nor installed, nor fnlib's is the user's.
    """

    def __init__(self, only: tuple[str, ...] = ()) -> None:
        self.only = tuple(map(os.path.abspath, only))
        self._files: dict[str, bool] = {}

    def has(self, code: CodeType) -> bool:
        """Say whether code is the user's, no comprehension, and in no transform of torch.func."""
        if code.co_name.startswith("<") and code.co_name != "<module>":
            return False
        known = self._files.get(code.co_filename)
        if known is None:
            known = self._files[code.co_filename] = self._is_users(code.co_filename)
        return known and active_transform() is None

    def _is_users(self, name: str) -> bool:
        path = os.path.abspath(name)
        if _is_in(path, _EXHIBITS):
            return not self.only or any(_is_in(path, one) for one in self.only)
        if name.startswith("<frozen") or _INSTALLED.intersection(Path(path).parts):
            return False
        if self.only:  # not code without a file, whatever the folder in which the script is run
            return not name.startswith("<") and any(_is_in(path, one) for one in self.only)
        main = getattr(sys.modules.get("__main__"), "__file__", None) or ""
        return not any(_is_in(path, one) for one in libraries((*sys.path,), os.getcwd(), main))


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


@functools.lru_cache(maxsize=8)
def libraries(search: tuple[str, ...], here: str, script: str) -> frozenset[str]:
    """Return the folders of libraries: Python's, PyTorch's, fnlib's, and those of installed ones.

    Args:
        search: ``sys.path``.
        here: the working directory. It and the script's folder are the user's project, which may
            itself be an editable install.
        script: file of the main program, "" without one.
    """
    python = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    found = {_PACKAGE, os.path.dirname(os.path.abspath(torch.__file__)), *python}
    found.add(site.getusersitepackages())
    paths = [os.path.abspath(path) for path in search if path]
    # A folder with the metadata of packages is one that pip installs to (`--target`, PYTHONPATH).
    found.update(path for path in paths if glob(os.path.join(escape(path), "*.dist-info")))
    projects = [here, *([os.path.dirname(os.path.abspath(script))] if script else ())]
    for folder in {os.path.abspath(folder) for path in paths for folder in _linked_from(path)}:
        if not any(_is_in(one, folder) or _is_in(folder, one) for one in projects):
            found.add(folder)
    return frozenset(found)


def _linked_from(path: str) -> Iterator[str]:
    """Yield folders elsewhere that an install folder refers to: editable installs, .pth lines."""
    if not (_INSTALLED.intersection(Path(path).parts) and os.path.isdir(path)):
        return
    for name in glob(os.path.join(escape(path), "*.dist-info", "direct_url.json")):
        try:
            with open(name, encoding="utf-8") as file:
                origin = json.load(file)
            if origin.get("dir_info", {}).get("editable"):
                yield unquote(urlparse(origin["url"]).path)
        except (OSError, ValueError, KeyError, AttributeError):
            continue
    for name in glob(os.path.join(escape(path), "*.pth")):
        try:
            with open(name, encoding="utf-8", errors="replace") as file:
                lines = file.read().splitlines()
        except OSError:
            continue
        for line in lines:
            folder = os.path.join(path, line.strip())
            if line.strip() and not line.startswith(("#", "import ", "import\t")):
                if os.path.isdir(folder):
                    yield folder


class Outcome:
    """A local trace function that adds to a call's data whether it raised."""

    __slots__ = ("data",)

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Outcome:
        if event != "line":
            self.data["raised"] = event == "exception" or self.data["raised"]
        return self


def both(first: Trace | None, second: Trace | None) -> Trace | None:
    """Make one local trace function of two."""
    if first is None or second is None:
        return first or second
    held: list[Trace | None] = [first, second]

    def local(frame: FrameType, event: str, argument: Any) -> Any:
        held[:] = [None if one is None else one(frame, event, argument) for one in held]
        return local

    never_compiled(local)
    return local


def raised_text(error: object) -> str:
    """Return ``ValueError: its first line``."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def forget_locals(frame: FrameType) -> None:
    """Empty the copy of a function's variables that Python before 3.13 keeps for tracers."""
    if sys.version_info < (3, 13) and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        frame.f_locals.clear()
