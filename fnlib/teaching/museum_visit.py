"""What the museum does with a loop: run it as written, record it, cure it, do its task in fnlib."""

from __future__ import annotations

import inspect
import re
import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

import fnlib
from fnlib.ledger.entries import Entry, Finding
from fnlib.ledger.views.rows import rows_of
from fnlib.ledger.views.view import View
from fnlib.teaching.museum import Exhibit, Today, exhibit, function_of, harm_of
from fnlib.teaching.museum_curves import PASSES, listening, side_by_side

Run = Callable[..., Any]
Setup = Callable[[], dict[str, Any]]
WIDTH = 100


def as_written(code: str, setup: Setup, bug: Run) -> None:
    """Run a loop as written, and show what its author sees.

    That is what PyTorch says, the losses, and what the loop returns. If the loss of a longer training shows the harm, a
    picture has it, as written and cured.

    Args:
        code: the exhibit, by its place or its code.
        setup: makes the loop's arguments.
        bug: the loop.

    Example:
        >>> from fnlib.teaching.museum import function_of
        >>> as_written("update_binds_a_name", *(function_of("update_binds_a_name", part) for part in ("setup", "bug")))
        It runs to the end, without an error or a warning.
        loss: 1.25, 1.11, 1.34, 0.86
        The same loop and its cure, each called once with the same data 30 times over:
        [Picture: Mean loss of each pass, two panels on one scale. As written: from 1.14 to 1.14. Cured: from 1.12 to 0.979.]
    """
    print(_seen(setup, bug)[1])
    picture = side_by_side(code, setup, bug) if exhibit(code).curve else None
    if picture is not None:
        from IPython.display import display

        epochs = "epochs" in inspect.signature(bug).parameters
        longer = f"epochs={PASSES}" if epochs else f"the same data {PASSES} times over"
        print(f"The same loop and its cure, each called once with {longer}:")
        display(picture)


def cured(code: str, setup: Setup, bug: Run, cure: Run) -> None:
    """Print a loop's rows, its finding, and the harm without and with the cure.

    Args:
        code: the exhibit, by its place or its code.
        setup: makes the loop's arguments.
        bug: the loop as it was written.
        cure: the loop as it should be.

    Raises:
        AssertionError: the ledger doesn't find what the museum's table says, or finds something in the cured loop.
    """
    one = exhibit(code)
    ledger, _ = record(setup, bug)
    rows = _table(_loop_of(ledger), ledger) if one.rows else _round_of(ledger, one)
    parts = [f"The code as written, in the ledger:\n{rows}"]
    if one.rows:
        parts.append(_wrapped(_shown(one, ledger)))
        parts += [_said(_found(ledger, one.finding))] if one.finding else []
    assert not record(setup, cure)[0].findings, "the cured loop is not in order"
    if one.harm is not None:
        harm, words = harm_of(code)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            measured = harm(bug), harm(cure)
        assert all(abs(a - b) <= 1e-3 * abs(b) for a, b in zip(measured, one.harm, strict=True)), (
            measured,
            one.harm,
        )
        parts.append(
            f"{_wrapped(words)}\n    as written {measured[0]:.4g}, cured {measured[1]:.4g}"
        )
    (loud, before), (quiet, after) = _seen(setup, bug), _seen(setup, cure)
    assert (loud, quiet) == (one.today, "silent"), (
        f"the table says that PyTorch is '{one.today}' here, and it '{loud}'"
    )
    parts.append("\n".join([_after("As written: ", before), _after("Cured:      ", after)]))
    print("\n\n".join(parts), end="\n\n")


def in_fnlib(code: str, show: Run, setup: Setup | None = None) -> None:
    """Do the same task in ``fnlib``, and print what happens to the bug.

    Args:
        code: the exhibit, by its place or its code.
        show: does the task; its docstring says what to see, and what it returns is what it measured.
        setup: makes its arguments, if it has any.

    Raises:
        AssertionError: what happens is not what the museum's table says.
    """
    one = exhibit(code)
    verdict = {"refused": "is refused by a named error"}.get(one.fnlib, one.fnlib)
    parts = [_wrapped(f"In fnlib it {verdict}. {one.because}")]
    ledger, measured = record(setup or dict, show)
    if one.fnlib == "refused":
        assert ledger.raised is not None, "the table says that this is refused"
        parts.append(_wrapped(ledger.raised).rstrip())
    else:
        assert ledger.raised is None, ledger.raised
        if one.functional:
            harm, words = harm_of(code)
            parts[0] += f"\n{_wrapped(words)}\n    in fnlib {harm(show):.4g}"
        elif said := _plain(measured):
            parts[0] += f"\n{show.__name__}() gives {said}"
        if one.fnlib == "can still be written":
            codes = dict.fromkeys(finding.code for finding in ledger.findings)
            parts += [row(ledger, each) for each in codes if one.functional or each == one.finding]
    print("\n\n".join(parts))


def from_the_museum(code: str) -> None:
    """Show an exhibit the way its room does.

    Args:
        code: the exhibit, by its place or its code.

    Example:
        >>> from_the_museum("rate_set_on_a_copy")  # doctest: +ELLIPSIS
        The code as written, in the ledger:
        ...
            as written 0.1, cured 0.025
        ...
    """
    setup, bug, cure = (function_of(code, part) for part in ("setup", "bug", "cure"))
    cured(code, setup, bug, cure)


def watch(run: Run) -> tuple[fnlib.Ledger, Any]:
    """Record a loop that takes no arguments.

    Args:
        run: the loop.

    Returns:
        The ledger, and what the loop returned.

    Example:
        >>> watch(lambda: 3)[1]
        3
    """
    torch.optim.SGD(
        [torch.zeros(1)], lr=1.0
    )  # the first optimizer imports a lot, slowly if recorded
    return record(dict, run)


def caught(code: str, run: Run) -> Any:
    """Record an exhibit's loop and print the row that has its finding.

    Args:
        code: the exhibit, by its place or its code.
        run: the loop, without arguments.

    Returns:
        What the loop returned.

    Raises:
        AssertionError: the ledger doesn't find what the museum's table says.
    """
    ledger, returned = watch(run)
    print(row(ledger, exhibit(code).finding))
    return returned


def record(setup: Setup, run: Run) -> tuple[fnlib.Ledger, Any]:
    """Record a loop under a ledger that finds by itself what there is to watch; an error of the loop is part of it.

    Returns:
        The ledger, and what the loop returned.
    """
    ledger, returned = fnlib.Ledger(depth=3), None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with ledger:
                returned = run(**setup())
        except (RuntimeError, fnlib.FnlibError):
            pass
    return ledger, returned


def row(ledger: fnlib.Ledger, code: str) -> str:
    """The ledger's row at which a finding stands, and the finding.

    Args:
        ledger: a recording.
        code: of the finding.

    Raises:
        AssertionError: there is no such finding.
    """
    finding = _found(ledger, code)
    return f"{_table(_at(ledger, finding), ledger)}\n\n{_said(finding)}"


def _found(ledger: fnlib.Ledger, code: str) -> Finding:
    found = [finding for finding in ledger.findings if finding.code == code]
    assert found, f"the ledger found {[finding.code for finding in ledger.findings]}, not {code}"
    return found[0]


def _at(ledger: fnlib.Ledger, finding: Finding) -> list[Entry]:
    return [
        entry for entry in ledger.walk() if (entry.line, entry.file) == (finding.line, finding.file)
    ]


def _said(finding: Finding) -> str:
    head = f"{finding.severity.upper()} {finding.code}, line {finding.line}, {finding.place}"
    return f"{head}\n{_wrapped(f'{finding.what} {finding.why}')}\n{textwrap.indent(finding.fix, '    ')}"


def _round_of(ledger: fnlib.Ledger, one: Exhibit) -> str:
    """The rows of the loop, with an arrow at the finding's, the note that they need, and the finding."""
    finding = _found(ledger, one.finding)
    at = _at(ledger, finding)
    loop = _loop_of(ledger, at)
    rows = loop if any(entry in loop for entry in at) else at
    table = _table(rows, ledger)
    if len({entry.line for entry in rows}) > 1:
        table = re.sub(
            rf"^ +(?={finding.line}  )",
            lambda spaces: ">" + spaces[0][1:],
            table,
            flags=re.MULTILINE,
        )
    return "\n\n".join([table, *([_wrapped(one.note)] if one.note else []), _said(finding)])


def _shown(one: Exhibit, ledger: fnlib.Ledger) -> str:
    """What the rows of a functional loop show, in a sentence that is held to the rows."""
    rows = one.rows
    shown = "\n".join(
        f"{row.code}\n" + "".join(f"  {cell.what}  {cell.done}  \n" for cell in row.cells)
        for row in rows_of([replace(entry, inside=()) for entry in _loop_of(ledger)])
    )
    assert rows is not None and rows.present in shown and rows.absent not in shown, (
        f"the rows do not show what is said of them:\n{shown}"
    )
    graphs = [
        change.note.split()[0]
        for entry in ledger.walk()
        for change in entry.changes
        if entry.function == "bug" and change.note
    ]
    if "{nodes}" in rows.says:
        assert graphs == sorted(set(graphs), key=int), f"the graph does not grow: {graphs}"
    said = rows.says.format(nodes=", ".join(graphs))
    if one.finding:
        return said
    assert not ledger.findings, f"the ledger found {[found.code for found in ledger.findings]}"
    return f"{said} The ledger has no finding for this one."


def _loop_of(ledger: fnlib.Ledger, at: Sequence[Entry] = ()) -> list[Entry]:
    """Return the statements of the loop and those in `at`, or all of `bug` if it has no loop."""
    inside = [
        entry for entry in ledger.walk() if entry.function == "bug" and entry.kind == "statement"
    ]
    if not any(entry.iterations for entry in inside):
        return inside
    return [entry for entry in inside if entry.iterations or entry in at]


def _table(entries: Sequence[Entry], ledger: fnlib.Ledger) -> str:
    """Rows of a recording without what lies inside them and without counts, as if the loop stood at module level."""
    least = min((entry.depth for entry in entries), default=0)
    shown = [
        # of an error its class alone: the text is shown below the table
        replace(
            entry,
            inside=(),
            depth=entry.depth - least,
            raised=entry.raised and entry.raised.partition(":")[0],
        )
        for entry in entries
    ]
    view = View(shown, "", ledger.watched)
    return str(view).split(f"\n{view.counts}")[0]


def _wrapped(text: str) -> str:
    """Text of at most ``WIDTH`` columns; lines that fit stay as they are, and a long comment goes on as a comment."""
    lines = []
    for line in text.splitlines():
        indent = f"{' ' * line.index('#')}# " if line.startswith("    ") and "#" in line else ""
        filled = textwrap.fill(
            line, WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
        )
        lines.append(filled if len(line) > WIDTH else line)
    return "\n".join(lines)


def _seen(setup: Setup, run: Run) -> tuple[Today, str]:
    """How loud PyTorch is, and what the author of a loop sees: the losses, and what the loop returns if that is a number."""
    loud: Today = "silent"
    returned = None
    said = "It runs to the end, without an error or a warning."
    with warnings.catch_warnings(record=True) as caught, listening() as losses:
        warnings.simplefilter("always")
        try:
            returned = run(**setup())
        except RuntimeError as error:
            loud, said = "raises", f"It raises RuntimeError: {_first(str(error))} ..."
    if caught:
        loud, said = (
            "warns",
            f"It runs to the end, with a warning: {_first(str(caught[0].message))} ...",
        )
    lines = [textwrap.fill(said, 86)]
    lines += [f"{name}: {_numbers(values)}" for name, values in losses.items() if loud != "raises"]
    if plain := _plain(returned):
        lines.append(f"It returns {plain}")
    return loud, "\n".join(lines)


def _numbers(values: list[float]) -> str:
    form = ".2f" if max(map(abs, values)) >= 0.1 else ".2g"
    return ", ".join(f"{value:{form}}" for value in values)


def _first(text: str) -> str:
    return text.split(". ")[0].split(": [")[0]


def _after(head: str, text: str) -> str:
    return head + textwrap.indent(text, " " * len(head)).strip()


def _plain(value: Any) -> str:
    """A value that can be read at a glance: numbers, and small containers of them; empty for anything else."""
    if isinstance(value, (bool, int, str)):
        return str(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        parts = [(_plain(key), _plain(each)) for key, each in value.items()]
        return (
            "{" + ", ".join(": ".join(pair) for pair in parts) + "}"
            if parts and all(all(pair) for pair in parts)
            else ""
        )
    if isinstance(value, (list, tuple, set)):
        inside = [
            f"[{_plain(each)}]" if isinstance(each, (list, tuple)) else _plain(each)
            for each in (sorted(value) if isinstance(value, set) else value)
        ]
        return ", ".join(inside) if inside and all(inside) else ""
    return ""
