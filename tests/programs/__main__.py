"""Run public training programs under the doctor, beside a plain run, and print a table.

    python -m tests.programs prepare            # once: their environment, in build/programs/venv
    python -m tests.programs run FOLDER         # all programs whose repository is in FOLDER
    python -m tests.programs run FOLDER gan     # those whose name contains "gan"
    python -m tests.programs traincheck FOLDER  # TrainCheck's silent errors, with and without their fault

FOLDER holds clones of the repositories that `programs.toml` names, each under its own name: the programs are
other people's and no copy of them is kept here. Each runs twice with stand-in data and the same seed, and the
table says whether output and exit status stayed the same, what the doctor found, and the processor time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from dataclasses import asdict
from pathlib import Path

from tests.programs import runner, traincheck
from tests.programs.runner import HERE, ROOT, VENV, line, prepare, run, stand_in, warm_up


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 1 where a program was disturbed or a recording lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.programs", description=__doc__)
    parser.add_argument("command", choices=["prepare", "run", "traincheck"])
    parser.add_argument("folder", nargs="?", type=Path, help="where the repositories are")
    parser.add_argument("names", nargs="*", help="only programs whose name contains one of these")
    parser.add_argument("--python", type=Path, default=VENV / "bin/python")
    parser.add_argument("--json", type=Path, help="write the rows to this file, too")
    parser.add_argument("--reports", type=Path, help="keep each report and what differs here")
    parser.add_argument("--kit", type=Path, default=ROOT, help="the tree whose fnlib is asked")
    parser.add_argument(
        "--warm", action="store_true", help="fork each run from a process that has imported PyTorch"
    )
    parser.add_argument("--doctor", default="", help="options of the doctor, as one string")
    options = parser.parse_args(arguments)
    if options.command == "prepare":
        prepare()
        return 0
    if options.folder is None:
        parser.error(f"{options.command} needs the folder of the repositories")
    runner.kit = options.kit.resolve()
    stand_in(options.python)
    if options.warm:
        warm_up(options.python, options.kit)
    if options.command == "traincheck":
        return traincheck.table(options.folder, options.names, options.python, options.reports)
    programs = tomllib.loads((HERE / "programs.toml").read_text())["program"]
    rows = []
    for program in programs:
        if options.names and not any(name in program["name"] for name in options.names):
            continue
        row = run(program, options.folder, options.python, options.doctor.split(), options.reports)
        if row is None:
            print(f"{program['name']}: {program['repository']} is not in {options.folder}")
            continue
        rows.append(row)
        print(line(row), flush=True)
        if options.json:
            options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    disturbed = [row.name for row in rows if not row.same_output or row.lost]
    print(
        f"{len(rows)} programs, {len(disturbed)} disturbed or lost: {', '.join(disturbed) or 'none'}"
    )
    certain = sum(one.startswith("CERTAIN") for row in rows for one in row.findings)
    print(
        f"{certain} certain findings, {sum(len(row.findings) for row in rows) - certain} questions"
    )
    return int(bool(disturbed))


if __name__ == "__main__":
    sys.exit(main())
