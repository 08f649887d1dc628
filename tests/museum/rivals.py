"""Give the museum's exhibits to other tools, each used as it is meant to be, and print a table.

    python -m venv ENV && ENV/bin/pip install -r tests/museum/rivals.txt
    ENV/bin/python -m tests.museum.rivals

Every exhibit has a loop with its bug and one with its cure. A tool finds a bug if it says something of the loop with the bug
that it doesn't say of the cure. What a tool gets is what it asks for: a linter the text of the loop, a check of one batch
the model, the optimizer and a batch after the loop has run, a hook the loop while it runs.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from fnlib.teaching.museum import EXHIBITS, Exhibit
from tests.museum.load import load, recorded, standing

Run = Callable[..., Any]
Tool = Callable[[Exhibit, ModuleType, str], set[str] | None]  # None: it can't be given this loop


# --- what a tool is given --------------------------------------------------------------------------


def text(one: Exhibit, name: str) -> str:
    """Return the exhibit's file with only one of its two loops."""
    tree = ast.parse(Path(one.file).read_text(encoding="utf-8"))
    other = {"bug": "cure", "cure": "bug"}[name]
    left_out = (other, "harm")
    tree.body = [node for node in tree.body if getattr(node, "name", "") not in left_out]
    tree.body = [node for node in tree.body if not isinstance(node, ast.If)]
    return ast.unparse(tree)


def batch_in(found: dict[str, Any]) -> tuple[Tensor, Tensor] | None:
    """Return the first pair of inputs and targets in the variables of a loop."""
    for value in found.values():
        pair = value[0] if isinstance(value, list) and value else value
        if isinstance(pair, tuple) and len(pair) == 2:
            if all(isinstance(part, Tensor) for part in pair):
                return pair
    return None


def parts(module: ModuleType, name: str) -> tuple[Any, ...] | None:
    """Run a loop; return its model, optimizer, batch and loss, or None where one is missing."""
    found = standing(module, getattr(module, name))
    models = [one for one in found.values() if isinstance(one, nn.Module)]
    models = [one for one in models if any(True for _ in one.parameters())]
    optimizers = [one for one in found.values() if isinstance(one, torch.optim.Optimizer)]
    model = found.get("model", models[0] if models else None)
    optimizer = found.get("optimizer", optimizers[0] if optimizers else None)
    batch = batch_in(found)
    if not isinstance(model, nn.Module) or optimizer is None or batch is None:
        return None
    loss = nn.functional.mse_loss if batch[1].is_floating_point() else nn.functional.cross_entropy
    return model, optimizer, batch, loss


# --- the tools -------------------------------------------------------------------------------------


def torchtest2(one: Exhibit, module: ModuleType, name: str) -> set[str] | None:
    from torchtest2 import check_model

    given = parts(module, name)
    if given is None:
        return None
    model, optimizer, (inputs, targets), loss = given
    report = check_model(model, inputs, targets, loss_fn=loss, optimizer=optimizer)
    return {
        check.name
        for check in report.results
        if str(check.status).lower().endswith(("fail", "warn"))
    }


def guardtower(one: Exhibit, module: ModuleType, name: str) -> set[str] | None:
    from guardtower import audit

    given = parts(module, name)
    if given is None:
        return None
    model, optimizer, (inputs, targets), loss = given
    report = audit(model, lambda: loss(model(inputs), targets), optimizer=optimizer)
    return {found.check for found in report.findings if found.severity.name in ("WARN", "ERROR")}


def torch_audit(one: Exhibit, module: ModuleType, name: str) -> set[str] | None:
    from torch_audit import autopatch

    things = module.setup()
    model = next((value for value in things.values() if isinstance(value, nn.Module)), None)
    optimizer = next(
        (value for value in things.values() if isinstance(value, torch.optim.Optimizer)), None
    )
    if model is None:
        return None
    with (
        contextlib.suppress(RuntimeError),
        autopatch(model, optimizer=optimizer, every_n_steps=1) as auditor,
    ):
        getattr(module, name)(**things)
    return {found.rule_id for found in auditor.finish().findings}


def mldoct(one: Exhibit, module: ModuleType, name: str) -> set[str] | None:
    from mldoctor.linter import lint_script

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "loop.py")
        path.write_text(text(one, name), encoding="utf-8")
        return {found["type"] for found in lint_script(str(path))[0]}


def torchfix(one: Exhibit, module: ModuleType, name: str) -> set[str] | None:
    return _torchfixed()[f"{name}_{one.code}"]


@functools.cache
def _torchfixed() -> dict[str, set[str]]:
    """Run TorchFix once over the texts of all loops."""
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, set[str]] = {}
        for one in EXHIBITS:
            for name in ("bug", "cure") if not one.functional else ():
                found[f"{name}_{one.code}"] = set()
                path = Path(folder, f"{name}_{one.code}.py")
                path.write_text(text(one, name), encoding="utf-8")
        command = [sys.executable, "-m", "torchfix", "--select=ALL", folder]
        done = subprocess.run(command, capture_output=True, text=True)
        for stem, code in re.findall(r"(\w+)\.py:\d+:\d+: (TOR\d+)", done.stdout):
            found[stem].add(code)
        return found


def ledger(one: Exhibit, module: ModuleType, name: str) -> set[str] | None:
    return {found.code for found in recorded(module, getattr(module, name)).findings}


TOOLS: dict[str, tuple[Tool, str, str]] = {
    "fnlib": (ledger, "the recorded loop", "what changed the state of a training loop, and where"),
    "torchtest2": (torchtest2, "model, optimizer, batch", "a model on one batch, before training"),
    "guardtower": (guardtower, "model, optimizer, step", "one step of fine-tuning: LoRA, DDP, NaN"),
    "torch-audit": (torch_audit, "the loop, by hooks", "data, layers, gradients and hardware"),
    "mldoct": (mldoct, "the text", "habits of a training script"),
    "TorchFix": (torchfix, "the text", "deprecated and misused functions of PyTorch"),
}


def quietly(tool: Tool, one: Exhibit, name: str) -> set[str] | str | None:
    """Run a tool; returns the error where it breaks off."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            return tool(one, load(one.file), name)
        except Exception as error:
            return f"{type(error).__name__}: {error}"


def main(names: list[str]) -> None:
    """Print what each tool finds, and a row for each of them."""
    exhibits = [one for one in EXHIBITS if not one.functional]
    print(f"{len(exhibits)} exhibits, PyTorch {torch.__version__}")
    for label, (tool, given, purpose) in TOOLS.items():
        if names and label not in names:
            continue
        found, alarms, unfit, broken = [], [], [], []
        for one in exhibits:
            sick, well = quietly(tool, one, "bug"), quietly(tool, one, "cure")
            if isinstance(sick, str) or isinstance(well, str):
                broken.append(f"{one.code} ({sick if isinstance(sick, str) else well})"[:120])
            elif sick is None or well is None:
                unfit.append(one.code)
            else:
                if sick - well:
                    found.append(one.code)
                if well:
                    alarms.append(one.code)
        number = "this tree" if label == "fnlib" else version(label)
        print(
            f"| {label} {number} | {purpose} | {given} | {len(found)} | {len(alarms)} "
            f"| {len(unfit)} | {len(broken)} |",
            flush=True,
        )
        if label != "fnlib":
            print(f"    found: {', '.join(found)}")
        for line in broken[:3]:
            print(f"    broke off: {line}")


if __name__ == "__main__":
    main(sys.argv[1:])
