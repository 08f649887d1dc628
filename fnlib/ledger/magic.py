"""``%%ledger model optimizer``: record a notebook cell, loops included.

``%load_ext fnlib.ledger`` makes it known, once in a notebook. IPython is not imported before.
"""

from __future__ import annotations

import ast
import shlex
from typing import Any

from fnlib.ledger.ledger import Ledger

_OPTIONS = ("depth", "keep", "into")


def load_ipython_extension(shell: Any) -> None:
    """Make ``%%ledger`` known to a shell; ``%load_ext fnlib.ledger`` calls this."""

    def ledger(line: str, cell: str) -> None:
        record_cell(shell, line, cell)

    ledger.__doc__ = record_cell.__doc__
    shell.register_magic_function(ledger, "cell", "ledger")


def record_cell(shell: Any, line: str, cell: str) -> Ledger:
    """Record which statement of this cell changes which state.

    %%ledger [NAME ...] [--depth N] [--keep] [--into NAME]

    NAME      objects to watch; without any, the modules, optimizers and schedulers that the cell names
    --depth   how many calls deep the statements of called functions are recorded too
    --keep    keep copies of the tensors
    --into    the variable that the recording is put into, "ledger" by default
    """
    names, options = _parse(line)
    namespace = shell.user_ns
    objects = {name: _find(name, namespace) for name in names}
    recording = Ledger(depth=int(options.get("depth", 0)), keep="keep" in options, **objects)
    namespace[options.get("into", "ledger")] = recording
    source = shell.transform_cell(cell)
    name = shell.compile.cache(source, shell.execution_count, raw_code=cell)
    tree = shell.transform_ast(ast.parse(source, name))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    code = [compile(tree, name, "exec")]
    if last is not None:
        code.append(
            compile(ast.Interactive([last]), name, "single")
        )  # shows its value, as a cell's last line does
    try:
        recording.run(*code, namespace=namespace)
    finally:
        _show(recording)
    return recording


def _parse(line: str) -> tuple[list[str], dict[str, str]]:
    """Names and options of a magic's line."""
    words, names, options = shlex.split(line.replace(",", " ")), [], {}
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            option, _, value = word[2:].partition("=")
            if option not in _OPTIONS:
                raise NameError(
                    f"%%ledger does not know --{option}; its options are --depth N, --keep and --into NAME"
                )
            options[option] = value or (words.pop(0) if option != "keep" and words else "")
        else:
            names.append(word)
    return names, options


def _find(name: str, namespace: dict[str, Any]) -> Any:
    """A variable of the notebook, or an attribute of one: ``self.model``."""
    first, *rest = name.split(".")
    if first not in namespace:
        raise NameError(
            f"%%ledger {name}: there is no variable {first} yet; run the cell that makes it first"
        )
    value = namespace[first]
    for part in rest:
        value = getattr(value, part)
    return value


def _show(recording: Ledger) -> None:
    from IPython.display import display

    display(recording)
