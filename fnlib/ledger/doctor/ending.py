"""A look at a script's end: is what it restores a snapshot, or an alias of the weights themselves?

The first steps don't show what follows the loop. When the script has ended, the variables of its
module still exist, and so do those of functions that were running when the recording stopped. So
each ``model.load_state_dict(best)`` can be looked up: does `best` share memory with `model`?
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import FrameType
from typing import Any

from torch import Tensor, nn

from fnlib.ledger.doctor.standing import inspect, memory_of
from fnlib.ledger.entries import Finding
from fnlib.ledger.looks.watches import leaves
from fnlib.ledger.recording.names import values_along
from fnlib.ledger.recording.source import Path, _path, text_of

RESTORES = "load_state_dict"


def restores(frame: FrameType) -> bool:
    """Say whether a frame belongs to a function that restores something.

    Example:
        >>> import sys
        >>> restores(sys._getframe())
        False
    """
    return RESTORES in frame.f_code.co_names and frame.f_code.co_name != "<module>"


def restored_in_frame(frame: FrameType) -> list[Finding]:
    """Find what a function restores that is no snapshot, by the variables that it ended with.

    Args:
        frame: of a function that has ended, or runs still.

    Returns:
        A question for each ``model.load_state_dict(best)`` with `best` in the memory of `model`, with file and line.
    """
    code = frame.f_code
    for node in ast.walk(_tree(text_of(code.co_filename))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == code.co_name:
            if code.co_firstlineno in (node.lineno, *[one.lineno for one in node.decorator_list]):
                return list(
                    _restored(node, code.co_filename, dict(frame.f_locals), frame.f_globals)
                )
    return []


def restored_in_module(source: str, file: str, world: dict[str, Any]) -> list[Finding]:
    """Find what a script restores that is no snapshot, by the variables of its module.

    Args:
        source: of the script.
        file: its name.
        world: its variables.

    Returns:
        A question for each ``model.load_state_dict(best)`` with `best` in the memory of `model`, with file and line.
    """
    return list(_restored(_tree(source), file, {}, world))


def _tree(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):  # then the script has not run either
        return ast.Module([], [])


def _restored(
    tree: ast.AST, file: str, local: dict[str, Any], world: dict[str, Any]
) -> Iterator[Finding]:
    for call in ast.walk(tree):
        if not (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr == RESTORES
            and call.args
        ):
            continue
        model, kept = (
            _value(_path(node), local, world) for node in (call.func.value, call.args[0])
        )
        if (
            isinstance(model, nn.Module)
            and isinstance(kept, Mapping)
            and _of_its_memory(model, kept)
        ):
            label, name = ast.unparse(call.func.value), ast.unparse(call.args[0])
            for found in inspect({label: model, name: dict(kept)}):
                if found.code == "snapshot-shares-memory":
                    yield replace(found, file=file, line=call.lineno)


def _value(path: Path | None, local: dict[str, Any], world: dict[str, Any]) -> Any:
    """Return the value of a dotted name without calling anything; None if that can't be done."""
    found = list(values_along(path, local, world)) if path else []
    return found[-1] if path and len(found) == len(path) else None


def _of_its_memory(model: nn.Module, kept: Mapping[str, Any]) -> bool:
    own = {memory_of(weight) for weight in model.parameters()} - {0}
    return any(memory_of(leaf) in own for _, leaf in leaves("", kept) if isinstance(leaf, Tensor))
