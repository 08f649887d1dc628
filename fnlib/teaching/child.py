"""Run a function of a notebook in a Python process of its own."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import numpy as np

# The program: the functions, whose annotations may name what only the notebook imports; below them
# the arguments are read, the function is called, and its result is written.
_FIRST = "from __future__ import annotations\n\n"
_LAST = 'numpy.save("result.npy", numpy.asarray(_result))\n'
_CALL = """

import numpy

_arguments = {}
with numpy.load("arguments.npz") as _file:
    for _key in _file.files:
        _index, _, _name = _key.partition("/")
        if _name:
            _arguments.setdefault(int(_index), {})[_name] = _file[_key]
        else:
            _arguments[int(_index)] = _file[_key]
"""

# How a process reports an exception; a chained one led to the exception below it.
_RANK = re.compile(r"^\[rank\d+\]: ?", re.MULTILINE)
_TRACEBACK = "Traceback (most recent call last):\n"
_CHAINED = re.compile(
    r"^(?:During handling of the above exception, another exception occurred"
    r"|The above exception was the direct cause of the following exception):$",
    re.MULTILINE,
)


def in_subprocess(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function in another Python process, which ends with its memory.

    The process gets the source of the function and of the functions it calls, and its arguments in
    an ``.npz`` file. It knows nothing else of the notebook, so each function imports what it needs.
    What it prints appears here.

    Args:
        function: a function defined in a cell or a file.
        arguments: arrays, CPU tensors or numbers, or dictionaries of them by name. They arrive as
            NumPy arrays.

    Returns:
        What the function returned, a number or a list of numbers.

    Raises:
        RuntimeError: the function raised; the message has its line and its error.

    Examples:
        >>> def total(weights, factor):
        ...     print(type(weights["bias"]).__name__)
        ...     return [weights["bias"].sum() * factor]
        >>> in_subprocess(total, {"bias": [1.0, 2.0]}, 10)
        ndarray
        [30.0]
    """
    program = "\n\n".join(textwrap.dedent(inspect.getsource(part)) for part in _needed(function))
    call = f"_result = {function.__name__}(*(_arguments[_i] for _i in sorted(_arguments)))"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        np.savez(folder / "arguments.npz", **dict(_flat(arguments)))
        (folder / "program.py").write_text(
            f"{_FIRST}{program}{_CALL}{call}\n{_LAST}", encoding="utf-8"
        )
        ran = subprocess.run(
            [sys.executable, "program.py"],
            cwd=folder,
            # JAX would take most of a GPU's memory for these small arrays
            env={"JAX_PLATFORMS": "cpu"} | os.environ | {"PYTHONUTF8": "1"},
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        print(ran.stdout, end="")
        if ran.returncode:
            raise RuntimeError(_told(ran.stderr))
        return np.load(folder / "result.npy").tolist()


def error_in(stderr: str) -> str:
    """Find the error that stopped a Python process, or the first of several.

    Args:
        stderr: what the processes wrote there; `torchrun` begins a rank's lines with `[rank0]: `.

    Returns:
        The first line of the exception, with its class, or "" if there's no traceback.

    Examples:
        >>> error_in("[rank1]: Traceback (most recent call last):\\n[rank1]: KeyError: 'a'\\n")
        "KeyError: 'a'"
    """
    for block in _RANK.sub("", stderr).split(_TRACEBACK)[1:]:
        if not _CHAINED.search(block):
            return next((line for line in block.splitlines() if line[:1].strip()), "")
    return ""


def _flat(arguments: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    for index, argument in enumerate(arguments):
        if isinstance(argument, Mapping):
            for name, part in argument.items():
                yield f"{index}/{name}", np.asarray(part)
        else:
            yield str(index), np.asarray(argument)


def _needed(function: Any) -> list[Any]:
    """The function and the functions of the same module that it calls, each once."""
    found = [function]
    for each in found:
        for name in _names(each.__code__):
            part = each.__globals__.get(name)
            same_module = getattr(part, "__module__", None) == function.__module__
            if isinstance(part, FunctionType) and same_module and part not in found:
                found.append(part)
    return found


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _told(stderr: str) -> str:
    """The line of the program that raised, and its error."""
    lines = stderr.strip().splitlines()
    places = [i for i, line in enumerate(lines) if 'program.py", line' in line]
    # the last line of the notebook's own functions; those of a library come below it
    where = f"`{lines[places[-1] + 1].strip()}` raised " if places else ""
    error = error_in(stderr) or (lines[-1] if lines else "no message")
    return f"In the other process, {where}{error}"
