"""A small recording with each private name of PyTorch and Python taken away."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A row for each private name that the ledger reads, and what the recording loses without it.
NAMES: dict[str, str] = {
    "_is_cow_tensor": "",
    "_lazy_clone": "",
    "_cdata": "",
    "_data_address": "",
    "_dispatch_keys": "",
    "Python": "",
    "_indices": "",
    "_values": "",
    "is_functorch_wrapped_tensor": "",
    "peek_interpreter_stack": "",
    "DisableTorchFunction": "",
    "_InferenceMode": "",
    "_len_torch_dispatch_stack": "",
    "_disable_current_modes": "",
    "_get_sequence_nr": "graphs",
    "_sequence_nr": "graphs",
    "_saved_training": "",
    "profile_hook_step": "",
    "_initial_step": "first step",
    "_version": "",
    "_DropoutNd": "",
    "_NormBase": "",
    "_count": "",
    "_inst": "",
    "eval_frame": "",
}

# `getattr` is replaced for `fnlib.torch_private` alone: PyTorch itself goes on using its names.
PROGRAM = """
import builtins, os, sys, torch

def take_away(name):
    whole = getattr
    def without(thing, wanted, *default):
        if wanted == name and sys._getframe(1).f_globals.get("__name__") == "fnlib.torch_private":
            if default:
                return default[0]
            raise AttributeError(wanted)
        return whole(thing, wanted, *default)
    builtins.getattr = without

def record():
    import random
    from torch import nn
    import fnlib
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    scaler.scale(torch.ones(1))
    sparse = torch.sparse_coo_tensor([[0, 1]], [1.0, 2.0], (3,)).coalesce()
    x = torch.ones(4, 2)
    loose = torch.ones(1, requires_grad=True)
    plain = torch.optim.SGD([loose], lr=0.1)
    with fnlib.Ledger(model=model, optimizer=optimizer, scaler=scaler, sparse=sparse) as ledger:
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        for _ in range(2):
            optimizer.zero_grad()
            loss = model(x).sum()
            loss.backward()
            optimizer.step()
            scheduler.step()
        loose.sum().backward()
        plain.step()
        sparse.values().mul_(2)
        model.eval()
        random.random()
        scaler.update(3.0)
    assert ledger.failure is None and not ledger.faults, (ledger.failure, ledger.faults)
    found = set()
    for entry in ledger.entries:
        for change in entry.changes:
            if change.state not in ("graph", "name"):
                found.add((entry.line, change.owner, change.state, change.kind))
    calls = [(event.kind, event.subject) for event in ledger.events]
    graphs = sum(change.state == "graph" for entry in ledger.entries for change in entry.changes)
    return found, calls, graphs

def run(name):
    if name:
        take_away(name)
    return repr(record())
"""

FORKING = """
import sys
torch.optim.Adam([torch.zeros(1)])  # imports as much again of PyTorch, here once and not in each fork
answers = {}
for name in ("", *sys.argv[1:]):
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            answer = run(name)
        except BaseException as error:
            import traceback
            answer = "FAILED " + traceback.format_exc()
        with os.fdopen(write, "w") as pipe:
            pipe.write(answer)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        answers[name] = pipe.read()
    os.waitpid(child, 0)
print(repr(answers))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One process has imported PyTorch; each name is taken away in a fork of it."""
    script = (
        tmp_path_factory.mktemp("names") / "record.py"
    )  # a file, so that there are source lines
    script.write_text(PROGRAM + textwrap.dedent(FORKING))
    command = [sys.executable, str(script), *NAMES]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": "."}
    )
    assert done.returncode == 0, done.stderr
    return eval(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("name", NAMES)
def test_without_a_private_name(answers: dict[str, str], name: str) -> None:
    """What the recording shows stays, but for what nothing public tells."""
    assert not answers[name].startswith("FAILED"), answers[name]
    whole, part = eval(answers[""]), eval(answers[name])
    states = {state for _, _, state, _ in whole[0]}
    assert states >= {"weight", "gradient", "buffer", "optimizer state", "group entry", "mode flag"}
    assert whole[0] == part[0]
    extra = [("scheduler step", "(StepLR)"), ("scheduler step", "scheduler")]
    if NAMES[name] == "first step":
        assert [call for call in part[1] if call not in extra] == [
            call for call in whole[1] if call not in extra
        ]
    else:
        assert part[1] == whole[1]
    assert whole[2] == 4 and part[2] == (0 if NAMES[name] == "graphs" else 4)


def test_the_table_is_whole() -> None:
    """Every private name that `torch_private` looks up in the ledger's part is in the table."""
    source = (ROOT / "fnlib" / "torch_private.py").read_text()
    first = source[: source.index("# --- ledger")].count("\n")
    looked_up = {
        text.value.rpartition(".")[2]
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call) and call.lineno > first
        if getattr(call.func, "id", "") in ("getattr", "_found")
        for text in call.args
        if isinstance(text, ast.Constant) and isinstance(text.value, str)
    }
    assert "_version" in looked_up and looked_up <= NAMES.keys()
