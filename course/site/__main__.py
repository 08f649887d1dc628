"""Build the site from what is in the repository; no network is needed, neither to build it nor to read it.

    python -m course.site                run the notebooks, then write build/site/index.html
    python -m course.site --as-stored    take the outputs that are stored in the notebooks: quick, without pictures

Prints a table of seconds and peak memory of the lessons. Fails if a lesson fails or takes more memory than it may, if a
picture has no alternative text, or if Sphinx warns, a broken link among its warnings. A slow machine is no failure.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from course import editions
from course.execute import MEGABYTES, SECONDS
from course.site import notebooks, sources
from fnlib.teaching.notebook import ROOT

OUT = ROOT / "build" / "site"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 if every page is sound."""
    from tqdm import tqdm

    parser = argparse.ArgumentParser(
        prog="python -m course.site", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write to")
    parser.add_argument("--as-stored", action="store_true", help="do not run the notebooks")
    options = parser.parse_args(arguments)
    paths = [*editions.sources(), *editions.rooms()]
    work = notebooks.stored if options.as_stored else notebooks.execute
    done = list(tqdm(work(paths), total=len(paths), unit="notebook", leave=False, disable=None))
    done.sort(key=lambda one: paths.index(one.path))
    faults = [fault for one in done for fault in one.faults]
    if not options.as_stored:
        print(
            f"budget of a lesson: {SECONDS:.0f} s, {MEGABYTES:.0f} MB",
            *(one.row for one in done),
            sep="\n",
        )
    source = options.out.parent / f"{options.out.name}-source"
    sources.write(source, done)
    shutil.rmtree(options.out, ignore_errors=True)
    status = subprocess.call(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-j", "2", "-b", "html",
         "-d", str(source / ".doctrees"), str(source), str(options.out)],
        cwd=ROOT,
    )  # fmt: skip
    print("\n".join(faults) or f"The site is in {options.out}: open index.html.")
    return 1 if faults or status else 0


if __name__ == "__main__":
    sys.exit(main())
