"""``python -m fnlib doctor train.py [arguments]``."""

from __future__ import annotations

import sys

from fnlib.history import main as verify
from fnlib.ledger.doctor.script import main as doctor


def main() -> int:
    """Run a command of the kit."""
    if sys.argv[1:2] == ["doctor"]:
        return doctor(sys.argv[2:])
    if sys.argv[1:2] == ["verify"]:
        return verify(sys.argv[2:])
    print(
        "usage: python -m fnlib doctor [--strict] [--all] [--steps N] [--seconds S] "
        "script.py [arguments]\n"
        "       python -m fnlib verify RUN --step module:function",
        file=sys.stderr,
    )
    return 2


if __name__ == "__main__":
    sys.exit(main())
