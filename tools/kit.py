#!/usr/bin/env python3
"""The kit's commands: `python tools/kit.py lab` does what `make lab` does, on any system.

    lab        make the environment once, then open JupyterLab on the lessons
    test       the same environment, then every test there is, notebooks included
    quick      the tests of fnlib, the ledger and the doctor, without those that take long
    bench      whole training steps, stock and fnlib side by side
    site       run every complete lesson and write the site to build/site/
    student    write a folder of the course without answers, for a JupyterHub or a branch
    offline    write a folder that installs with the network cut
    links      fill in where the kit is published: links OWNER/REPO TAG
    map        write the README's table of lessons from the lessons

This file is read by whatever Python there is, so it keeps to syntax that Python 2 can parse too:
an old Python must get to the sentence that says so.
"""

from __future__ import print_function

import os
import subprocess
import sys

OLDEST, NEWEST = (3, 11), (3, 14)  # numpy's and torch's wheels: cp311 to cp314
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COMMANDS = ("lab", "test", "quick", "bench", "site", "student", "offline", "links", "map")


def supported(version):
    return OLDEST <= tuple(version[:2]) <= NEWEST


def another_python():
    """The command of a Python on this machine that can run the kit, or None."""
    names = ["python3.%d" % minor for minor in (12, 13, 11, 14)] + ["python3", "python"]
    candidates = [[name] for name in names]
    if os.name == "nt":
        candidates = [["py", "-3.%d" % minor] for minor in (12, 13, 11, 14)] + candidates
    for command in candidates:
        try:
            process = subprocess.Popen(
                command
                + ["-c", "import sys; print(sys.version_info[0] * 100 + sys.version_info[1])"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            found = process.communicate()[0].strip()
        except OSError:
            continue
        if process.returncode == 0 and found.isdigit() and supported(divmod(int(found), 100)):
            return command
    return None


def main(arguments):
    if not arguments or arguments[0] in ("help", "-h", "--help"):
        print(__doc__.split("\n\nThis file")[0])
        return 0
    if arguments[0] not in COMMANDS:
        print(
            "There is no command %s: choose one of %s; python tools/kit.py help says what each does."
            % (arguments[0], ", ".join(COMMANDS)),
            file=sys.stderr,
        )
        return 2
    if not supported(sys.version_info):
        command = another_python()
        if command is None:
            print(
                "This kit needs Python %d.%d to %d.%d and found only %d.%d (%s): install one from "
                "https://www.python.org/downloads/, or open the kit on Binder (the button in README.md)."
                % (OLDEST + NEWEST + tuple(sys.version_info[:2]) + (sys.executable,)),
                file=sys.stderr,
            )
            return 1
        return subprocess.call(command + [os.path.abspath(__file__)] + arguments)
    sys.path.insert(0, ROOT)
    from tools import commands  # only now: these files use today's syntax

    return commands.run(arguments[0], arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
