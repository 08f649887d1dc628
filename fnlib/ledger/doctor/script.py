"""``python -m fnlib doctor train.py``: run a script as it is, record its first steps, and report.

The script runs as ``__main__`` with its own arguments, and nothing of PyTorch is patched: it is watched through the
interpreter's line events, and after the first steps it runs on alone. Its output, exit status and numbers are its own;
the report goes to stderr when it has ended.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import types
from types import TracebackType

from fnlib.ledger import Ledger
from fnlib.ledger.doctor.recording import ScriptRecorder
from fnlib.ledger.doctor.report import Report, beside
from fnlib.ledger.findings import find


def main(arguments: list[str]) -> int:
    """Run the command line; returns the exit status.

    Args:
        arguments: what stands after ``python -m fnlib doctor``.

    Returns:
        The script's own exit status if that is not 0; else 1 on a certain finding (with ``--strict``, on any), else 0.
    """
    options = _parser().parse_args(arguments)
    if not os.path.isfile(options.script):
        print(f"fnlib doctor: there is no file {options.script}", file=sys.stderr)
        return 2
    ledger, recorder, status = record(
        options.script, options.arguments, steps=options.steps, seconds=options.seconds
    )
    sys.stdout.flush()
    found = find(ledger.entries)
    known = {finding.code for finding in found}
    standing = beside(recorder.standing, ledger)
    if "snapshot-moved" in known:  # which says more than that it could
        standing = [one for one in standing if one.code != "snapshot-shares-memory"]
    report = Report([*found, *standing])
    if report:
        print(f"fnlib doctor: {report!r}\n{report.text()}", file=sys.stderr)
    if recorder.failure is not None:
        print(f"fnlib doctor: the recording broke off: {recorder.failure!r}", file=sys.stderr)
    elif recorder.stopped_early:
        print(
            f"fnlib doctor: stopped recording before the first optimizer.step(), as it had cost {options.seconds:g} s of processor time;"
            " --seconds gives it more",
            file=sys.stderr,
        )
    sick = report if options.strict else report.certain
    return status or int(bool(sick))


def record(
    script: str, arguments: list[str], *, steps: int = 100, seconds: float = 60.0
) -> tuple[Ledger, ScriptRecorder, int]:
    """Run a script as the main program and record its first steps.

    Args:
        script: its file.
        arguments: its own arguments.
        steps: optimizer steps to record.
        seconds: processor time that the recording may cost.

    Returns:
        The recording, its recorder (which has the findings on standing state), and the script's exit status.
    """
    ledger = Ledger()
    recorder = ScriptRecorder(ledger._keeper, steps=steps, seconds=seconds)
    ledger._recorder = recorder
    return ledger, recorder, _run(script, arguments, recorder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fnlib doctor",
        description="Run a training script, record its first steps, and report silent bugs with file and line.",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit with 1 on questions too, not only on certain findings",
    )
    parser.add_argument(
        "--steps", type=int, default=100, help="optimizer steps to record (default: 100)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=60.0,
        help="seconds of processor time that the recording may cost (default: 60)",
    )
    parser.add_argument("script", help="the script to run")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its own arguments")
    return parser


def _run(script: str, arguments: list[str], recorder: ScriptRecorder) -> int:
    """Run a file as the main program, recorded; returns its exit status."""
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
        recorder.start(None, inside_with=False)
        exec(code, module.__dict__)
    except BaseException as caught:  # the script's own end, however it ends
        error = caught
    finally:
        recorder.stop(error)
        recorder.ended(source.decode("utf-8", "replace"), script, module.__dict__)
        sys.modules["__main__"], sys.argv, sys.path = before
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        return _exit_status(error)
    _print_like_python(error)
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def _exit_status(error: SystemExit) -> int:
    """The status that Python makes of ``sys.exit(...)``."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code
    print(error.code, file=sys.stderr)
    return 1


def _print_like_python(error: BaseException) -> None:
    """Print the traceback as if the script had been run by Python itself."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    sys.stdout.flush()
    traceback.print_exception(type(error), error.with_traceback(trace), trace)
