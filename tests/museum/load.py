"""Load a loop from its file, and run it under a ledger that finds by itself what there is to watch."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import fnlib

ROOT = Path(__file__).resolve().parents[2]
CORRECT = sorted((ROOT / "course" / "exhibits" / "correct").glob("*.py"))


def load(path: str | Path) -> ModuleType:
    """Import one file as a module of its own."""
    path = Path(path)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recorded(module: ModuleType, run: Callable[..., Any]) -> fnlib.Ledger:
    """Record a run of an exhibit; an error of the loop itself (a loud bug) is part of the recording."""
    things = module.setup()
    ledger = fnlib.Ledger(depth=3, only=(module.__file__,))
    code = compile("run(**things)", "<run>", "exec")
    with warnings.catch_warnings(), contextlib.suppress(RuntimeError):
        warnings.simplefilter("ignore")
        ledger.run(code, namespace={"run": run, "things": things})
    assert ledger.failure is None, f"the recording broke off: {ledger.failure!r}"
    assert not ledger.faults, ledger.faults
    return ledger


def standing(module: ModuleType, run: Callable[..., Any]) -> dict[str, Any]:
    """The variables of an exhibit's function at the moment when it returns."""
    found: dict[str, Any] = {}

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        if event == "return" and frame.f_code is run.__code__:
            found.update(frame.f_locals)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        run(**module.setup())
    except RuntimeError:
        pass
    finally:
        sys.setprofile(before)
    return found
