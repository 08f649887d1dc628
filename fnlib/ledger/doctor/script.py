"""``fnlib doctor train.py``: run a script, record its first steps and what is new later, and report.

The script runs as ``__main__`` with its own arguments. Nothing of PyTorch is patched: the recording
uses the interpreter's line events, and after the first steps it waits for something new. The
script's output and numbers are unchanged. The report goes to stderr, or to a file, when the script has ended.
"""

from __future__ import annotations

import argparse
import io
import linecache
import os
import sys
import traceback
import types
from dataclasses import replace
from importlib.util import decode_source
from types import TracebackType

from fnlib.ledger import Ledger, RecordingFailed
from fnlib.ledger.doctor.formats import FORMATS, written
from fnlib.ledger.doctor.limits import ScriptLimits
from fnlib.ledger.doctor.report import Report, explained

USAGE, LITTLE = 2, 3  # exit statuses


def main(arguments: list[str]) -> int:
    """Run the command line; returns the exit status.

    Args:
        arguments: what follows ``fnlib doctor``.

    Returns:
        The script's own exit status if that is not 0. Else 1 on a certain finding (with
        ``--strict``, on any), 3 if no optimizer step was seen or the recording broke off, else 0.
        2 if the command line is wrong.
    """
    options = _parser().parse_args(arguments)
    root, wrong = os.getcwd(), _wrong(options)  # the script may change the working folder
    output = os.path.abspath(options.output) if options.output else ""
    if wrong:
        print(f"fnlib doctor: {wrong}", file=sys.stderr)
        return USAGE
    ledger, limits, status = record(
        options.script, options.arguments, steps=options.steps, seconds=options.seconds
    )
    report = report_on(ledger, limits)
    sys.stdout.flush()
    made = written(report, options.format, root=root, status=status, whole=options.all)
    if output:
        with open(output, "w", encoding="utf-8") as file:
            print(made, file=file)
        head = report.text().splitlines()[0]
        print(f"fnlib doctor: {head}\nfnlib doctor: wrote {output}", file=sys.stderr)
    else:
        print(made, file=sys.stderr)
    sick = bool(report if options.strict else report.certain)
    return status or (1 if sick else LITTLE if report.seen.little else 0)


def record(
    script: str, arguments: list[str], *, steps: int = 100, seconds: float = 24.0
) -> tuple[Ledger, ScriptLimits, int]:
    """Run a script as the main program; record its first steps, and what is new later.

    Args:
        script: its file.
        arguments: its own arguments.
        steps: optimizer steps to record in a row.
        seconds: processor time that the recording may cost.

    Returns:
        The recording, its limits (which have looked at the objects), and the exit status.
    """
    limits = ScriptLimits(steps=steps, seconds=seconds)
    ledger = Ledger(depth=50, limits=limits)
    with open(script, "rb") as file:
        source = file.read()
    module = types.ModuleType("__main__")
    module.__dict__.update(__file__=script, __builtins__=__builtins__, __cached__=None)
    before = sys.modules["__main__"], sys.argv, sys.path
    sys.modules["__main__"], sys.argv = module, [script, *arguments]
    sys.path = [os.path.dirname(os.path.abspath(script)), *sys.path[1:]]
    error: BaseException | None = None
    try:
        code = compile(source, script, "exec")
        lines = list(io.StringIO(decode_source(source)))  # the file or the folder may change
        linecache.cache[script] = len(source), None, lines, script
        ledger.run(code, namespace=module.__dict__)
    except BaseException as caught:  # the script's own end, however it ends
        error = None if isinstance(caught, RecordingFailed) and ledger.failure else caught
    finally:
        limits.ended(source.decode("utf-8", "replace"), script, module.__dict__)
        sys.modules["__main__"], sys.argv, sys.path = before
    status = _status(error)
    len(ledger.findings)  # they are found once, and read the script's text
    linecache.cache.pop(script, None)  # another script may have its name
    return ledger, limits, status


def report_on(ledger: Ledger, limits: ScriptLimits) -> Report:
    """Report what a recording of a script shows, and what it left out."""
    kinds = [event.kind for event in ledger.events]
    functional = kinds.count("functional step")
    entries = ledger.walk()
    left_out = limits.left_out
    if ledger.failure is not None:
        left_out.append(f"the recording broke off, with {ledger.failure!r}: a fault of fnlib")
    seen = replace(
        limits.objects, steps=limits.steps + functional, backwards=kinds.count("backward"),
        broken=ledger.failure is not None, left_out=(*left_out, *ledger.notes),
    )  # fmt: skip
    return Report(ledger.findings, explained(limits.standing, entries), seen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fnlib doctor",
        description="Run a training script, record its first steps and what is new later, and report silent bugs.",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit with 1 on questions too, not only on certain findings",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="write every finding in full, not only the first three",
    )
    parser.add_argument(
        "--steps", type=int, default=100, help="optimizer steps to record in a row (default: 100)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=24.0,
        help="seconds of processor time that the recording may cost (default: 24)",
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="text", help="of the report (default: text)"
    )
    parser.add_argument(
        "--output", metavar="FILE", help="write the report there (default: standard error)"
    )
    parser.add_argument("script", help="the script to run")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its own arguments")
    return parser


def _wrong(options: argparse.Namespace) -> str:
    """Say what keeps the command from running, before the script has run for an hour."""
    if not os.path.isfile(options.script):
        return f"there is no file {options.script}"
    if options.output:
        folder = os.path.dirname(os.path.abspath(options.output))
        if not os.path.isdir(folder):
            return f"--output {options.output}: there is no folder {folder}"
        if os.path.isdir(options.output) or not os.access(folder, os.W_OK):
            return f"--output {options.output} can't be written"
    return ""


def _status(error: BaseException | None) -> int:
    """Return the status that Python would exit with, and print what it would print."""
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        return _exit_status(error)
    _print_like_python(error)
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def _exit_status(error: SystemExit) -> int:
    """Return the status that Python makes of ``sys.exit(...)``."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code
    print(error.code, file=sys.stderr)
    return 1


def _print_like_python(error: BaseException) -> None:
    """Print the traceback as if Python itself had run the script."""
    trace: TracebackType | None = error.__traceback__
    ours = (__file__, Ledger.run.__code__.co_filename)
    while trace is not None and trace.tb_frame.f_code.co_filename in ours:
        trace = trace.tb_next
    sys.stdout.flush()
    traceback.print_exception(type(error), error.with_traceback(trace), trace)
