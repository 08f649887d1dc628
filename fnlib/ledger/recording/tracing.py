"""What following an interpreter's events needs: whose code it is, and trace functions that share a frame."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

import torch

Trace = Callable[[FrameType, str, Any], Any]
_FNLIB = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_EXHIBITS = os.path.join(_FNLIB, "teaching", "content", "exhibits")  # a user's loops, to look at
_LIBRARIES = tuple(
    {
        os.path.dirname(os.path.abspath(torch.__file__)),
        _FNLIB,
        *(sysconfig.get_path(p) for p in ("stdlib", "purelib", "platlib")),
    }
)


class Users:
    """Tells the user's code from that of libraries.

    Args:
        only: folders or files; code elsewhere counts as a library's. Without any, all that is neither Python's, nor installed,
            nor fnlib's.
    """

    def __init__(self, only: tuple[str, ...] = ()) -> None:
        self.only = only
        self._files: dict[str, bool] = {}

    def has(self, code: CodeType) -> bool:
        """Whether code is the user's, and not a comprehension, a lambda, or inside a transform of torch.func."""
        if code.co_name.startswith("<") and code.co_name != "<module>":
            return False
        known = self._files.get(code.co_filename)
        if known is None:
            path = os.path.abspath(code.co_filename)
            known = not code.co_filename.startswith("<frozen") and (
                path.startswith(_EXHIBITS) or not path.startswith(_LIBRARIES)
            )
            if self.only:  # not code without a file, whatever the folder in which the script is run
                known = (
                    known and not code.co_filename.startswith("<") and path.startswith(self.only)
                )
            self._files[code.co_filename] = known
        return known and not torch._C._functorch.peek_interpreter_stack()


class Outcome:
    """Local trace function that adds to a call's data whether it raised."""

    __slots__ = ("data",)

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Outcome:
        if event != "line":
            self.data["raised"] = event == "exception" or self.data["raised"]
        return self


def both(first: Trace | None, second: Trace | None) -> Trace | None:
    """One local trace function of two."""
    if first is None or second is None:
        return first or second
    held: list[Trace | None] = [first, second]

    def local(frame: FrameType, event: str, argument: Any) -> Any:
        held[:] = [None if one is None else one(frame, event, argument) for one in held]
        return local

    return local


def raised_text(error: object) -> str:
    """``ValueError: its first line``."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def forget_locals(frame: FrameType) -> None:
    """Empty the copy of a function's variables that Python before 3.13 keeps for tracers, so that it holds nothing alive."""
    optimized = 0x1
    if sys.version_info < (3, 13) and frame.f_code.co_flags & optimized:
        frame.f_locals.clear()
