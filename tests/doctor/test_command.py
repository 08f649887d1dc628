"""`python -m fnlib doctor train.py`: the script's own output, exit status and numbers; a report only when there is something to say."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fnlib.ledger.doctor import lookout
from fnlib.ledger.doctor.script import main, record
from fnlib.ledger.recording.recorder import Recorder
from fnlib.teaching.museum import LOOPS
from tests.museum.load import CORRECT, ROOT

BUG = LOOPS / "bugs"
TRAIN = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
for step in range(STEPS):
    optimizer.zero_grad()
    loss = model(torch.randn(8, 4)).pow(2).mean()
    loss.backward()
    optimizer.step()
"""


HEALTHY = (
    "fnlib doctor: recorded 3 optimizer steps of model (Sequential, 4 weights) "
    "and optimizer (Adam): nothing found\n"
)


def script(folder: Path, text: str, steps: int = 3) -> Path:
    path = folder / "train.py"
    path.write_text(text.replace("TRAIN", TRAIN.replace("STEPS", str(steps))), encoding="utf-8")
    return path


def run(*arguments: object, doctor: bool, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(["-m", "fnlib", "doctor"] if doctor else []), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
        **options,
    )


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.long] * (path.stem == "compiled_model"))
        for path in CORRECT
    ],
)
def test_no_false_alarm(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--strict", str(path)]) == 0
    output = capsys.readouterr()
    assert output.out and output.err.startswith("fnlib doctor: recorded ")
    assert output.err.splitlines()[0].endswith(": nothing found"), output.err


@pytest.mark.long
def test_output_status_and_numbers_are_the_scripts_own(tmp_path: Path) -> None:
    path = script(tmp_path, "import sys\nprint(sys.argv, __name__, __file__, sys.path[0])\nprint(input())\nTRAIN\n"
                  "import random\nprint(loss.item().hex(), float(torch.rand(1)).hex(), random.Random(0).random())\n"
                  "print('to stderr', file=sys.stderr)\nsys.exit(3)\n")  # fmt: skip
    alone, watched = (
        run(path, "--rate", "x", doctor=doctor, input="typed\n") for doctor in (False, True)
    )
    assert alone.stdout == watched.stdout and "typed" in alone.stdout
    assert alone.stderr == "to stderr\n"
    assert watched.stderr == f"{alone.stderr}{HEALTHY}"
    assert alone.returncode == watched.returncode == 3


@pytest.mark.long
def test_an_exception_is_the_scripts_own(tmp_path: Path) -> None:
    path = script(tmp_path, "TRAIN\ndef broken():\n    raise ValueError('on purpose')\nbroken()\n")
    alone, watched = (run(path, doctor=doctor) for doctor in (False, True))
    assert alone.returncode == watched.returncode == 1
    assert watched.stderr == f"{alone.stderr}{HEALTHY}"
    assert "ValueError: on purpose" in alone.stderr


@pytest.mark.parametrize(
    ("ending", "status"), [("'a text'", 1), ("7", 7), ("0", 3), ("", 3), ("None", 3)]
)
def test_exit(tmp_path: Path, ending: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(script(tmp_path, f"import sys\nsys.exit({ending})\n"))]) == status
    first, *rest = capsys.readouterr().err.splitlines()
    assert first == "a text" if "text" in ending else not rest
    assert "too little to judge" in [first, *rest][-1]


ARGUMENT = "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--lr', type=float)\nparser.parse_args()\n"
SPAWN = """import multiprocessing, sys
def work(n):
    return n * n, __name__, sys.gettrace() is None
if __name__ == "__main__":
    TRAIN_INSIDE
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(work, [1, 2]))
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("text", "statuses", "says"),
    [
        (ARGUMENT, (2, 2), "usage: train.py [-h] [--lr LR]"),
        (
            SPAWN.replace("TRAIN_INSIDE", "import torch"),
            (0, 3),
            "[(1, '__mp_main__', True), (4, '__mp_main__', True)]",
        ),
    ],
    ids=["a wrong argument", "processes that are spawned"],
)
def test_what_else_scripts_do_is_their_own(
    tmp_path: Path, text: str, statuses: tuple[int, int], says: str
) -> None:
    path = script(tmp_path, text)
    alone, watched = (
        run(path, "--lr", "x", doctor=doctor, cwd=tmp_path) for doctor in (False, True)
    )
    assert alone.stdout == watched.stdout and watched.stderr.startswith(alone.stderr)
    assert says in alone.stdout + alone.stderr
    assert (alone.returncode, watched.returncode) == statuses


@pytest.mark.long
def test_ctrl_c_ends_the_script_as_python_would(tmp_path: Path) -> None:
    done = run(script(tmp_path, "TRAIN\nraise KeyboardInterrupt\n"), doctor=True)
    assert done.returncode == 130 and done.stderr.endswith(f"\nKeyboardInterrupt\n{HEALTHY}")


@pytest.mark.long
def test_a_certain_finding_fails_with_file_and_line() -> None:
    done = run(BUG / "zero_grad_forgotten.py", doctor=True, cwd=ROOT)
    assert done.returncode == 1 and done.stdout == ""
    assert (
        "CERTAIN gradient-used-twice, fnlib/teaching/content/exhibits/bugs/zero_grad_forgotten.py:21, "
        "model.0.weight and 3 more" in done.stderr
    )


def test_questions_fail_only_when_strict(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(BUG / "eval_forgotten.py")
    assert main([path]) == 0
    assert "QUESTION training-mode-without-gradient" in capsys.readouterr().err
    assert main(["--strict", path]) == 1


KEEP = """
import copy, torch
from torch import nn
def fit(model, optimizer, steps):
    for step in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).pow(2).mean().backward()
        optimizer.step()
def main():
    model, other = nn.Linear(4, 2), nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(2):
        fit(model, optimizer, 8)
        best = KEPT
    RESTORE
main()
"""
IN_MODULE = KEEP.replace("def main():\n", "if True:\n").replace("\nmain()\n", "\n")
ENDINGS = {
    "the weights themselves": ("model.state_dict()", "model.load_state_dict(best)", True),
    "in a box": ("{'model': model.state_dict()}", "model.load_state_dict(best['model'])", True),
    "a copy": ("copy.deepcopy(model.state_dict())", "model.load_state_dict(best)", False),
    "into another model": ("model.state_dict()", "other.load_state_dict(best)", False),
    "kept for a file": (
        "model.state_dict()",
        "torch.save(best, __import__('io').BytesIO())",
        False,
    ),
}


@pytest.mark.parametrize("text", [KEEP, IN_MODULE], ids=["function", "module"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_restored_long_after_the_first_steps(
    tmp_path: Path, text: str, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first steps end in the first epoch; the restore comes after the last one."""
    kept, restore, asks = ENDINGS[ending]
    path = script(tmp_path, text.replace("KEPT", kept).replace("RESTORE", restore))
    line = 1 + path.read_text(encoding="utf-8").splitlines().index(f"    {restore}")
    assert main(["--strict", "--steps", "5", str(path)]) == int(asks)
    report = capsys.readouterr().err
    assert (f"QUESTION load-without-effect, {path}:{line}, model" in report) == asks, report
    assert "snapshot-shares-memory" not in report  # the same fault, told once
    left_out = "what ran after 5 optimizer steps (--steps records more), except where"
    assert f"    left out: {left_out}" in report
    assert asks or ": nothing found\n" in report


def test_a_restore_that_the_recording_saw_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = IN_MODULE.replace("KEPT", "model.state_dict()").replace(
        "RESTORE", "fit(model, optimizer, 1)\n    model.load_state_dict(best)"
    )
    path = script(tmp_path, text)
    assert main([str(path)]) == 1
    report = capsys.readouterr().err
    assert "CERTAIN snapshot-moved" in report and "snapshot-shares-memory" not in report


def test_a_functions_variables_go_when_the_script_has_ended(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        KEEP.replace("KEPT", "model.state_dict()").replace(
            "RESTORE", "model.load_state_dict(best)"
        ),
    )
    ledger, limits, _ = record(str(path), [], steps=5)
    assert ledger.failure is None and limits.frames == []
    assert [one.code for one in limits.standing] == ["snapshot-shares-memory"]


@pytest.mark.long
def test_wrong_calls(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nowhere.py"]) == 2
    assert "there is no file nowhere.py" in capsys.readouterr().err
    assert run("-m", "fnlib", doctor=False).returncode == 2
    with pytest.raises(SystemExit):
        main([])


def test_recording_stops_and_the_script_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = script(
        tmp_path,
        "TRAIN\nprint('end', step)\noptimizer.step()\n",
        steps=40,
    )
    assert (
        main(["--steps", "5", str(path)]) == 0
    )  # the step without zero_grad comes too late to be seen
    output = capsys.readouterr()
    assert output.out == "end 39\n"
    assert "recorded 6 optimizer steps" in output.err and "nothing found" in output.err
    assert "left out: what ran after 5 optimizer steps (--steps records more)" in output.err
    assert main(["--steps", "100", str(path)]) == 1
    assert "gradient-used-twice" in capsys.readouterr().err


def test_waiting_ends_when_the_time_is_spent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each event costs an hour here: nothing is traced any more, and the report says so."""
    monkeypatch.setattr(lookout, "EVENT", 3600.0)
    path = script(tmp_path, "TRAIN\nimport sys\nprint(sys.gettrace())\n", steps=40)
    assert main(["--steps", "5", str(path)]) == 0
    output = capsys.readouterr()
    assert output.out == "None\n"
    assert "; stopped recording after " in output.err and "it had cost 24 s" in output.err


def test_beside_a_debugger_the_recording_stops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Waiting would take the debugger's place, so the doctor stops, and gives it back."""

    def debugger(*_: object) -> None:
        return None

    path = script(tmp_path, "TRAIN\nimport sys\nprint(sys.gettrace())\n", steps=40)
    before = sys.gettrace()
    sys.settrace(debugger)
    try:
        assert main(["--steps", "5", str(path)]) == 0
    finally:
        sys.settrace(before)
    output = capsys.readouterr()
    assert "debugger" in output.out
    assert "left out: what ran after 5 optimizer steps (--steps records more)\n" in output.err


def test_it_says_so_when_the_time_was_too_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--seconds", "0", str(script(tmp_path, "TRAIN\n"))]) == 3
    assert "before the first optimizer.step()" in capsys.readouterr().err


def test_loops_in_which_nothing_happens_are_passed_over(tmp_path: Path) -> None:
    words = "def words():\n    table = {}\n    for n in range(3000):\n        table[n % 7] = n\n        n += 1\n    return table\n"
    called = "def key(n):\n    return n % 7\nkeys = [key(n) for n in range(3000)]\nfor n in range(3000):\n    k = key(n)\n"
    path = script(tmp_path, f"{words}{called}words()\nTRAIN\nwords()\noptimizer.step()\n")
    ledger, _, status = record(str(path), [])
    assert (ledger.failure, status) == (None, 0)
    assert [finding.code for finding in ledger.findings] == ["gradient-used-twice"]
    for where in ("words", "key"):
        assert 0 < sum(entry.function == where for entry in ledger.walk()) < 1000, (
            "dull statements were recorded one by one"
        )


def test_code_without_a_file_is_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checked = "import collections.abc\nclass Odd(collections.abc.Mapping):\n    pass\nfor n in range(3):\n    isinstance(n, Odd)\n"
    ledger, _, _ = record(str(script(tmp_path, f"{checked}TRAIN\n")), [])
    assert ledger.failure is None
    assert {Path(entry.file).name for entry in ledger.walk()} == {"train.py"}


def test_a_relative_path_names_the_script_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statements are those of the script that runs, whatever had its name before."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        script(tmp_path / folder, f"import os\nos.chdir('..')\nTRAIN{folder} = step\n")
        ledger, _, status = record("train.py", [])
        assert status == 0
        assert ledger.entries[-1].source == f"{folder} = step"


def test_a_script_leaves_its_text_to_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later program of that name is recorded with its own statements, by a ledger of its own too."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    script(tmp_path / "one", "first = 1\n")
    script(tmp_path / "two", "import fnlib\n\nwith fnlib.Ledger() as ledger:\n    second = [2]\n")
    monkeypatch.chdir(tmp_path / "one")
    record("train.py", [])
    monkeypatch.chdir(tmp_path / "two")
    ledger = runpy.run_path("train.py")["ledger"]
    assert [entry.source for entry in ledger.entries] == ["second = [2]"]


def test_modules_beside_the_script_are_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Record modules beside the script, and no libraries."""
    fit = "def fit(model, optimizer, data):\n    for one in data:\n        model(one).mean().backward()\n        optimizer.step()\n"
    (tmp_path / "loop.py").write_text(fit, encoding="utf-8")
    path = script(
        tmp_path, "TRAIN\nimport loop\nloop.fit(model, optimizer, torch.randn(3, 8, 4))\n"
    )
    assert main([str(path)]) == 1
    assert "loop.py:4" in capsys.readouterr().err
    sys.modules.pop("loop", None)


@pytest.mark.long
def test_workers_that_are_forked_off_are_left_alone(tmp_path: Path) -> None:
    path = script(tmp_path, "TRAIN\nimport sys\nfrom torch.utils.data import DataLoader, Dataset\nclass Numbers(Dataset):\n"
                  "    def __len__(self): return 4\n    def __getitem__(self, at): return at if sys.gettrace() is None else -1\n"
                  "if __name__ == '__main__':\n"
                  "    print([batch.tolist() for batch in DataLoader(Numbers(), 2, num_workers=1)])\n")  # fmt: skip
    done = run(path, doctor=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[[0, 1], [2, 3]]\n", HEALTHY)


def test_nothing_of_the_run_stays_behind(tmp_path: Path) -> None:
    before = sys.modules["__main__"], sys.argv, sys.path, sys.gettrace(), torch.optim.Optimizer.step
    main([str(script(tmp_path, "TRAIN\n"))])
    assert before == (
        sys.modules["__main__"],
        sys.argv,
        sys.path,
        sys.gettrace(),
        torch.optim.Optimizer.step,
    )


def test_a_recording_that_broke_off_is_not_healthy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(self: Recorder, *_: object) -> None:
        if self.limits.steps:
            raise KeyError("on purpose")

    monkeypatch.setattr(Recorder, "_count_loops", count)
    path = script(tmp_path, "TRAIN\nprint(loss.numel())\n")
    assert main([str(path)]) == 3
    output = capsys.readouterr()
    assert output.out == "1\n"
    assert "too little to judge" in output.err.splitlines()[0]
    assert "left out: the recording broke off, with KeyError('on purpose')" in output.err


WAKES = """
import torch
from torch import nn
model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), nn.BatchNorm1d(4), nn.Linear(4, 2))
model[:2].requires_grad_(False)
optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
for epoch in range(2):
    model.train()
    optimizer.zero_grad()
    with torch.no_grad():
        hidden = torch.randn(8, 4)
    model[2](hidden).mean().backward()
    optimizer.step()
"""


def test_a_finding_without_recording_has_the_line_to_look_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = script(tmp_path, WAKES)
    assert main([str(path)]) == 0
    report = capsys.readouterr().err
    first = f"QUESTION frozen-part-in-training-mode, {path}:8, model.0.1 and 1 more"
    assert first in report.splitlines(), report
