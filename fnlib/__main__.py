"""The command line: ``fnlib doctor train.py``, ``fnlib explain CODE``, ``fnlib verify RUN``."""

from __future__ import annotations

import sys

from fnlib.history import main as verify
from fnlib.ledger.doctor.script import main as doctor
from fnlib.ledger.errors import UnknownCode
from fnlib.ledger.findings.texts import TEXTS
from fnlib.teaching.explain import explanation
from fnlib.version import __version__

USAGE = 2
HELP = """usage: fnlib doctor [--strict] [--all] [--steps N] [--seconds S] [--format text|json|sarif]
                    [--output FILE] script.py [arguments]
       fnlib explain [CODE ...]
       fnlib verify RUN --step module:function

doctor   run a training script, record its first steps and what is new later, and report silent bugs
explain  say what a finding means, why it matters and what to write; without a code, list them all
verify   replay a history of parameters, and say where it differs

`fnlib doctor --help` has the options. The same without the console script: python -m fnlib doctor ...
"""


def main(arguments: list[str] | None = None) -> int:
    """Run a command of the kit; returns its exit status.

    Args:
        arguments: the words after ``fnlib``; those of the process by default.
    """
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if command == "doctor":
        return doctor(rest)
    if command == "explain":
        return _explain(rest)
    if command == "verify":
        return verify(rest)
    if command in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if command == "--version":
        print(f"fnlib {__version__}")
        return 0
    wrong = f"fnlib: there is no command {command!r}\n\n" if command else ""
    print(f"{wrong}{HELP}", end="", file=sys.stderr)
    return USAGE


def _explain(codes: list[str]) -> int:
    if {"-h", "--help"} & {*codes}:
        print("usage: fnlib explain [CODE ...]\n\nWithout a code, it lists them all.")
        return 0
    if not codes:
        print("\n".join(TEXTS))
        return 0
    try:
        pages = [explanation(code) for code in codes]
    except UnknownCode as error:
        print(f"fnlib explain: {error}", file=sys.stderr)
        return USAGE
    print("\n\n\n".join(pages))
    return 0


if __name__ == "__main__":
    sys.exit(main())
